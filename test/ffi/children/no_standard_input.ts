// Closes descriptor 0, so that the next opened file gets that number, then creates objects and prints their descriptors as JSON.
import { closeSync, readdirSync, readlinkSync } from "node:fs";
import { ArrayMap, asm, HashMap, Program, RingBuf, t } from "../../../src/index.ts";

closeSync(0);
using hash = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
using array = new ArrayMap({ value: t.u32, length: 1 });
using ring = new RingBuf({ size: 65_536, event: t.u32 });
using dup = hash.dup();
using byId = HashMap.fromId(hash.id, { key: t.u32, value: t.u32 });
using program = new Program({
  section: "socket",
  license: "GPL",
  code: [asm.mov(asm.r0, 0), asm.exit()],
});
hash.set(1, 1);
const open = readdirSync("/proc/self/fd").map(Number);
const bpf = open.filter((fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).includes("bpf");
  } catch {
    // The descriptor of the directory listing is closed already.
    return false;
  }
});
const works =
  byId.get(1) === 1 && dup.get(1) === 1 && array.get(0) === 0 && ring.byteLength === 65_536;
console.log(JSON.stringify({ bpf, works, program: program.fd }));
