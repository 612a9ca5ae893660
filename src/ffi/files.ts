/**
 * @module Functions of `node:fs`. The first call of a function loads `node:fs`, because loading takes half as long as
 * starting Bun. No other file of the library imports `node:fs`.
 *
 * The functions throw the errors of `node:fs`. EMFILE and ENFILE, the errors for a lack of descriptors, become a
 * {@link BpfError} with a hint.
 */
import type * as Files from "node:fs";
import { suggestion } from "../check/names.ts";
import { BpfError, explainNoDescriptor } from "./error.ts";

function load(): typeof Files {
  return process.getBuiltinModule("node:fs");
}

function deferred<Name extends keyof typeof Files>(name: Name): (typeof Files)[Name] {
  const call = (...args: unknown[]): unknown => {
    try {
      return (load()[name] as (...args: unknown[]) => unknown)(...args);
    } catch (error) {
      const { errno = 0, syscall = "", path } = error as NodeJS.ErrnoException;
      throw explainNoDescriptor(-errno) === undefined
        ? error
        : new BpfError({ errno: -errno, syscall, doing: `open ${path}` });
    }
  };
  return call as unknown as (typeof Files)[Name];
}

export const closeSync = /*@__PURE__*/ deferred("closeSync");
export const existsSync = /*@__PURE__*/ deferred("existsSync");
export const fstatSync = /*@__PURE__*/ deferred("fstatSync");
export const lstatSync = /*@__PURE__*/ deferred("lstatSync");
export const mkdirSync = /*@__PURE__*/ deferred("mkdirSync");
export const openSync = /*@__PURE__*/ deferred("openSync");
export const readFileSync = /*@__PURE__*/ deferred("readFileSync");
export const readdirSync = /*@__PURE__*/ deferred("readdirSync");
export const readlinkSync = /*@__PURE__*/ deferred("readlinkSync");
export const rmdirSync = /*@__PURE__*/ deferred("rmdirSync");
export const statSync = /*@__PURE__*/ deferred("statSync");
export const unlinkSync = /*@__PURE__*/ deferred("unlinkSync");
export const writeSync = /*@__PURE__*/ deferred("writeSync");

/** Flags of open(2). Some of them differ between architectures. */
export const constants = {
  get O_RDONLY(): number {
    return load().constants.O_RDONLY;
  },
  get O_DIRECTORY(): number {
    return load().constants.O_DIRECTORY;
  },
  get O_NOFOLLOW(): number {
    return load().constants.O_NOFOLLOW;
  },
  get O_NONBLOCK(): number {
    return load().constants.O_NONBLOCK;
  },
};

/**
 * Returns a question about the name of a file that does not exist, `did you mean "blue"?`; `undefined` if its directory has
 * no similar name.
 *
 * @param isCandidate returns true for entries that can be meant
 */
export function similarFile(
  path: string,
  isCandidate: (entry: Files.Dirent) => boolean = () => true,
): string | undefined {
  const { basename, dirname } = process.getBuiltinModule("node:path");
  try {
    const entries = readdirSync(dirname(path), { withFileTypes: true });
    return suggestion(
      basename(path),
      entries.filter(isCandidate).map(({ name }) => name),
    );
  } catch {
    // The caller reports another error, for which the name is only a hint.
    return undefined;
  }
}
