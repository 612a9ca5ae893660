import type { Pointer } from "bun:ffi";
import {
  FSCONFIG_CMD_CREATE,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  syscallNumbers,
} from "../uapi/system.ts";
import { explainMissing } from "./capabilities.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { syscalls } from "./libc.ts";
import { architecture } from "./platform.ts";
import { allocateScratch } from "./mapped_memory.ts";

const numbers = syscallNumbers[architecture];

/**
 * A mount of a file system without a mount point: its files are at `path`, for this process only, until disposal
 * (kernel 5.2, CAP_SYS_ADMIN).
 */
export class DetachedMount implements Disposable {
  readonly #root: Descriptor;
  readonly #type: string;

  /** @param type as in `mount -t`: `"tracefs"`, `"bpf"` */
  constructor(type: string) {
    this.#type = type;
    using name = allocateScratch(type.length + 1);
    name.bytes.set(Buffer.from(type));
    const address = name.address as Pointer;
    using context = this.#own(syscalls.fsopen(numbers.fsopen, address, FSOPEN_CLOEXEC), "fsopen");
    const created = syscalls.fsconfig(
      numbers.fsconfig,
      context.fd,
      FSCONFIG_CMD_CREATE,
      null,
      null,
      0,
    );
    if (created < 0) throw this.#error(lastErrno(), "fsconfig");
    this.#root = this.#own(
      syscalls.fsmount(numbers.fsmount, context.fd, FSMOUNT_CLOEXEC, 0),
      "fsmount",
    );
  }

  /** Where its root is, by way of this process's descriptors. @throws {DisposedError} after disposal */
  get path(): string {
    return `/proc/self/fd/${this.#root.fd}`;
  }

  #own(fd: number, syscall: string): Descriptor {
    if (fd < 0) throw this.#error(lastErrno(), syscall);
    return new Descriptor(fd, `${this.#type} mount`);
  }

  #error(errno: number, syscall: string): BpfError {
    const code = errnoName(errno);
    const hint =
      code === "EPERM"
        ? explainMissing(["CAP_SYS_ADMIN"])
        : code === "ENOSYS"
          ? `A private mount needs kernel 5.2: mount it instead (mount -t ${this.#type} ...)`
          : code === "ENODEV"
            ? `The kernel was built without ${this.#type}`
            : undefined;
    return new BpfError({ errno, syscall, doing: `mount ${this.#type}`, hint });
  }

  [Symbol.dispose](): void {
    this.#root[Symbol.dispose]();
  }
}
