import { PIDFD_THREAD } from "../uapi/pidfd.ts";
import { syscallNumbers } from "../uapi/syscalls.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { syscalls } from "./libc.ts";
import { architecture } from "./platform.ts";

const pidfdOpenNumber = syscallNumbers[architecture]?.pidfd_open ?? -1;

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
  let fd = syscalls.pidfd_open(pidfdOpenNumber, id, 0);
  if (fd < 0 && notFirstThread.includes(errnoName(lastErrno()))) {
    fd = syscalls.pidfd_open(pidfdOpenNumber, id, PIDFD_THREAD);
  }
  if (fd < 0) {
    const errno = lastErrno();
    const hint = hints[errnoName(errno)];
    throw new BpfError({ errno, syscall: "pidfd_open", doing: `open process ${id}`, hint });
  }
  return new Descriptor(fd, `process ${id}`);
}
