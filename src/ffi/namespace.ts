import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { fstatSync, openSync, similarFile, statSync } from "./files.ts";
import { Descriptor, duplicate } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc, otherSyscalls } from "./libc_others.ts";
import { architecture } from "./platform.ts";
import { explainPermission } from "./permission.ts";
import { CLONE_NEWNET, PIDFD_THREAD, SYS_pidfd_open } from "../uapi/system.ts";

/** A namespace type that can differ between the threads of a process. */
export interface NamespaceKind {
  /** The name in errors: `"network namespace"`. */
  readonly name: string;
  /** The name of the file in `/proc/thread-self/ns`. */
  readonly file: string;
  /** The flag for unshare(2) and setns(2), such as CLONE_NEWNET. */
  readonly flag: number;
  /** The build option of the kernel that enables the type. */
  readonly config: string;
}

/** Opens this thread's namespace of a type (kernel 3.17). @throws {Error} of `fs.openSync` if /proc is not mounted. */
function openNamespace({ name, file }: NamespaceKind): Descriptor {
  return new Descriptor(openSync(`/proc/thread-self/ns/${file}`, "r"), name);
}

/**
 * Calls a function in a new namespace. The namespace ends when the last descriptor of it, and of the objects in it, is closed.
 *
 * Only this thread enters the namespace, and it returns to its previous one before other code can run on the thread. Threads
 * that are started meanwhile stay in the new namespace. The JavaScript engine starts threads when it first collects garbage
 * or compiles, so the function has to be short.
 *
 * @param body a synchronous function
 * @returns the result of `body`
 * @throws {BpfError} EPERM if CAP_SYS_ADMIN is missing for the new or for the present namespace; `body` was not called.
 * @throws {BpfError} EINVAL if the kernel lacks the namespace type.
 * @throws {Error} if the thread is still in the new namespace after `body`: the process should end then.
 */
export function inNewNamespace<Result>(kind: NamespaceKind, body: () => Result): Result {
  const unshare = () => otherLibc.unshare(kind.flag);
  return inOtherNamespace(
    kind,
    { syscall: "unshare", doing: `enter a new ${kind.name}`, call: unshare },
    body,
  );
}

/** A system call that moves this thread to another namespace. */
interface Entry {
  readonly syscall: string;
  /** The operation, as it follows "cannot" in the message. */
  readonly doing: string;
  /** Makes the call, and returns -1 on failure. */
  call(): number;
}

function inOtherNamespace<Result>(kind: NamespaceKind, entry: Entry, body: () => Result): Result {
  using previous = openNamespace(kind);
  const back = {
    syscall: "setns",
    doing: `return to the ${kind.name} of this thread`,
    call: () => otherLibc.setns(previous.fd, kind.flag),
  };
  // Entering the present namespace changes nothing, but shows that the later return will succeed. This call fails, for
  // example, in a user namespace that does not own the present namespace, although the process may create a new one there.
  if (back.call() < 0) throw namespaceError(kind, { ...entry, syscall: "setns" }, lastErrno());
  if (entry.call() < 0) throw namespaceError(kind, entry, lastErrno());
  try {
    return body();
  } finally {
    if (back.call() < 0) {
      throw new Error(`this thread cannot return from a temporary ${kind.name} to its own`, {
        cause: namespaceError(kind, back, lastErrno()),
      });
    }
  }
}

function namespaceError(
  { name, config }: NamespaceKind,
  { syscall, doing }: Entry,
  errno: number,
): BpfError {
  const code = errnoName(errno);
  const hint =
    code === "EPERM"
      ? () => explainPermission(["CAP_SYS_ADMIN"])
      : code !== "EINVAL"
        ? undefined
        : syscall === "unshare"
          ? `The kernel was built without ${name}s (${config})`
          : `The file is not a ${name}, such as /proc/PID/ns/net or those of \`ip netns\` in /run/netns`;
  return new BpfError({ errno, syscall, doing, hint });
}

const kind: NamespaceKind = {
  name: "network namespace",
  file: "net",
  flag: CLONE_NEWNET,
  config: "CONFIG_NET_NS",
};

/** Opens this thread's network namespace. @throws {Error} as {@link openNamespace} does. */
export function openNetworkNamespace(): Descriptor {
  return openNamespace(kind);
}

/**
 * Calls a function in a new network namespace, whose only interface is a loopback that is down.
 *
 * @throws {BpfError} as {@link inNewNamespace} does.
 */
export function inNewNetworkNamespace<Result>(body: () => Result): Result {
  return inNewNamespace(kind, body);
}

/**
 * A network namespace: the path of a file that refers to it (`/run/netns/blue` of `ip netns`), the id of a process that is in
 * it, or a descriptor of it.
 */
