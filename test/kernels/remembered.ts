import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** New packages come every few weeks. */
const lifetime = 7 * 24 * 3600 * 1000;

/**
 * What was made last time and written to a file, where that is younger than a week and still there; else what is made now.
 *
 * @param isThere whether the files that it names are
 */
export async function remembered<T>(
  path: string,
  isThere: (made: T) => boolean,
  make: () => Promise<T>,
): Promise<T> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats !== undefined && Date.now() - stats.mtimeMs < lifetime) {
    const made = JSON.parse(readFileSync(path, "utf8")) as T;
    if (isThere(made)) return made;
  }
  const made = await make();
  mkdirSync(dirname(path), { recursive: true });
  // Whole or not at all, should this be broken off.
  const part = `${path}.${process.pid}.part`;
  writeFileSync(part, JSON.stringify(made));
  renameSync(part, path);
  return made;
}
