import { expect, test } from "bun:test";
import { RingBuf, t } from "../../src/index.ts";
import { RingReader } from "../../src/ring/reader.ts";
import { FakeRing } from "./fake_ring.ts";
import { Producer } from "./producer.ts";
import { mapTest } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const children = `${import.meta.dir}/children`;
const everything = Number.MAX_SAFE_INTEGER;
const cannotBeRead =
  "cannot be read any more: the ArrayBuffer of a view of its memory was transferred (by postMessage, structuredClone or transfer())";

for (const [kind, define] of [
  ["record", mapTest("user_ringbuf")],
  ["encoder", mapTest("user_ringbuf")],
  ["ring", bpfTest],
  ["perf", bpfTest],
  ["array", bpfTest],
  ["arena", mapTest("arena")],
  ["codec", bpfTest],
] as const) {
  define(`transferred memory stays accessible after all disposals: ${kind}`, async () => {
    const runs = ["transfer", "clone", "message"].map((way) =>
      runBun([`${children}/given_away.ts`, kind, way], { timeout: 30_000 }),
    );
    for (const ended of await Promise.all(runs)) {
      expect(ended).toMatchObject({ exitCode: 0, signalCode: null });
      expect(ended.stdout).toEndWith("survived\n");
    }
  });
}

for (const kind of ["ring", "perf"]) {
  bpfTest(
    `a subscription to a ${kind} whose view was transferred ends with one error`,
    async () => {
      const child = `${children}/given_away_in_subscription.ts`;
      const { stdout, stderr } = await runBun([child, kind], { timeout: 30_000 });
      expect(stderr).toBe("");
      const { messages, numbers, active, events, backlog, again, rest } = JSON.parse(stdout);
      expect(messages).toEqual([expect.stringContaining(cannotBeRead)]);
      expect(numbers).toEqual([0, 1, 2]);
      expect(active).toBe(false);
      expect(events).toBe(3);
      expect(backlog).toBe(0);
      expect(again).toContain(cannotBeRead);
      // Undelivered events can be read by another object.
      if (kind === "ring") expect(rest).toEqual([3, 4, 5, 6, 7, 8, 9]);
    },
  );
}

bpfTest(
  "each consumer of a ring whose view was transferred ends with one error and allows other consumers",
  async () => {
    for (const consume of [
      (ring: RingBuf<t.Type<number>>) => ring.drain(() => {}),
      async (ring: RingBuf<t.Type<number>>) => {
        for await (const _ of ring);
      },
      async (ring: RingBuf<t.Type<number>>) => {
        for await (const _ of ring.batches());
      },
      async (ring: RingBuf<t.Type<number>>) => {
        for await (const _ of ring.stream());
      },
    ]) {
      const event = t.custom<number>({
        size: 4,
        read(view, offset) {
          const value = view.getUint32(offset, true);
          if (value === 2) (view.buffer as ArrayBuffer).transfer().transfer(0);
          return value;
        },
        write: () => {},
      });
      using ring = new RingBuf({ size: 4096, event });
      using producer = new Producer(ring);
      for (let value = 0; value < 5; value++) {
        if (value === 1 || value === 3) producer.discard();
        producer.putNumber(value);
      }
      let message = "no error";
      try {
        await consume(ring);
      } catch (error) {
        ({ message } = error as Error);
      }
      expect(message).toContain(cannotBeRead);
      // The ended consumer does not cause the error "has a consumer already".
      expect(() => ring.drain(() => {})).toThrow(cannotBeRead);
    }
  },
);

test("an error of the callback is thrown unchanged", () => {
  const memory = new FakeRing();
  memory.putNumber(1);
  memory.putNumber(2);
  using reader = new RingReader(memory, memory.size, "fake ring");
  const drain = () =>
    reader.drain((view) => {
      (view.buffer as ArrayBuffer).transfer();
      throw new RangeError("mine");
    }, everything);
  expect(drain).toThrow("mine");
  expect(drain).toThrow(cannotBeRead);
  expect(reader.isCorrupt).toBe(true);
  expect(reader.backlog).toBe(0);
});
