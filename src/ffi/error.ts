import { type Pointer, read } from "bun:ffi";
import { libc } from "./libc.ts";
import { platformObstacle } from "./platform.ts";
import { EMFILE, ENFILE, ENOTSUPP, errnoNames } from "../uapi/errno.ts";

const errnoAddress: Pointer =
  platformObstacle === undefined ? (libc.__errno_location() as Pointer) : (0 as Pointer);

/** Why the last call of this thread failed. Valid only straight after that call: anything in between may call libc. */
export function lastErrno(): number {
  return read.i32(errnoAddress, 0);
}

let names: readonly string[] | undefined;

/** Split for the first error: most processes have none. */
function allNames(): readonly string[] {
  return (names ??= errnoNames.split(" "));
}

/** The name of an error of the kernel, as in `errno.h`: `"EPERM"` for 1. `ENOTSUPP` is not there, but bpf(2) returns it. */
export function errnoName(errno: number): string {
  if (errno === ENOTSUPP) return "ENOTSUPP";
  const name = allNames()[errno] ?? "-";
  return name === "-" ? `errno ${errno}` : name;
}

/** Returns the number of an error by its name; -1 for an unknown name. */
export function errnoNumber(name: string): number {
  return name === "ENOTSUPP" ? ENOTSUPP : allNames().indexOf(name);
}

/** The usual sentence for an error: `"operation not permitted"`. Empty where there is none. */
export function errnoDescription(errno: number): string {
  if (errno === ENOTSUPP) return "operation is not supported";
  // Loaded for an error that there is, as it takes milliseconds.
  const { getSystemErrorMap } = process.getBuiltinModule("node:util");
  return getSystemErrorMap().get(-errno)?.[1] ?? "";
}

/** Names of errors for a lack of descriptors or memory: they concern this process or the machine, not what was asked for. */
export const shortages: ReadonlySet<string> = /*@__PURE__*/ new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/** Returns the remedy where no descriptor was left; `undefined` for any other error. */
export function explainNoDescriptor(errno: number): string | undefined {
  return errno === EMFILE || errno === ENFILE
    ? `Close some, or raise the limit of ${errno === EMFILE ? "this process (ulimit -n)" : "the machine (fs.file-max)"}`
    : undefined;
}

/** What a {@link BpfError} is made from. */
export interface BpfErrorOptions {
  readonly errno: number;
  /** The call that failed, with its command: `"bpf(BPF_MAP_CREATE)"`. */
  readonly syscall: string;
  /** What was being done, to follow "cannot": `"create the hash map counts"`. */
  readonly doing: string;
  /** The likely cause and the remedy, or a function that finds them. */
  readonly hint?: string | (() => string | undefined) | undefined;
}

/**
 * A refusal by the kernel.
 *
 * The message is one line that says what could not be done, which call failed how, and what helps; the parts are
 * properties as well.
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
  override readonly name: string = "BpfError";
  /** The kernel's name for the error: `"EPERM"`. */
  readonly code: string;
  /** The kernel's number for the error: `1`. */
  readonly errno: number;
  /** The call that failed, with its command: `"bpf(BPF_MAP_CREATE)"`. */
  readonly syscall: string;
  /** The likely cause and the remedy, where one is known. */
  readonly hint: string | undefined;

  constructor({ errno, syscall, doing, hint }: BpfErrorOptions) {
    let explained: string | undefined;
    try {
      explained = (typeof hint === "function" ? hint() : hint) ?? explainNoDescriptor(errno);
    } catch (error) {
      // The explanation may need to open a file, which can fail too: the original error is still the one to report.
      explained = `The reason is not known: ${(error as Error).message}`;
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

/**
 * What a method of a disposed object throws, always the same way.
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
  override readonly name: string = "DisposedError";
  constructor(what: string) {
    super(`${what} is disposed: it cannot be used any more`);
  }
}
