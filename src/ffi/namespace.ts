import { openSync } from "./files.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc, otherSyscalls } from "./libc_others.ts";
import { architecture } from "./platform.ts";
import { explainPermission } from "./permission.ts";
import { CLONE_NEWNET, PIDFD_THREAD, SYS_pidfd_open } from "../uapi/system.ts";

/** A kind of namespace that each thread of a process can be in one of its own of. */
export interface NamespaceKind {
  /** For people: `"network namespace"`. */
  readonly name: string;
  /** Below `/proc/thread-self/ns`. */
  readonly file: string;
  /** `CLONE_NEWNET` and the like. */
  readonly flag: number;
  /** The option of the kernel's build without which there are none. */
  readonly config: string;
}

/** Opens the namespace of a kind that this thread is in (kernel 3.17). @throws what `fs.openSync` throws without /proc */
export function openNamespace({ name, file }: NamespaceKind): Descriptor {
  return new Descriptor(openSync(`/proc/thread-self/ns/${file}`, "r"), name);
}

/**
 * Calls a function in a namespace that is made for it, which goes when the last descriptor of it, or of what is in it, is closed.
 *
 * This thread alone is in it, and is back in its own before anything else can run on it. Threads that it starts meanwhile stay in
 * it, as those are that the engine starts when it first collects garbage or compiles: the function has to be short.
 *
 * @param body does all of its work before it returns
 * @returns what it returned
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, or where the way back would be barred; `EINVAL` in a kernel without such namespaces
 * @throws {Error} when this thread cannot get back after all: then nothing is right any more
 */
export function inNewNamespace<Result>(kind: NamespaceKind, body: () => Result): Result {
  using former = openNamespace(kind);
  // To enter where one is changes nothing, and is refused exactly where the way back would be: in a user namespace that does
  // not own this namespace, say, where a new one can be made all the same.
  if (otherLibc.setns(former.fd, kind.flag) < 0) throw namespaceError(kind, "setns", lastErrno());
  if (otherLibc.unshare(kind.flag) < 0) throw namespaceError(kind, "unshare", lastErrno());
  try {
    return body();
  } finally {
    if (otherLibc.setns(former.fd, kind.flag) < 0) {
      throw new Error(`this thread cannot leave the ${kind.name} that was made for a trial`, {
        cause: namespaceError(kind, "setns", lastErrno()),
      });
    }
  }
}

function namespaceError({ name, config }: NamespaceKind, syscall: string, errno: number): BpfError {
  const code = errnoName(errno);
  const hint =
    code === "EPERM"
      ? () => explainPermission(["CAP_SYS_ADMIN"])
      : code === "EINVAL"
        ? `The kernel was built without ${name}s (${config})`
        : undefined;
  return new BpfError({ errno, syscall, doing: `enter a new ${name}`, hint });
}

const kind: NamespaceKind = {
  name: "network namespace",
  file: "net",
  flag: CLONE_NEWNET,
  config: "CONFIG_NET_NS",
};

/** Opens the network namespace that this thread is in. @throws as {@link openNamespace} does */
export function openNetworkNamespace(): Descriptor {
  return openNamespace(kind);
}

/**
 * Calls a function in a network namespace that is made for it: with no interface but a loopback that is down.
 *
 * @throws as {@link inNewNamespace} does
 */
export function inNewNetworkNamespace<Result>(body: () => Result): Result {
  return inNewNamespace(kind, body);
}

const pidfdOpenNumber = SYS_pidfd_open[architecture] ?? -1;

/** What the kernel answers for the id of a thread that is not its process's first: 6.15 and later, and before. */
const notFirstThread: readonly string[] = ["ENOENT", "EINVAL"];

const hints: Readonly<Record<string, string>> = {
  ESRCH: "No process has this number: it has ended, or the number is of another pid namespace",
  EINVAL: "The number is of a thread that is not its process's first: that takes kernel 6.9",
  ENOSYS: "Descriptors of processes need kernel 5.3",
};

/**
 * Opens a descriptor of a process by its id (kernel 5.3), or of one thread of a process by the thread's (kernel 6.9).
 *
 * @throws {BpfError} `ESRCH` when there is no such process or thread
 */
export function openPidfd(id: number): Descriptor {
  let fd = otherSyscalls.pidfd_open(pidfdOpenNumber, id, 0);
  if (fd < 0 && notFirstThread.includes(errnoName(lastErrno()))) {
    fd = otherSyscalls.pidfd_open(pidfdOpenNumber, id, PIDFD_THREAD);
  }
  if (fd < 0) {
    const errno = lastErrno();
    const hint = hints[errnoName(errno)];
    throw new BpfError({ errno, syscall: "pidfd_open", doing: `open process ${id}`, hint });
  }
  return new Descriptor(fd, `process ${id}`);
}
