/** @module Attaches to sockets: filters of their packets, and programs that select a socket of a group with one port (SO_REUSEPORT). */

import { setSocketOption } from "../ffi/socket.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { fstatSync } from "../ffi/files.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import type { AttachKindRow, AttachMethod } from "./attach_method.ts";
import { Attachment, type AttachmentOperations } from "./attachment.ts";
import { HeldProgram, notAttached } from "./held_program.ts";
import type { Link, LinkedProgram } from "./link.ts";
import type { SocketAttachmentInfo } from "./link_info.ts";

/** Options of `attach()` for the sections `socket`, `sk_reuseport` and `sk_reuseport/migrate`. */
export interface SocketOptions {
  /**
   * The socket: a descriptor, or an object that has one as `fd`, such as a socket of `Bun.listen` or `Bun.udpSocket`. The
   * attachment keeps a duplicate of the descriptor, so that the socket stays open until the attachment is disposed of.
   */
  readonly socket: FdLike;
}

/** A pair of socket options, and their texts. */
interface SocketHook {
  readonly attach: "SO_ATTACH_BPF" | "SO_ATTACH_REUSEPORT_EBPF";
  readonly detach: "SO_DETACH_BPF" | "SO_DETACH_REUSEPORT_BPF";
  /** The attachment in messages. */
  readonly noun: string;
  readonly type: SocketAttachmentInfo["type"];
  readonly hints: BpfCallContext["hints"] & object;
  readonly detachHints: BpfCallContext["hints"] & object;
}

const commonHints = {
  ENOTSOCK: "The descriptor is not a socket",
  EBADF: "No file is open at that descriptor",
  ENOMEM:
    "The program does not fit into the memory for options of the socket: raise net.core.optmem_max",
} as const;
const locked =
  "The filter of the socket is locked (SO_LOCK_FILTER), or a capability is missing that the program needs";

const filter: SocketHook = {
  attach: "SO_ATTACH_BPF",
  detach: "SO_DETACH_BPF",
  noun: "socket filter",
  type: "socket",
  hints: { ...commonHints, EPERM: locked },
  detachHints: { EPERM: locked },
};

const reuseport: SocketHook = {
  attach: "SO_ATTACH_REUSEPORT_EBPF",
  detach: "SO_DETACH_REUSEPORT_BPF",
  noun: "reuseport program",
  type: "sk_reuseport",
  hints: {
    ...commonHints,
    EINVAL:
      "The socket does not share its port: set SO_REUSEPORT before it is bound (reusePort: true of Bun.listen)",
  },
  detachHints: {
    ENOPROTOOPT: "Detaching a reuseport program needs Linux 5.3: close the sockets of the group",
  },
};

/**
 * Attaches a filter to a socket (kernel 3.19). It returns the number of bytes to keep of each packet, 0 to drop it. A socket has
 * one filter: a new one takes the place of the previous one.
 *
 * The kernel does not report which program is the filter of a socket. Disposal removes the filter, unless this process has
 * attached another one with bun-bpf since then; a filter that was set in another way is removed.
 */
export const socketFilter: AttachMethod<SocketOptions> = methodOf(filter);

/**
 * Attaches a program that selects the socket for a packet among all sockets that share a port (kernel 4.19). It belongs to the
 * whole group, and stays until it is detached or the last socket of the group is closed.
 *
 * The kernel does not report which program a group has. Disposal removes it, unless this process has attached another one
 * through the same socket since then. Detaching needs Linux 5.3.
 */
export const socketGroup: AttachMethod<SocketOptions> = methodOf(reuseport);

function methodOf(hook: SocketHook): AttachMethod<SocketOptions> {
  return {
    options: ["socket"],
    attach: ({ program, options }) => attach(hook, program, options.socket),
  };
}

function attach(hook: SocketHook, program: LinkedProgram, option: FdLike): Link {
  const fd = fdOf(option, 'a socket as option "socket"');
  const what = `${hook.noun} of the socket of descriptor ${fd}`;
  using opened = new DisposableStack();
  const socket = opened.use(new Descriptor(duplicate(fd, what), what));
  const operations = new SocketOperations(hook, socket, program);
  opened.adopt(operations, () => operations.close());
  const attachment = new Attachment(socket, operations);
  opened.move();
  return attachment;
}

/** The latest operations by socket and hook: the key has the inode number, which is unique while the socket is open. */
const latest = new Map<string, SocketOperations>();

class SocketOperations implements AttachmentOperations {
  readonly #hook: SocketHook;
  readonly #socket: Descriptor;
  readonly #key: string;
  #program: HeldProgram;

  constructor(hook: SocketHook, socket: Descriptor, program: LinkedProgram) {
    this.#hook = hook;
    this.#socket = socket;
    this.#key = `${hook.attach} ${fstatSync(socket.fd).ino}`;
    this.#program = this.#set(program, `attach the ${socket.what}`);
  }

  /** Sets the program of the socket, and returns it with a descriptor of its own. */
  #set(program: LinkedProgram, doing: string): HeldProgram {
    using opened = new DisposableStack();
    const copy = opened.use(new HeldProgram(program));
    const { hints, attach: option } = this.#hook;
    setSocketOption(this.#socket.fd, option, copy.fd, { doing, hints });
    latest.set(this.#key, this);
    opened.move();
    return copy;
  }

  info(): SocketAttachmentInfo {
    const programId = this.#program.id;
    return { id: 0, programId, type: this.#hook.type, inode: fstatSync(this.#socket.fd).ino };
  }

  detach(): void {
    if (latest.get(this.#key) !== this) return;
    const { detach: option, detachHints: hints } = this.#hook;
    try {
      setSocketOption(this.#socket.fd, option, 0, {
        doing: `detach the ${this.#socket.what}`,
        hints,
      });
    } catch (error) {
      // The program was detached by other means.
      if (!(error instanceof BpfError) || error.code !== "ENOENT") throw error;
    }
    latest.delete(this.#key);
  }

  update(program: LinkedProgram, expected: LinkedProgram | undefined): void {
    const previous = this.#program;
    const doing = `replace the program of the ${this.#socket.what}`;
    const call = { doing, syscall: `setsockopt(${this.#hook.attach})` };
    previous.requireExpected(expected, call);
    previous.requireSameType(program, call);
    if (latest.get(this.#key) !== this) {
      throw notAttached(call, "Another attachment has replaced the program of the socket");
    }
    this.#program = this.#set(program, doing);
    previous[Symbol.dispose]();
  }

  close(): void {
    if (latest.get(this.#key) === this) latest.delete(this.#key);
    this.#program[Symbol.dispose]();
  }
}

const sockets = { config: ["CONFIG_NET", "CONFIG_INET"], place: "socket" } as const;

/** The ways to attach in this file, as `features` lists them. */
export const socketKinds = {
  socket: { since: "3.19", ...sockets, needs: ["CAP_BPF"], section: "socket" },
  sk_reuseport: {
    since: "4.19",
    ...sockets,
    needs: ["CAP_BPF", "CAP_NET_ADMIN"],
    section: "sk_reuseport",
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
