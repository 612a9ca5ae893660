import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Maximum age of a cached result: new packages are published every few weeks. */
const lifetimeMs = 7 * 24 * 3600 * 1000;

/**
 * Returns the result that an earlier call has written to a file, if it is less than a week old and still valid; otherwise makes
 * it again.
 *
 * @param isValid returns true if the files that a cached result names still exist
 */
export async function cached<T>(
  path: string,
  isValid: (made: T) => boolean,
  make: () => Promise<T>,
): Promise<T> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats !== undefined && Date.now() - stats.mtimeMs < lifetimeMs) {
    const made = JSON.parse(readFileSync(path, "utf8")) as T;
    if (isValid(made)) return made;
  }
  const made = await make();
  mkdirSync(dirname(path), { recursive: true });
  // The file is renamed at the end, so that an interruption leaves no incomplete one.
  const part = `${path}.${process.pid}.part`;
  writeFileSync(part, JSON.stringify(made));
  renameSync(part, path);
  return made;
}
