import { BTF_LOAD } from "../uapi/layout.ts";
import { BpfAttr } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";

/** Gives the kernel type information of a program or a map (kernel 4.18). */
export function loadBtf(bytes: Uint8Array, what: string): Descriptor {
  using attr = new BpfAttr(BTF_LOAD.btf_log_level);
  attr.u32(BTF_LOAD.btf_size, bytes.byteLength);
  attr.memory(BTF_LOAD.btf, bytes);
  const fd = attr.call("BPF_BTF_LOAD", {
    doing: `load the ${what}`,
    hints: { EINVAL: "The kernel does not take these types, or is older than 4.18" },
  });
  return new Descriptor(fd, what);
}
