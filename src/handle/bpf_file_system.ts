import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { reloadDisposers } from "./reload.ts";

/**
 * A private BPF file system without a mount point. Other processes do not see its pins. Disposal removes the pins.
 *
 * It is useful in tests, and on machines where /sys/fs/bpf is not mounted. It requires CAP_SYS_ADMIN.
 *
 * @throws {BpfError} EPERM if CAP_SYS_ADMIN is missing.
 * @throws {BpfError} ENOSYS before Linux 5.2.
 *
 * @example
 * ```ts
 * import { BpfFileSystem, HashMap, t } from "bun-bpf";
 * using bpffs = new BpfFileSystem();
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8 });
 * map.pin(`${bpffs.path}/counts`);
 * using again = HashMap.open(`${bpffs.path}/counts`, map.types);
 * console.log(again.id === map.id); // true
 * ```
 *
 * Requires Linux 5.2.
 */
export class BpfFileSystem implements Disposable {
  readonly #mount = new DetachedMount("bpf");

  /** Mounts a new BPF file system, which is empty. */
  constructor() {
    reloadDisposers?.set(this, () => this[Symbol.dispose]());
  }

  /**
   * The path of the root directory, in /proc/self/fd: it is valid in this process only. @throws {DisposedError} after disposal
   */
  get path(): string {
    return this.#mount.path;
  }

  /** @internal Returns the text for `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show(
      "BpfFileSystem",
      this.#mount.disposed ? { disposed: true } : { path: this.path },
      inspection,
    );
  }

  /** Removes the file system with its pins: objects without other references are freed. A second call does nothing. */
  [Symbol.dispose](): void {
    reloadDisposers?.delete(this);
    this.#mount[Symbol.dispose]();
  }
}
