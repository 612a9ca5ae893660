// Reads the read-only memory of a ring in compiled code: positions and records while it is open, and a view after disposal.
// Prints "survived". It runs as a child, because a failure ends the process.
import { asm, Program, RingBuf, t } from "../../../src/index.ts";

const ring = new RingBuf({ size: 65_536, event: t.u64Number });
using program = new Program({
  section: "socket",
  license: "GPL",
  maps: { ring },
  code: [
    asm.stdw(asm.fp, -8, 42),
    asm.ldMap(asm.r1, "ring"),
    asm.mov(asm.r2, asm.fp),
    asm.add(asm.r2, -8),
    asm.mov(asm.r3, 8),
    asm.mov(asm.r4, 0),
    asm.call("ringbuf_output"),
    asm.mov(asm.r0, 0),
    asm.exit(),
  ],
});

const data = new Uint8Array(14);
let kept: DataView | undefined;
let received = 0;

// Reads the positions in a loop that is compiled. Reading must not write.
for (let i = 0; i < 200_000; i++) received += ring.backlog;
for (let round = 0; round < 100; round++) {
  for (let i = 0; i < 20; i++) program.testRun({ data });
  for (let i = 0; i < 1000; i++) {
    ring.drainRaw((view, offset, length) => {
      kept = view;
      received += length === 8 && view.getUint32(offset, true) === 42 ? 1 : 1_000_000;
    });
    received += ring.backlog;
  }
}
if (received !== 2000) throw new Error(`received ${received} instead of 2000`);

const view = kept;
if (view === undefined) throw new Error("no view was kept");
function read(offset: number): number {
  return (view as DataView).getUint32(offset, true);
}
let sum = 0;
for (let i = 0; i < 120_000; i++) sum += read((i & 7) * 16 + 8);
if (sum !== 120_000 * 42) throw new Error(`summed up to ${sum}`);
const bytes = new Uint8Array(view.buffer);
Bun.gc(true);
ring[Symbol.dispose]();
Bun.gc(true);
let refusals = 0;
for (let i = 0; i < 1000; i++) {
  try {
    read(8);
  } catch {
    refusals++;
  }
}
if (refusals !== 1000) throw new Error(`${1000 - refusals} of 1000 reads of a DataView passed`);
for (let i = 0; i < 120_000; i++) {
  if (bytes[i & 1023] !== undefined) throw new Error("a byte was read after disposal");
}
console.log("survived");
