// Disposal at every point of a consumer's life. It must not crash, deliver twice, lose events or leave descriptors open.
import { expect } from "bun:test";
import { ArrayMap, RingBuf, type Subscription, t, features } from "../../src/index.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { settledResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { flood } from "./flood.ts";
import { counter, counterState, countedEvent, Producer } from "./producer.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";

const children = `${import.meta.dir}/children`;
const Event = t.struct({ value: t.u32 });
type Ring = RingBuf<t.Type<{ value: number }>>;

/** Ends a consumer. The promise resolves when the consumer has seen all events that were delivered to it. */
type End = () => Promise<void>;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Functions that start a consumer, one per kind. `how` selects its options. */
const kinds: readonly ((ring: Ring, seen: (value: number) => void, how: number) => End)[] = [
  (ring, seen) => {
    const subscription = ring.subscribe(({ value }) => seen(value));
    return async () => subscription[Symbol.dispose]();
  },
  (ring, seen, how) => {
    const controller = new AbortController();
    const options = { inPlace: true, signal: controller.signal, budget: 1 + (how % 3) };
    const subscription = ring.subscribe(({ value }) => seen(value), options);
    return async () => {
      if (how % 2 === 0) controller.abort();
      else subscription[Symbol.dispose]();
    };
  },
  (ring, seen) => {
    const events = ring.events();
    const read = async () => {
      for await (const { value } of events) seen(value);
    };
    const done = read();
    return async () => {
      await events.return?.();
      await done;
    };
  },
  (ring, seen, how) => {
    const batches = ring.batches({ max: 1 + (how % 4), inPlace: true });
    const read = async () => {
      for await (const batch of batches) for (const { value } of batch) seen(value);
    };
    const done = read();
    return async () => {
      // A delivered batch must be read before the iteration ends, which releases it.
      await turn();
      await batches.return?.();
      await done;
    };
  },
  (ring, seen) => {
    const batches = ring.batches();
    const read = async () => {
      for await (const batch of batches) for (const { value } of batch) seen(value);
    };
    const done = read();
    return async () => {
      await batches.return?.();
      await done;
    };
  },
];

bridgeTest(
  "a consumer of any kind continues where the previous one was ended, at any point",
  async (bridge) => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    using ring = new RingBuf({ size: 8192, event: Event });
    using producer = new Producer(ring);
    let next = 0;
    let written = 0;
    const seen = (value: number) => {
      if (value !== next) throw new Error(`${value} instead of ${next}, seed ${seed}`);
      next++;
    };
    const before = await settledResources();
    // Each end of an AIO context waits for a grace period of the kernel's, tens of milliseconds.
    for (let round = bridge === "aio" ? 30 : 700; round > 0; round--) {
      const end = kinds[random(kinds.length)]?.(ring, seen, random(12));
      for (let count = random(12); count > 0; count--) {
        if (producer.putNumber(written)) written++;
        if (random(6) === 0) producer.discard();
      }
      const pause = random(4);
      if (pause === 1) await Promise.resolve();
      if (pause === 2) await turn();
      if (pause === 3) await Bun.sleep(random(2));
      await end?.();
    }
    ring.drain(({ value }) => seen(value));
    expect({ seed, next }).toEqual({ seed, next: written });
    expect(await settledResources()).toEqual(before);
  },
  bpfTest,
);

bpfTest(
  "10,000 rings that are disposed of at any point of a consumer's life leave no descriptor open",
  async () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    // This subscription keeps the bridge open: opening one takes longer than everything else.
    using kept = new RingBuf({ size: 4096, event: Event });
    using _ = kept.subscribe(() => {});
    const before = await settledResources();
    for (let round = 0; round < repetitions(10_000); round++) {
      const ring = new RingBuf({ size: 4096, event: Event });
      const end = kinds[round % kinds.length]?.(ring, () => {}, round);
      const point = random(8);
      if (point === 1) void end?.();
      if (point === 2) await Promise.resolve();
      if (point === 3) await turn();
      if (point === 4) queueMicrotask(() => ring[Symbol.dispose]());
      if (point === 5 && round % 50 === 0) await Bun.sleep(1);
      if (point === 6) setImmediate(() => ring[Symbol.dispose]());
      else ring[Symbol.dispose]();
      if (point === 7) void end?.();
    }
    expect({ seed, held: await settledResources() }).toEqual({ seed, held: before });
  },
  60_000,
);

testWith(features.instructions.get("fetching_atomics"))(
  "under flood, disposal of a ring in its callback ends the subscription at once",
  async () => {
    using shared = new RingBuf({ size: 65536, event: countedEvent });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(shared, state);
    await using _ = await flood(program.fd);
    let next = -1;
    for (let round = 0; round < repetitions(100, 30); round++) {
      const ring = shared.dup();
      const ended = Promise.withResolvers<void>();
      let calls = 0;
      const limit = 1 + ((round * 37) % 3000);
      const subscription: Subscription = ring.subscribe(
        ({ sequence }) => {
          calls++;
          if (calls > limit) ended.reject(new Error("called after its end"));
          if (next !== -1 && sequence !== next) ended.reject(new Error(`${sequence}, not ${next}`));
          next = sequence + 1;
          if (calls < limit) return;
          if (round % 2 === 0) subscription[Symbol.dispose]();
          ring[Symbol.dispose]();
          ended.resolve();
        },
        { inPlace: true },
      );
      await ended.promise;
      expect(subscription.active).toBe(false);
      ring[Symbol.dispose]();
    }
  },
);

bpfTest("a process exits if all its consumers have ended, in any way", async () => {
  const ended = await runBun([`${children}/ended_consumers.ts`], { timeout: 20_000 });
  expect(ended).toMatchObject({ exitCode: 0, stdout: "done\n", stderr: "" });
});

bpfTest("unreferenced consumers let the process exit and deliver until then", async () => {
  for (const bridge of ["io_uring", "aio", "timer"]) {
    const env = { BUN_BPF_LOOP: bridge };
    const ended = await runBun([`${children}/unreferenced.ts`], { timeout: 20_000, env });
    expect({ bridge, ...ended }).toMatchObject({
      bridge,
      exitCode: 0,
      stdout: "subscribed 1\nring 2\nagain 3\n",
      stderr: "",
    });
  }
});
