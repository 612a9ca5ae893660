import type { Pointer } from "bun:ffi";
import {
  IORING_ENTER_GETEVENTS,
  IORING_FEAT_CQE_SKIP,
  IORING_FEAT_NODROP,
  IORING_FEAT_SINGLE_MMAP,
  IORING_OFF_SQES,
  IORING_OFF_SQ_RING,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_OP_SEND,
  IORING_SQ_CQ_OVERFLOW,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_LINK,
  POLLIN,
  SYS_io_uring_enter,
  SYS_io_uring_setup,
} from "../uapi/system.ts";
import { IO_URING_CQE, IO_URING_PARAMS, IO_URING_SQE } from "../uapi/layout.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { isKernelSince } from "./kernel.ts";
import { otherSyscalls } from "./libc_others.ts";
import { architecture } from "./platform.ts";
import { allocateScratch, MappedMemory, type Scratch, setUint64 } from "./mapped_memory.ts";
import { sendWithoutBlocking } from "./socket.ts";

const what = "io_uring instance";
/**
 * The size of the submission queue. It does not limit the number of pending polls: each poll is submitted at once, and its
 * slot is then free again.
 */
const submissionEntries = 64;
/** The open instances of this thread. */
const openRings = new Set<IoUring>();

/**
 * Returns true if this thread has an io_uring instance. When a poll completes, the kernel interrupts the system call of the
 * thread, like a signal that cannot be blocked.
 */
export function mayInterruptCalls(): boolean {
  return openRings.size > 0;
}

/** The number of retries of a submission that fails with EBUSY because the queue of completions is full. */
const maxBusyRetries = 16;

/**
 * The part of io_uring that can wake an event loop: a poll of any descriptor, linked to the sending of one byte to a socket.
 *
 * While nothing happens, it needs no thread and makes no system call. `userData` is a safe integer above 0.
 */
