import { bpf } from "../../src/ffi/bpf.ts";
import { lastErrno } from "../../src/ffi/error.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import { BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM } from "../../src/uapi/commands.ts";
import { MAP_ELEM } from "../../src/uapi/layout.ts";

/** Makes calls on an empty hash map (u32 to u32) that fail for four reasons in turn. Returns the number of wrong errnos. */
export function wrongErrnos(fd: number, calls: number): number {
  using memory = allocateScratch(128);
  const { view, address } = memory;
  view.setBigUint64(MAP_ELEM.key, BigInt(address + 64), true);
  view.setBigUint64(MAP_ELEM.value, BigInt(address + 72), true);
  let wrong = 0;
  let garbage: object = {};
  for (let i = 0; i < calls; i++) {
    const reason = i & 3;
    view.setUint32(MAP_ELEM.map_fd, reason === 0 ? 0x7ffffff0 : fd, true);
    view.setUint32(MAP_ELEM.flags, reason === 2 ? 255 : reason === 3 ? 2 : 0, true);
    const command = reason >= 2 ? BPF_MAP_UPDATE_ELEM : BPF_MAP_LOOKUP_ELEM;
    const result = bpf(command, address, MAP_ELEM.sizeof);
    const errno = lastErrno();
    // An invalid descriptor; an absent key; invalid flags; an absent key to replace.
    const expected = reason === 0 ? 9 : reason === 2 ? 22 : 2;
    if (result !== -1 || errno !== expected) wrong++;
    garbage = { garbage: i & 15 ? garbage : undefined };
  }
  return wrong;
}
