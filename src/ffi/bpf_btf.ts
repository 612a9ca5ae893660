import { BPF_F_TOKEN_FD } from "../uapi/bpf.ts";
import { BPF_BTF_LOAD } from "../uapi/commands.ts";
import { BTF_INFO, BTF_LOAD } from "../uapi/layout.ts";
import { BpfAttr } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError } from "./error.ts";
import { bufferedInfo, nextObjectId, objectInfo, openById } from "./bpf_object.ts";

/** The largest MODULE_NAME_LEN of the supported kernels, in bytes. */
const maxNameLength = 64;

/**
 * Loads the BTF of a program or a map into the kernel (kernel 4.18).
 *
 * @param tokenFd the descriptor of a BPF token whose privileges the load uses (kernel 6.9)
 */
export function loadBtf(bytes: Uint8Array, what: string, tokenFd?: number): Descriptor {
  using attr = new BpfAttr(tokenFd === undefined ? BTF_LOAD.btf_log_level : BTF_LOAD.sizeof);
  if (tokenFd !== undefined) {
    attr.u32(BTF_LOAD.btf_flags, BPF_F_TOKEN_FD).u32(BTF_LOAD.btf_token_fd, tokenFd);
  }
  // The bytes may be of a subclass of Uint8Array whose `length` changes, so they are copied before their length is used.
  const copy = new Uint8Array(bytes);
  attr.u32(BTF_LOAD.btf_size, copy.length);
  attr.memory(BTF_LOAD.btf, copy);
  const fd = attr.call(BPF_BTF_LOAD, {
    doing: `load the ${what}`,
    hints: { EINVAL: "The kernel rejects these types, or is older than Linux 4.18" },
  });
  return new Descriptor(fd, what);
}

/** The contents of a BTF object in the kernel. */
export interface BtfObject {
  /** The raw BTF. */
  readonly bytes: Uint8Array;
  /** True for the BTF of the kernel and of modules (kernel 5.11). */
  readonly isKernel: boolean;
  /** `"vmlinux"` for the kernel, the name of a module, otherwise empty (kernel 5.11). */
  readonly name: string;
}

/** The properties of a BTF object in the kernel. */
export interface BtfInfo {
  /** The kernel's id. */
  readonly id: number;
  /** `"vmlinux"` for the kernel, the name of a module, otherwise empty (kernel 5.11). */
  readonly name: string;
  /** True for the BTF of the kernel and of modules (kernel 5.11). */
  readonly isKernel: boolean;
  /** Size of the raw BTF in bytes. */
  readonly size: number;
}

/** Reads the properties of the BTF object of a descriptor (kernel 4.18). */
export function readBtfInfo(fd: number, what: string): BtfInfo {
  using sizes = objectInfo(fd, BTF_INFO.sizeof, what);
  // Kernels before 5.11 have no names for BTF objects, and reject a buffer for a name.
  const isNamed = sizes.has(BTF_INFO.name);
  const elements = isNamed ? maxNameLength : 0;
  using info = bufferedInfo(fd, BTF_INFO.sizeof, what, [
    { pointer: BTF_INFO.name, count: BTF_INFO.name_len, elements, elementSize: 1 },
  ]);
  return {
    id: info.u32(BTF_INFO.id),
    name: isNamed ? info.text(BTF_INFO.name) : "",
    isKernel: isNamed && info.u32(BTF_INFO.kernel_btf) !== 0,
    size: info.u32(BTF_INFO.btf_size),
  };
}

/** Reads the contents of the BTF object of a descriptor (kernel 4.18). */
export function readBtfObject(fd: number, what: string): BtfObject {
  using sizes = objectInfo(fd, BTF_INFO.sizeof, what);
  const name = {
    pointer: BTF_INFO.name,
    count: BTF_INFO.name_len,
    elements: sizes.has(BTF_INFO.name) ? maxNameLength : 0,
    elementSize: 1,
  } as const;
  const data = {
    pointer: BTF_INFO.btf,
    count: BTF_INFO.btf_size,
    elements: sizes.u32(BTF_INFO.btf_size),
    elementSize: 1,
  } as const;
  using info = bufferedInfo(fd, BTF_INFO.sizeof, what, [name, data]);
  return {
    bytes: info.bytes(BTF_INFO.btf),
    isKernel: info.u32(BTF_INFO.kernel_btf) !== 0,
    name: name.elements === 0 ? "" : info.text(BTF_INFO.name),
  };
}

/**
 * Opens the BTF of a loaded module (kernel 5.11), which needs CAP_SYS_ADMIN; `undefined` if the kernel has none of that name.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN.
 */
export function openModuleBtf(module: string): Descriptor | undefined {
  // The kernel finds BTF by id only.
  for (let id = nextObjectId("btf", 0); id !== undefined; id = nextObjectId("btf", id)) {
    let fd: number;
    try {
      fd = openById("btf", id);
    } catch (error) {
      // The BTF was freed meanwhile.
      if (error instanceof BpfError && error.code === "ENOENT") continue;
      throw error;
    }
    const descriptor = new Descriptor(fd, `BTF of the module ${module}`);
    try {
      const { isKernel, name } = readBtfInfo(fd, descriptor.what);
      if (isKernel && name === module) return descriptor;
    } catch (error) {
      descriptor[Symbol.dispose]();
      throw error;
    }
    descriptor[Symbol.dispose]();
  }
  return undefined;
}
