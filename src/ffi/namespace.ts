import { openSync } from "node:fs";
import { explainPermission } from "./permission.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";

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
  if (libc.setns(former.fd, kind.flag) < 0) throw namespaceError(kind, "setns", lastErrno());
  if (libc.unshare(kind.flag) < 0) throw namespaceError(kind, "unshare", lastErrno());
  try {
    return body();
  } finally {
    if (libc.setns(former.fd, kind.flag) < 0) {
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
      ? explainPermission(["CAP_SYS_ADMIN"])
      : code === "EINVAL"
        ? `The kernel was built without ${name}s (${config})`
        : undefined;
  return new BpfError({ errno, syscall, doing: `enter a new ${name}`, hint });
}
