import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { DetachedMount } from "../ffi/mount.ts";

/**
 * A BPF file system of this process's own, without a mount point: pins in it are seen by nobody else, and are gone with it.
 * For tests, and for machines where /sys/fs/bpf is not mounted.
 *
 * Kernel 5.2, CAP_SYS_ADMIN. What is pinned in it stays alive until it is disposed of.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, `ENOSYS` before kernel 5.2
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
 */
export class BpfFileSystem implements Disposable {
  readonly #mount = new DetachedMount("bpf");

  /** Its root, a path for this process (and those that it tells its process id). @throws {DisposedError} after disposal */
  get path(): string {
    return this.#mount.path;
  }

  /** @internal Shows its data in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show(
      "BpfFileSystem",
      this.#mount.disposed ? { disposed: true } : { path: this.path },
      inspection,
    );
  }

  /** Gives the file system up: what is only pinned there is freed. A second call does nothing. */
  [Symbol.dispose](): void {
    this.#mount[Symbol.dispose]();
  }
}