export type Netns =
  | string
  | number
  | {
      /** The descriptor of the namespace. */
      readonly fd: number;
    };

/**
 * Opens a network namespace. A descriptor is duplicated.
 *
 * @throws {BpfError} ENOENT if there is no such file or process.
 * @throws {TypeError | RangeError} if the argument is neither a path, nor a process id, nor an object with a descriptor.
 */
export function openNetns(netns: Netns): Descriptor {
  if (typeof netns === "string" && netns !== "" && !netns.includes("\0")) {
    return openNetnsFile(netns, `network namespace ${netns}`);
  }
  if (typeof netns === "number") {
    checkCount("netns", netns, 1);
    return openNetnsFile(`/proc/${netns}/ns/net`, `network namespace of process ${netns}`, true);
  }
  if (typeof netns !== "object" || netns === null || typeof netns.fd !== "number") {
    throw new TypeError(
      `netns: expected a path, a process id or an object with a descriptor as fd, got ${describe(netns)}`,
    );
  }
  checkCount("netns: a descriptor", netns.fd, 0);
  const what = `network namespace of descriptor ${netns.fd}`;
  return new Descriptor(duplicate(netns.fd, what), what);
}

/** @param isOfProcess true for the path of a process that was given by its id */
function openNetnsFile(path: string, what: string, isOfProcess = false): Descriptor {
  try {
    return new Descriptor(openSync(path, "r"), what);
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    if (error instanceof BpfError || code === undefined) throw error;
    throw new BpfError({
      errno: Math.abs(errno),
      syscall: "open",
      doing: `open the ${what}`,
      hint: () => explainNetnsFile(path, code, isOfProcess),
    });
  }
}

function explainNetnsFile(path: string, code: string, isOfProcess: boolean): string | undefined {
  if (code === "EACCES") {
    return `This user may not open ${path.startsWith("/proc/") ? "namespaces of the process" : "the file"}: run as root (sudo -E)`;
  }
  if (code !== "ENOENT") return undefined;
  if (isOfProcess)
    return "No process has this id: it has ended, or the id is one of another PID namespace";
  const similar = similarFile(path);
  return `The file does not exist: ${similar ?? "`ip netns add NAME` creates namespaces as /run/netns/NAME"}`;
}

/**
 * Calls a function in a network namespace, as {@link inNewNamespace} does in a new one. If this thread is in that namespace
 * already, no capability is needed.
 *
 * @param fd a descriptor of the namespace
 * @throws {BpfError} EPERM if CAP_SYS_ADMIN is missing for either namespace, EINVAL if the descriptor is that of something
 *   else; `body` was not called.
 */
export function inNetworkNamespace<Result>(fd: number, body: () => Result): Result {
  const present = statSync(`/proc/thread-self/ns/${kind.file}`);
  const wanted = fstatSync(fd);
  // Files of other file systems can have the same inode number.
  if (wanted.ino === present.ino && wanted.dev === present.dev) return body();
  const setns = () => otherLibc.setns(fd, kind.flag);
  return inOtherNamespace(
    kind,
    { syscall: "setns", doing: "enter the network namespace", call: setns },
    body,
  );
}

const pidfdOpenNumber = SYS_pidfd_open[architecture] ?? -1;

/** Errors for the id of a thread that is not the main thread of its process: ENOENT since kernel 6.15, EINVAL before. */
const notMainThread: readonly string[] = ["ENOENT", "EINVAL"];

const hints: Readonly<Record<string, string>> = {
  ESRCH: "No process has this id: it has ended, or the id is one of another PID namespace",
  EINVAL:
    "The id is that of a thread that is not the main thread of its process, which needs Linux 6.9",
  ENOSYS: "Descriptors of processes (pidfds) need Linux 5.3",
};

/**
 * Opens a pidfd of a process by its id (kernel 5.3), or of a single thread by its thread id (kernel 6.9).
 *
 * @throws {BpfError} ESRCH if no process or thread has the id.
 */
export function openPidfd(id: number): Descriptor {
  let fd = otherSyscalls.pidfd_open(pidfdOpenNumber, id, 0);
  if (fd < 0 && notMainThread.includes(errnoName(lastErrno()))) {
    fd = otherSyscalls.pidfd_open(pidfdOpenNumber, id, PIDFD_THREAD);
  }
  if (fd < 0) {
    const errno = lastErrno();
    const hint = hints[errnoName(errno)];
    throw new BpfError({ errno, syscall: "pidfd_open", doing: `open process ${id}`, hint });
  }
  return new Descriptor(fd, `process ${id}`);
}
