import { join } from "node:path";
import { describe, expect, expectTypeOf } from "bun:test";
import { type MergedEvent, MergedEvents, PerfBuffer, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { packageRoot, runBun } from "../support/run.ts";
import { PerfProducer } from "./perf_producer.ts";
import { Producer } from "./producer.ts";

/** BPF_RB_NO_WAKEUP */
const noWakeup = 1;

/** Two rings with a producer each. */
class Rings implements Disposable {
  readonly a = new RingBuf({ size: 4096, event: t.u32 });
  readonly b = new RingBuf({ size: 4096, event: t.u32 });
  readonly #toA = new Producer(this.a);
  readonly #toB = new Producer(this.b);
  readonly merged = new MergedEvents({ a: this.a, b: this.b });

  put(to: "a" | "b", ...values: number[]): void {
    for (const value of values) {
      expect((to === "a" ? this.#toA : this.#toB).putNumber(value)).toBe(true);
    }
  }

  /** Writes an event to `b` without a wake-up. */
  putSilently(value: number): void {
    expect(this.#toB.putNumber(value, { flags: noWakeup })).toBe(true);
  }

  [Symbol.dispose](): void {
    for (const one of [this.#toA, this.#toB, this.a, this.b]) one[Symbol.dispose]();
  }
}

/** Returns the next `count` events of an iteration. */
async function take<T>(events: AsyncIterable<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  for await (const event of events) {
    taken.push(event);
    if (taken.length === count) break;
  }
  return taken;
}

type Pair = { readonly from: string; readonly event: unknown };
const short = ({ from, event }: Pair): string => `${from}${event as number}`;

describe("events of several buffers", () => {
  bpfTest("are delivered to one loop, each with the name of its buffer", async () => {
    using rings = new Rings();
    rings.put("a", 1, 2);
    rings.put("b", 3);
    expect((await take(rings.merged, 3)).map(short).toSorted()).toEqual(["a1", "a2", "b3"]);
    // Events of either buffer that arrive while the loop waits are delivered too.
    for (const [to, value] of [
      ["b", 4],
      ["a", 5],
    ] as const) {
      const taking = take(rings.merged, 1);
      await Bun.sleep(5);
      rings.put(to, value);
      expect((await taking).map(short)).toEqual([`${to}${value}`]);
    }
  });

  bpfTest("have the type of the buffer with that name", async () => {
    using numbers = new RingBuf({ size: 4096, event: t.u32 });
    using structs = new RingBuf({ size: 4096, event: t.struct({ value: t.u32, rest: t.u32 }) });
    using toNumbers = new Producer(numbers);
    using toStructs = new Producer(structs);
    toNumbers.putNumber(1);
    toStructs.put(Uint8Array.of(2, 0, 0, 0, 3, 0, 0, 0));
    const values: number[] = [];
    const merged = new MergedEvents({ numbers, structs });
    for await (const { from, event } of merged) {
      if (from === "numbers") {
        expectTypeOf(event).toEqualTypeOf<number>();
        values.push(event);
      } else {
        expectTypeOf(event).toEqualTypeOf<{ value: number; rest: number }>();
        values.push(event.value + event.rest);
      }
      if (values.length === 2) break;
    }
    expect(values.toSorted()).toEqual([1, 5]);
    expectTypeOf<MergedEvent<{ one: RingBuf<typeof t.u64> }>>().toEqualTypeOf<{
      readonly from: "one";
      readonly event: bigint;
    }>();
  });

  bpfTest("have the size of the type of their buffer, in any order of the buffers", async () => {
    using numbers = new RingBuf({ size: 4096, event: t.u32 });
    using structs = new RingBuf({ size: 4096, event: t.struct({ value: t.u32, rest: t.u32 }) });
    using toNumbers = new Producer(numbers);
    using toStructs = new Producer(structs);
    const merged = new MergedEvents({ numbers, structs });
    // Each consumer begins with a different buffer.
    for (let round = 0; round < 2; round++) {
      toNumbers.putNumber(1);
      toStructs.put(Uint8Array.of(2, 0, 0, 0, 3, 0, 0, 0));
      const events: Record<string, unknown> = {};
      expect(merged.drain(({ from, event }) => void (events[from] = event))).toBe(2);
      expect(events).toEqual({ numbers: 1, structs: { value: 2, rest: 3 } });
    }
    for (let round = 0; round < 2; round++) {
      toStructs.put(Uint8Array.of(1, 2, 3, 4, 5));
      expect(() => merged.drain(() => {})).toThrow(
        `a record of ${structs} has 5 bytes, but its event type struct { value: u32, rest: u32 } needs 8: open the map with the type that programs write`,
      );
    }
  });

  bpfTest("are delivered from each buffer in turn, even if one has many", async () => {
    using rings = new Rings();
    rings.put("a", ...Array(200).keys());
    rings.put("b", 1, 2, 3);
    const first = await take(rings.merged, 100);
    expect(first.filter(({ from }) => from === "b").map(short)).toEqual(["b1", "b2", "b3"]);
    const drained: string[] = [];
    rings.put("b", 4);
    // A few at a time: the turn continues from one drain to the next.
    for (let round = 0; round < 2; round++) {
      rings.merged.drain((event) => void drained.push(short(event)), { limit: 5 });
      rings.put("b", 5 + round);
    }
    expect(drained.some((event) => event.startsWith("b"))).toBe(true);
  });

  bpfTest("stay in their buffer if they are not delivered", async () => {
    using rings = new Rings();
    rings.put("a", 1, 2);
    rings.put("b", 1, 2);
    const [first] = await take(rings.merged, 1);
    expect(first).toEqual({ from: "a", event: 1 });
    const left: string[] = [];
    rings.a.drain((event) => void left.push(`a${event}`));
    rings.b.drain((event) => void left.push(`b${event}`));
    expect(left).toEqual(["a2", "b1", "b2"]);
  });

  bpfTest(
    "are delivered once, in the order of their buffer, to every kind of consumer",
    async () => {
      const seed = anySeed();
      const random = randomNumbers(seed);
      using rings = new Rings();
      const next = { a: 0, b: 0 };
      const expected = { a: 0, b: 0 };
      const check = ({
        from,
        event,
      }: MergedEvent<{ a: RingBuf<typeof t.u32>; b: typeof rings.b }>) =>
        expect({ seed, from, event }).toEqual({ seed, from, event: expected[from]++ });
      for (let round = 0; round < 200; round++) {
        for (const to of ["a", "b"] as const) {
          rings.put(to, ...Array.from({ length: random(20) }, () => next[to]++));
        }
        const waiting = next.a + next.b - expected.a - expected.b;
        const wanted = random(waiting + 1);
        switch (random(4)) {
          case 0:
            rings.merged.drain(check, { limit: wanted + 1 });
            break;
          case 1:
            for (const one of wanted > 0 ? await take(rings.merged, wanted) : []) check(one);
            break;
          case 2:
            if (waiting > 0) {
              const [batch = []] = await take(rings.merged.batches({ max: wanted + 1 }), 1);
              for (const one of batch) check(one);
            }
            break;
          default: {
            using subscription = rings.merged.subscribe(check);
            subscription.flush();
          }
        }
      }
      rings.merged.drain(check);
      expect(expected).toEqual(next);
    },
  );

  bpfTest("of ring buffers and perf buffers can be merged", async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using perf = new PerfBuffer({ size: 4096, event: t.u32 });
    using toRing = new Producer(ring);
    using toPerf = new PerfProducer(perf);
    const merged = new MergedEvents({ ring, perf });
    for (let round = 0; round < 3; round++) {
      toRing.putNumber(1);
      toPerf.putNumber(2);
      expect((await take(merged, 2)).map(short).toSorted()).toEqual(["perf2", "ring1"]);
      const taking = take(merged, 1);
      await Bun.sleep(2);
      toPerf.putNumber(3);
      expect((await taking).map(short)).toEqual(["perf3"]);
    }
  });
});

describe("a consumer of several buffers", () => {
  bpfTest("is the consumer of each buffer", () => {
    using rings = new Rings();
    {
      using subscription = rings.merged.subscribe(() => {});
      expect(() => rings.a.drain(() => {})).toThrow("end that subscription first");
      expect(() => rings.b.peek()).toThrow("end that subscription first");
      expect(subscription.active).toBe(true);
    }
    {
      using _ = rings.b.subscribe(() => {});
      expect(() => rings.merged.drain(() => {})).toThrow(`${rings.b} has a consumer already`);
      expect(() => rings.merged.events()).toThrow(`${rings.b} has a consumer already`);
      // The buffers that were claimed before the error are free again.
      expect(rings.a.drain(() => {})).toBe(0);
    }
    expect(rings.merged.drain(() => {})).toBe(0);
  });

  bpfTest("rejects the same buffer twice", () => {
    using rings = new Rings();
    using again = rings.a.dup();
    const merged = new MergedEvents({ a: rings.a, again });
    expect(() => merged.drain(() => {})).toThrow("has a consumer already");
    expect(rings.a.drain(() => {})).toBe(0);
  });

  bpfTest("continues if a buffer is disposed of, and ends after the last one", async () => {
    using rings = new Rings();
    const got: string[] = [];
    const ended = (async () => {
      for await (const event of rings.merged) got.push(short(event));
    })();
    rings.put("a", 1);
    rings.put("b", 2);
    await Bun.sleep(5);
    rings.a[Symbol.dispose]();
    rings.put("b", 3);
    await Bun.sleep(5);
    expect(got.toSorted()).toEqual(["a1", "b2", "b3"]);
    rings.b[Symbol.dispose]();
    await ended;
  });

  bpfTest("continues if the callback disposes of a buffer", async () => {
    for (const disposed of ["a", "b"] as const) {
      using rings = new Rings();
      const got: string[] = [];
      rings.put("a", 1, 2);
      rings.put("b", 1, 2);
      using subscription = rings.merged.subscribe((event) => {
        got.push(short(event));
        rings[disposed][Symbol.dispose]();
      });
      await Bun.sleep(5);
      const other = disposed === "a" ? "b" : "a";
      expect(got).toEqual(disposed === "a" ? ["a1", "b1", "b2"] : ["a1", "a2"]);
      rings.put(other, 3);
      await Bun.sleep(5);
      expect([got.at(-1), subscription.active]).toEqual([`${other}3`, true]);
      rings[other][Symbol.dispose]();
      expect(subscription.active).toBe(false);
    }
  });

  bpfTest("continues if the buffer whose events are held is disposed of", async () => {
    using rings = new Rings();
    rings.put("a", 1, 2, 3);
    rings.put("b", 4, 5);
    const got: string[] = [];
    for await (const event of rings.merged) {
      got.push(short(event));
      if (got.length === 1) rings.a[Symbol.dispose]();
      if (got.length === 3) break;
    }
    expect(got).toEqual(["a1", "b4", "b5"]);
  });

  bpfTest("is flushed by any of its buffers, and counts the events of all", () => {
    using rings = new Rings();
    const got: string[] = [];
    using subscription = rings.merged.subscribe((event) => void got.push(short(event)));
    rings.put("a", 1);
    rings.put("b", 2);
    expect(rings.a.flush()).toBe(2);
    expect(got.toSorted()).toEqual(["a1", "b2"]);
    expect(subscription.stats).toMatchObject({
      events: 2,
      bytes: 32,
      lost: 0,
      batches: 1,
      largestBatch: 2,
      backlog: 0,
    });
  });

  bpfTest("keeps the process alive if one of its buffers is referenced", async () => {
    const run = async (unreferenced: string, milliseconds: number): Promise<string> => {
      const { stdout, stderr } = await runBun(
        [
          "-e",
          `import { MergedEvents, RingBuf, t } from "./src/index.ts";
const a = new RingBuf({ size: 4096, event: t.u32 });
const b = new RingBuf({ size: 4096, event: t.u32 });
new MergedEvents({ a, b }).subscribe(() => {});
for (const ring of [${unreferenced}]) ring.unref();
setTimeout(() => { console.log("alive"); process.exit(); }, ${milliseconds}).unref();`,
        ],
        { cwd: packageRoot },
      );
      expect(stderr).toBe("");
      return stdout;
    };
    // The timers do not keep the process alive, so they fire only if the rings do.
    expect(await Promise.all([run("a", 300), run("a, b", 20_000)])).toEqual(["alive\n", ""]);
  });

  bpfTest(
    "is woken for an event that is written during the wake-up of another buffer",
    async () => {
      using rings = new Rings();
      const got: string[] = [];
      using _ = rings.merged.subscribe((event) => {
        got.push(short(event));
        // The consumer of b has not caught up: the kernel sends no wake-up for this record.
        if (event.from === "b" && event.event === 1) rings.put("b", 2);
      });
      await Bun.sleep(20);
      rings.putSilently(1);
      rings.put("a", 7);
      for (let left = 2000; got.length < 3 && left > 0; left--) await Bun.sleep(1);
      expect(got.toSorted()).toEqual(["a7", "b1", "b2"]);
    },
  );

  bpfTest("rejects with the reason of its signal", async () => {
    using rings = new Rings();
    const events = rings.merged.events({ signal: AbortSignal.timeout(5) });
    expect(await events.next().catch((error: Error) => error.name)).toBe("TimeoutError");
    expect(rings.a.drain(() => {})).toBe(0);
  });

  bpfTest(
    "continues after an exception of a callback, which becomes an uncaught exception",
    async () => {
      expect(await runBun([join(import.meta.dir, "children/throwing_merged.ts")])).toMatchObject({
        stdout: "a1\nuncaught: of a1\nb3\na2\n",
        stderr: "",
      });
    },
  );

  bpfTest("rejects values that are not buffers, and an empty object", () => {
    using rings = new Rings();
    expect(() => new MergedEvents({})).toThrow("expected at least one buffer");
    // @ts-expect-error: not a buffer
    expect(() => new MergedEvents({ a: rings.a, b: 1 })).toThrow(
      "b: expected a RingBuf or a PerfBuffer, got 1",
    );
    // @ts-expect-error: misspelt on purpose
    expect(() => rings.merged.drain(() => {}, { limits: 1 })).toThrow('did you mean "limit"?');
    rings.b[Symbol.dispose]();
    expect(() => rings.merged.drain(() => {})).toThrow("disposed");
  });
});
