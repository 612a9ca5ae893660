import { openSync } from "node:fs";
import { CLONE_NEWNET } from "../uapi/sched.ts";
import { explainPermission } from "./permission.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";

/** Each thread of a process can be in a network namespace of its own. */
const ofThisThread = "/proc/thread-self/ns/net";

/** Opens the network namespace that this thread is in (kernel 3.17). @throws what `fs.openSync` throws without /proc */
export function openNetworkNamespace(): Descriptor {
  return new Descriptor(openSync(ofThisThread, "r"), "network namespace");
}

/**
 * Calls a function in a network namespace that is made for it: with no interface but a loopback that is down. It goes, with
 * everything that was made in it, when the last descriptor of it or of what is in it is closed.
 *
 * This thread alone is in it, and is back in its own before anything else can run on it.
 *
 * @param body does all of its work before it returns
 * @returns what it returned
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, or where the way back would be barred; `EINVAL` in a kernel without
 *   network namespaces
 * @throws {Error} when this thread cannot get back after all: then nothing is right any more
 */
export function inNewNetworkNamespace<Result>(body: () => Result): Result {
  using former = openNetworkNamespace();
  // To enter where one is changes nothing, and is refused exactly where the way back would be: in a user namespace that does
  // not own this network namespace, say, where a new one can be made all the same.
  if (libc.setns(former.fd, CLONE_NEWNET) < 0) throw namespaceError("setns", lastErrno());
  if (libc.unshare(CLONE_NEWNET) < 0) throw namespaceError("unshare", lastErrno());
  try {
    return body();
  } finally {
    if (libc.setns(former.fd, CLONE_NEWNET) < 0) {
      throw new Error("this thread cannot leave the network namespace that was made for a trial", {
        cause: namespaceError("setns", lastErrno()),
      });
    }
  }
}

function namespaceError(syscall: string, errno: number): BpfError {
  const code = errnoName(errno);
  const hint =
    code === "EPERM"
      ? explainPermission(["CAP_SYS_ADMIN"])
      : code === "EINVAL"
        ? "The kernel was built without network namespaces (CONFIG_NET_NS)"
        : undefined;
  return new BpfError({ errno, syscall, doing: "enter a new network namespace", hint });
}
