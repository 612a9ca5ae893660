import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** New packages come every few weeks. */
const lifetime = 7 * 24 * 3600 * 1000;

/** What was made last time and written to a file, where that is younger than a week; else what is made now. */
export async function remembered<T>(path: string, make: () => Promise<T>): Promise<T> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats !== undefined && Date.now() - stats.mtimeMs < lifetime) {
    return JSON.parse(readFileSync(path, "utf8")) as T;
  }
  const made = await make();
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(made));
  return made;
}
