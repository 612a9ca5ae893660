import { unlinkSync } from "node:fs";
import { pinObject } from "./bpf_object.ts";

/** The path at which an object is pinned, as far as this process knows: maps, programs and links are pinned alike. */
export class Pin {
  #path: string | undefined;

  /** @param path where the object was pinned or opened already */
  constructor(path?: string) {
    this.#path = path;
  }

  /** Where {@link unpin} looks when it is told nothing. */
  get path(): string | undefined {
    return this.#path;
  }

  /** Pins the object behind `fd`, and remembers where. @throws {BpfError} */
  pin(fd: number, path: string, what: string): void {
    pinObject(fd, path, what);
    this.#path = path;
  }

  /** Removes a pin, and forgets it. @throws what `fs.unlinkSync` throws */
  unpin(path: string): void {
    unlinkSync(path);
    if (path === this.#path) this.#path = undefined;
  }
}
