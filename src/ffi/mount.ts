import type { Pointer } from "bun:ffi";
import {
  FSCONFIG_CMD_CREATE,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  SYS_fsconfig,
  SYS_fsmount,
  SYS_fsopen,
} from "../uapi/system.ts";
import { explainMissing } from "./capabilities.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { openSystemCalls } from "./libc.ts";
import { architecture } from "./platform.ts";
import { allocateScratch } from "./mapped_memory.ts";

/** The system calls. They are opened on first use, because opening takes time. */
let opened: ReturnType<typeof openCalls> | undefined;

function openCalls() {
  return openSystemCalls({
    fsopen: {
      args: [
        "i64", // long number
        "ptr", // const char *fs_name
        "u32", // unsigned int flags
      ],
      returns: "i32",
    },
    fsconfig: {
      args: [
        "i64", // long number
        "i32", // int fs_fd
        "u32", // unsigned int cmd
        "ptr", // const char *key
        "ptr", // const void *value
        "i32", // int aux
      ],
      returns: "i32",
    },
    fsmount: {
      args: [
        "i64", // long number
        "i32", // int fs_fd
        "u32", // unsigned int flags
        "u32", // unsigned int attr_flags
      ],
      returns: "i32",
    },
  });
}

/**
 * A mount of a new instance of a file system, without a mount point. Until disposal its files are at `path`, for this process
 * only. It requires kernel 5.2 and CAP_SYS_ADMIN.
 */
export class DetachedMount implements Disposable {
  readonly #root: Descriptor;
  readonly #type: string;

  /** @param type the type of file system, as in `mount -t`: `"tracefs"`, `"bpf"` */
  constructor(type: string) {
    this.#type = type;
    using name = allocateScratch(type.length + 1);
    name.bytes.set(Buffer.from(type));
    const address = name.address as Pointer;
    opened ??= openCalls();
    const calls = opened;
    using context = this.#own(
      calls.fsopen(SYS_fsopen[architecture], address, FSOPEN_CLOEXEC),
      "fsopen",
    );
    const created = calls.fsconfig(
      SYS_fsconfig[architecture],
      context.fd,
      FSCONFIG_CMD_CREATE,
      null,
      null,
      0,
    );
    if (created < 0) throw this.#error(lastErrno(), "fsconfig");
    this.#root = this.#own(
      calls.fsmount(SYS_fsmount[architecture], context.fd, FSMOUNT_CLOEXEC, 0),
      "fsmount",
    );
  }

  /** The path of the root, below `/proc/self/fd`. @throws {DisposedError} after disposal. */
  get path(): string {
    return `/proc/self/fd/${this.#root.fd}`;
  }

  /** True after disposal. */
  get disposed(): boolean {
    return this.#root.disposed;
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
          ? `A mount without a mount point needs Linux 5.2: mount ${this.#type} instead (mount -t ${this.#type} ...)`
          : code === "ENODEV"
            ? `The kernel was built without ${this.#type}`
            : undefined;
    return new BpfError({ errno, syscall, doing: `mount ${this.#type}`, hint });
  }

  [Symbol.dispose](): void {
    this.#root[Symbol.dispose]();
  }
}
