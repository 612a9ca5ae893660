import { type Pointer, read } from "bun:ffi";
import { libc } from "./libc.ts";
import { platformObstacle } from "./platform.ts";
import { EMFILE, ENFILE, ENOTSUPP, errnoNames } from "../uapi/errno.ts";

const errnoAddress: Pointer =
  platformObstacle === undefined ? (libc.__errno_location() as Pointer) : (0 as Pointer);

/**
 * Returns the errno of this thread's last libc call that failed. Read it directly after that call: any other code may call libc.
 */
export function lastErrno(): number {
  return read.i32(errnoAddress, 0);
}

let names: readonly string[] | undefined;

/** Returns the names of errors by number. The list is split on the first error, because most processes have none. */
function allNames(): readonly string[] {
  return (names ??= errnoNames.split(" "));
}

/**
 * Returns the name of an error number, as in `errno.h`: `"EPERM"` for 1. `ENOTSUPP` is not in this header, but bpf(2) returns
 * it.
 */
export function errnoName(errno: number): string {
  if (errno === ENOTSUPP) return "ENOTSUPP";
  const name = allNames()[errno] ?? "-";
  return name === "-" ? `errno ${errno}` : name;
}

/** Returns the number of an error name; -1 for an unknown name. */
export function errnoNumber(name: string): number {
  return name === "ENOTSUPP" ? ENOTSUPP : allNames().indexOf(name);
}

/** Returns the description of an error number: `"operation not permitted"`; an empty string where there is none. */
export function errnoDescription(errno: number): string {
  if (errno === ENOTSUPP) return "operation is not supported";
  // The module is loaded only when an error occurs, because loading takes milliseconds.
  const { getSystemErrorMap } = process.getBuiltinModule("node:util");
  return getSystemErrorMap().get(-errno)?.[1] ?? "";
}

/**
 * Names of the errors for too few file descriptors or too little memory. Their cause is the process or the machine, not the call.
 */
export const resourceErrors: ReadonlySet<string> = /*@__PURE__*/ new Set([
  "EMFILE",
  "ENFILE",
  "ENOMEM",
]);

/** Returns the remedy for EMFILE and ENFILE, where no file descriptor is left; `undefined` for any other error. */
export function explainNoDescriptor(errno: number): string | undefined {
  return errno === EMFILE || errno === ENFILE
    ? `Close open files, or raise the limit of ${errno === EMFILE ? "this process (ulimit -n)" : "the machine (fs.file-max)"}`
    : undefined;
}

/** Options of {@link BpfError}. */
export interface BpfErrorOptions {
  /** The number of the error, above 0. */
  readonly errno: number;
  /** The call that failed, with its command: `"bpf(BPF_MAP_CREATE)"`. */
  readonly syscall: string;
  /** The operation that failed, as it follows "cannot" in the message: `"create the hash map counts"`. */
  readonly doing: string;
  /** The likely cause and the remedy, or a function that returns them. */
  readonly hint?: string | (() => string | undefined) | undefined;
}

/**
 * An error that the kernel returned.
 *
 * The message is one line: the operation that failed, the system call, the error, and the likely cause with its remedy. All but
 * the operation are also properties.
 *
 * @example
 * ```ts
 * import { BpfError, HashMap, t } from "bun-bpf";
 * try {
 *   using counts = new HashMap({ key: t.u32, value: t.u64, maxEntries: 1024 });
 *   console.log(`created map ${counts.id}`);
 * } catch (error) {
 *   if (!(error instanceof BpfError) || error.code !== "EPERM") throw error;
 *   console.error(error.hint);
 * }
 * ```
 */
export class BpfError extends Error {
  /** The name of the class. */
  override readonly name: string = "BpfError";
  /** The name of the error: `"EPERM"`. */
  readonly code: string;
  /** The number of the error: `1`. */
  readonly errno: number;
  /** The call that failed, with its command: `"bpf(BPF_MAP_CREATE)"`. */
  readonly syscall: string;
  /** The likely cause and the remedy, or `undefined` where none is known. */
  readonly hint: string | undefined;

  constructor({ errno, syscall, doing, hint }: BpfErrorOptions) {
    let explained: string | undefined;
    try {
      explained = (typeof hint === "function" ? hint() : hint) ?? explainNoDescriptor(errno);
    } catch (error) {
      // The explanation may have to open a file, which can fail too. The original error is still the one to report.
      explained = `The cause could not be determined: ${(error as Error).message}`;
    }
    const code = errnoName(errno);
    const description = errnoDescription(errno);
    super(
      `cannot ${doing}: ${syscall}: ${code}${description && ` (${description})`}${explained === undefined ? "" : `. ${explained}`}`,
    );
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    this.hint = explained;
  }
}

/** Calls a function. Returns `undefined` if it fails with one of the given errors, by errno name. */
export function ignoreErrors<Result>(
  codes: readonly string[],
  call: () => Result,
): Result | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof BpfError && codes.includes(error.code)) return undefined;
    throw error;
  }
}

/**
 * The error that every method of a disposed object throws.
 *
 * @example
 * ```ts
 * import { HashMap, DisposedError, t } from "bun-bpf";
 * const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
 * map[Symbol.dispose]();
 * try {
 *   map.get(1);
 * } catch (error) {
 *   console.log(error instanceof DisposedError); // true
 * }
 * ```
 */
export class DisposedError extends Error {
  /** The name of the class. */
  override readonly name: string = "DisposedError";
  constructor(what: string) {
    super(`${what} is disposed: it cannot be used any more`);
  }
}