export class IoUring implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #rings: MappedMemory;
  readonly #entries: MappedMemory;
  /** The byte that is sent. Its address is in the submissions. */
  readonly #payload: Scratch;
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #submissions: DataView;
  readonly #completions: DataView;
  readonly #skipsSuccess: boolean;
  readonly #submissionTail: number;
  readonly #submissionMask: number;
  readonly #submissionFlags: number;
  readonly #submissionArray: number;
  readonly #completionHead: number;
  readonly #completionTail: number;
  readonly #completionMask: number;
  readonly #completionsOffset: number;
  #pending = 0;
  /** The `userData` of completed polls that {@link reap} has not returned yet. */
  #completed: number[] = [];
  /** The list that {@link reap} returned last. The two lists are used in turn, so that a wake-up does not allocate one. */
  #reaped: number[] = [];

  /**
   * @throws {BpfError} if io_uring is forbidden (seccomp, `kernel.io_uring_disabled`) or absent.
   * @throws {Error} if the kernel is older than 5.5.
   */
  constructor() {
    using params = allocateScratch(IO_URING_PARAMS.sizeof);
    const fd = otherSyscalls.io_uring_setup(
      SYS_io_uring_setup[architecture],
      submissionEntries,
      params.address as Pointer,
    );
    if (fd < 0) throw setupError(lastErrno());
    this.#descriptor = new Descriptor(fd, what);
    const param = (offset: number) => params.view.getUint32(offset, true);
    const features = param(IO_URING_PARAMS.features);
    const needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
    if ((features & needed) !== needed) {
      this.#descriptor[Symbol.dispose]();
      throw new Error("io_uring needs Linux 5.5: earlier kernels can drop completions");
    }
    this.#skipsSuccess = (features & IORING_FEAT_CQE_SKIP) !== 0;

    const sqEntries = param(IO_URING_PARAMS.sq_entries);
    const cqEntries = param(IO_URING_PARAMS.cq_entries);
    this.#submissionArray = param(IO_URING_PARAMS.sq_off_array) / 4;
    this.#completionsOffset = param(IO_URING_PARAMS.cq_off_cqes);
    const ringBytes = Math.max(
      param(IO_URING_PARAMS.sq_off_array) + sqEntries * 4,
      this.#completionsOffset + cqEntries * IO_URING_CQE.sizeof,
    );
    let rings: MappedMemory | undefined;
    try {
      rings = this.#map(IORING_OFF_SQ_RING, ringBytes);
      this.#entries = this.#map(IORING_OFF_SQES, sqEntries * IO_URING_SQE.sizeof);
    } catch (error) {
      rings?.[Symbol.dispose]();
      this.#descriptor[Symbol.dispose]();
      throw error;
    }
    this.#rings = rings;
    this.#words = new Int32Array(this.#rings.buffer, 0, Math.floor(ringBytes / 4));
    this.#completions = new DataView(this.#rings.buffer);
    this.#submissions = new DataView(this.#entries.buffer);
    this.#submissionTail = param(IO_URING_PARAMS.sq_off_tail) / 4;
    this.#submissionFlags = param(IO_URING_PARAMS.sq_off_flags) / 4;
    this.#completionHead = param(IO_URING_PARAMS.cq_off_head) / 4;
    this.#completionTail = param(IO_URING_PARAMS.cq_off_tail) / 4;
    this.#submissionMask = this.#words[param(IO_URING_PARAMS.sq_off_ring_mask) / 4] as number;
    this.#completionMask = this.#words[param(IO_URING_PARAMS.cq_off_ring_mask) / 4] as number;
    this.#payload = allocateScratch(1);
    openRings.add(this);
    try {
      // A seccomp profile may allow io_uring_setup and forbid io_uring_enter: the constructor should fail then, not the first
      // wait.
      this.#enter(0, 0);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #map(offset: number, length: number): MappedMemory {
    const { fd } = this.#descriptor;
    return MappedMemory.ofFile({ fd, offset, length, writable: true, what });
  }

  /**
   * Starts a poll that completes once, when the descriptor is readable: {@link reap} returns `userData`, and a byte is sent to
   * `socket`.
   */
  pollAndSend(fd: number, userData: number, socket: number): void {
    const poll = this.#next();
    const view = this.#submissions;
    view.setUint8(poll + IO_URING_SQE.opcode, IORING_OP_POLL_ADD);
    view.setUint8(poll + IO_URING_SQE.flags, IOSQE_IO_LINK);
    view.setInt32(poll + IO_URING_SQE.fd, fd, true);
    view.setUint32(poll + IO_URING_SQE.poll32_events, POLLIN, true);
    setUint64(view, poll + IO_URING_SQE.user_data, userData);

    const send = this.#next();
    view.setUint8(send + IO_URING_SQE.opcode, IORING_OP_SEND);
    view.setUint8(send + IO_URING_SQE.flags, this.#skipsSuccess ? IOSQE_CQE_SKIP_SUCCESS : 0);
    view.setInt32(send + IO_URING_SQE.fd, socket, true);
    setUint64(view, send + IO_URING_SQE.addr, this.#payload.address);
    view.setUint32(send + IO_URING_SQE.len, 1, true);
    // If the socket is full, the event loop has not consumed earlier wake-ups yet: the failure does not matter.
    view.setUint32(send + IO_URING_SQE.msg_flags, sendWithoutBlocking, true);
    this.#submit();
  }

  /** Cancels a poll, so that {@link reap} does not return it. A pending poll keeps the descriptor's file open. */
  cancelPoll(userData: number): void {
    const at = this.#next();
    const view = this.#submissions;
    view.setUint8(at + IO_URING_SQE.opcode, IORING_OP_POLL_REMOVE);
    view.setInt32(at + IO_URING_SQE.fd, -1, true);
    setUint64(view, at + IO_URING_SQE.addr, userData);
    this.#submit();
    // No byte is sent for the completion of a cancelled poll, so reap() might not be called and completions would accumulate
    // in the kernel. Other completions are kept for reap(), which is called when the event loop receives their bytes.
    this.#collect();
    const index = this.#completed.indexOf(userData);
    if (index !== -1) this.#completed.splice(index, 1);
  }

  /** Returns the `userData` of each poll that has completed since the last call. The list is valid until the next call. */
  reap(): readonly number[] {
    this.#collect();
    const completed = this.#completed;
    this.#completed = this.#reaped;
    this.#completed.length = 0;
    this.#reaped = completed;
    return completed;
  }

  /** Empties the kernel's queue of completions. */
  #collect(): void {
    const words = this.#words;
    for (;;) {
      let head = words[this.#completionHead] as number;
      const tail = Atomics.load(words, this.#completionTail);
      if (head === tail) {
        if ((Atomics.load(words, this.#submissionFlags) & IORING_SQ_CQ_OVERFLOW) === 0) return;
        this.#enter(0, IORING_ENTER_GETEVENTS);
        continue;
      }
      while (head !== tail) {
        const at = this.#completionsOffset + (head & this.#completionMask) * IO_URING_CQE.sizeof;
        const userData = this.#completions.getUint32(at + IO_URING_CQE.user_data, true);
        const upper = this.#completions.getUint32(at + IO_URING_CQE.user_data + 4, true);
        head = (head + 1) | 0;
        Atomics.store(words, this.#completionHead, head);
        // Completions of sends and cancellations have the `userData` 0.
        if (userData !== 0 || upper !== 0) this.#completed.push(upper * 0x1_0000_0000 + userData);
      }
    }
  }

  /** Returns the offset of the next submission, which is zeroed. */
  #next(): number {
    const index =
      ((this.#words[this.#submissionTail] as number) + this.#pending) & this.#submissionMask;
    this.#pending++;
    this.#words[this.#submissionArray + index] = index;
    const at = index * IO_URING_SQE.sizeof;
    for (let word = 0; word < IO_URING_SQE.sizeof; word += 4) {
      this.#submissions.setUint32(at + word, 0, true);
    }
    return at;
  }

  #submit(): void {
    const count = this.#pending;
    this.#pending = 0;
    Atomics.add(this.#words, this.#submissionTail, count);
    this.#enter(count, 0);
  }

  #enter(submitted: number, flags: number): void {
    let left = submitted;
    let busy = 0;
    do {
      const result = otherSyscalls.io_uring_enter(
        SYS_io_uring_enter[architecture],
        this.#descriptor.fd,
        left,
        0,
        flags,
        null,
        0,
      );
      if (result >= 0) {
        left -= result;
        continue;
      }
      const errno = lastErrno();
      const code = errnoName(errno);
      if (code === "EINTR") continue;
      // Kernels 5.5 to 5.13 reject submissions while completions that do not fit into the completion queue are pending.
      if (code === "EBUSY" && left > 0 && busy++ < maxBusyRetries) {
        this.#collect();
        continue;
      }
      // Submissions that the kernel did not accept must not be part of the next call.
      Atomics.sub(this.#words, this.#submissionTail, left);
      throw new BpfError({ errno, syscall: "io_uring_enter", doing: "wait for a descriptor" });
    } while (left > 0);
  }

  [Symbol.dispose](): void {
    if (this.#descriptor.disposed) return;
    openRings.delete(this);
    this.#descriptor[Symbol.dispose]();
    this.#rings[Symbol.dispose]();
    this.#entries[Symbol.dispose]();
    this.#payload[Symbol.dispose]();
  }
}

function setupError(errno: number): BpfError {
  return new BpfError({
    errno,
    syscall: "io_uring_setup",
    doing: "set up io_uring",
    hint: setupHint(errnoName(errno)),
  });
}

/** Returns the cause and the remedy for a failed set-up. */
function setupHint(code: string): string | undefined {
  switch (code) {
    case "EPERM":
      return "A seccomp filter or the sysctl kernel.io_uring_disabled forbids it: allow io_uring_setup in the container's seccomp profile, or set the sysctl to 0";
    case "ENOSYS":
      return "The kernel is older than Linux 5.1 or was built without CONFIG_IO_URING, or a seccomp filter returns this error: use a kernel that has io_uring, or allow io_uring_setup in the container's seccomp profile";
    case "ENOMEM":
      // Since kernel 5.12 the memory of an instance counts in the memory cgroup.
      return isKernelSince("5.12")
        ? "The kernel or this process's memory cgroup has no memory left for it: free some, or raise memory.max of the cgroup"
        : "Before Linux 5.12 instances count towards RLIMIT_MEMLOCK, together with all other memory that this user has locked: run with `ulimit -l unlimited`, or give the process CAP_IPC_LOCK; or the kernel has no memory left: free some";
    default:
      return undefined;
  }
}
