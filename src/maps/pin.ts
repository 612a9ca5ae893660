import { unlinkSync } from "node:fs";
import { pinObject } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { checkPinPath } from "./spec.ts";

/** The path at which an object is pinned, as far as this process knows: maps, programs and links are pinned alike. */
export class Pin {
  #path: string | undefined;

  /** @param path where the object was pinned or opened already */
  constructor(path?: string) {
    this.#path = path;
  }

  /** Pins an object, and remembers where. @throws {DisposedError | TypeError | BpfError} */
  pin({ fd, what }: Descriptor, path: string): void {
    checkPinPath("path", path);
    pinObject(fd, path, what);
    this.#path = path;
  }

  /**
   * Removes a pin, by default the one that is remembered, and forgets it.
   *
   * @throws {TypeError} when no path is known; and what `fs.unlinkSync` throws
   */
  unpin(descriptor: Descriptor, path: string | undefined = this.#path): void {
    // Asked for its error after disposal only.
    void descriptor.fd;
    if (path === undefined) {
      throw new TypeError(`${descriptor.what} was not pinned here: give unpin() the path`);
    }
    checkPinPath("path", path);
    unlinkSync(path);
    if (path === this.#path) this.#path = undefined;
  }
}
