import { openSync } from "node:fs";
import { Descriptor } from "../ffi/descriptor.ts";
import { describe } from "../types/refusal.ts";
import { O_PATH } from "../uapi/fcntl.ts";

/**
 * Opens what is at a path without the right to read it, and without the effects that opening a device or a named pipe has:
 * the kernel takes such a descriptor for the object itself.
 *
 * @param flags more of those of open(2)
 * @throws {TypeError} when it is no path; and what `fs.openSync` throws: `ENOENT` when nothing is there
 */
export function openOwner(path: string, flags = 0): Descriptor {
  if (path === "" || path.includes("\0")) {
    throw new TypeError(`expected a path, got ${describe(path)}`);
  }
  return new Descriptor(openSync(path, O_PATH | flags), path);
}
