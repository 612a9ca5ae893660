import { expect } from "bun:test";
import { asm, Program, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { packet, Producer } from "./producer.ts";

const { r0, r1, r2, r3 } = asm;
const size = 64 * 1024 * 1024;
const longest = size / 4;

/**
 * Returns a program that reserves a quarter of the ring and discards it. That moves positions fast: to write records takes
 * longer.
 */
function passer(ring: RingBuf<t.Type<unknown>>): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    maps: { ring },
    code: [
      asm.ldMap(r1, "ring"),
      asm.mov(r2, longest - 8),
      asm.mov(r3, 0),
      asm.call("ringbuf_reserve"),
      asm.jeq(r0, 0, "full"),
      asm.mov(r1, r0),
      asm.mov(r2, 0),
      asm.call("ringbuf_discard"),
      asm.mov(r0, 0),
      asm.exit(),
      asm.label("full"),
      asm.mov(r0, 1),
      asm.exit(),
    ],
  });
}

bpfTest("a ring works beyond 2^31 and 2^32 bytes, with every kind of consumer", async () => {
  using ring = new RingBuf({ size, event: t.struct({ value: t.u32 }) });
  using producer = new Producer(ring);
  using program = passer(ring);
  let written = 0;
  let next = 0;
  const seen = (value: number) => expect(value).toBe(next++);
  const put = () => {
    for (let count = 0; count < 3; count++) expect(producer.putNumber(written++)).toBe(true);
  };
  // Three quarters per round: the numbered records leave no room for a fourth.
  for (let round = 0; ring.stats.bytes < 2 ** 32 + size; round++) {
    put();
    for (let run = 0; run < 3; run++) program.testRun({ data: packet });
    put();
    const way = round % 4;
    if (way === 0) ring.drain(({ value }) => seen(value));
    if (way === 1) ring.drain(({ value }) => seen(value), { inPlace: true });
    if (way === 2) {
      for await (const { value } of ring) {
        seen(value);
        if (next === written) break;
      }
    }
    if (way === 3) {
      for await (const batch of ring.batches({ inPlace: true })) {
        for (const { value } of batch) seen(value);
        if (next === written) break;
      }
    }
    expect(ring.backlog).toBe(0);
  }
  expect(next).toBe(written);
  expect(ring.stats.discarded).toBeGreaterThan(250);
});
