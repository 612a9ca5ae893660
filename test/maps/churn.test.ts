/** Iteration over maps that another thread changes as fast as possible. */
import { afterAll, expect } from "bun:test";
import { bpfTest } from "../support/privilege.ts";
import { seed } from "../types/random.ts";
import {
  churnedKinds,
  type ChurnedKind,
  type ChurnedMap,
  type ChurnTask,
  type Key,
  keyCount,
  shared,
} from "./churned_kinds.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

/** Worker that changes one map after the other. It is shared, because starting one takes longer than using it. */
let worker: Worker | undefined;
afterAll(async () => {
  if (worker !== undefined) await endWorker(worker);
});

/** Repeats `walk` while a Worker stores and deletes keys, until both reached their minimum counts. */
async function whileChurned(
  task: Pick<ChurnTask, "kind" | "fd" | "first" | "count">,
  { walks, steps }: { readonly walks: number; readonly steps: number },
  walk: () => void,
): Promise<void> {
  const memory = new Int32Array(new SharedArrayBuffer(4 * shared.length));
  worker ??= new Worker(new URL("children/churn_worker.ts", import.meta.url));
  const answer = Promise.withResolvers<string>();
  worker.onmessage = ({ data }: MessageEvent<string>) => answer.resolve(data);
  worker.onerror = ({ message }) => answer.reject(new Error(message));
  worker.postMessage({ ...task, seed, memory } satisfies ChurnTask);
  const isRunning = () => Atomics.load(memory, shared.ended) === 0;
  try {
    // Waits for the first steps of the Worker, so that all walks run beside it.
    while (isRunning() && Atomics.load(memory, shared.steps) === 0) {
      await Promise.race([Bun.sleep(1), answer.promise]);
    }
    for (let done = 0; isRunning(); done++) {
      if (done >= walks && Atomics.load(memory, shared.steps) >= steps) break;
      walk();
    }
  } finally {
    Atomics.store(memory, shared.stop, 1);
    expect(await answer.promise).toBe("");
  }
}

const stayingCount = keyCount / 2;
const churnedCount = keyCount - stayingCount;
const amount = { walks: repetitions(100, 2), steps: repetitions(20_000) };

/** Entries of one iteration, which must end. */
function entriesOf(map: ChurnedMap): readonly [key: Key, value: unknown][] {
  const entries: [Key, unknown][] = [];
  for (const entry of map) {
    if (entries.push(entry) > 20 * keyCount) throw new Error("the walk does not end");
  }
  return entries;
}

for (const [name, kind] of Object.entries<ChurnedKind>(churnedKinds)) {
  bpfTest(
    `iteration over ${name} ends and returns all entries that stay while another thread changes others`,
    async () => {
      const staying = new Map(
        Array.from({ length: stayingCount }, (_, number) => [kind.key(number), kind.value(number)]),
      );
      expect(staying.size).toBe(stayingCount);
      using map = kind.create(kind.maxEntries);
      map.setMany(staying);
      const task = { kind: name as ChurnTask["kind"], fd: map.fd };
      let [walks, incomplete, repeated, wrong, others] = [0, 0, 0, 0, 0];
      await whileChurned({ ...task, first: stayingCount, count: churnedCount }, amount, () => {
        const entries = entriesOf(map);
        const seen = new Map(entries);
        walks++;
        if (seen.size < entries.length) repeated++;
        if (staying.keys().some((key) => !seen.has(key))) incomplete++;
        for (const [key, value] of entries) {
          if (!staying.has(key)) others++;
          else if (!Bun.deepEquals(value, staying.get(key))) wrong++;
        }
      });
      expect(wrong).toBe(0);
      // The other thread did interfere.
      expect(others).toBeGreaterThan(0);
      if (kind.isOnce) expect(repeated).toBe(0);
      if (kind.isComplete) expect(incomplete).toBe(0);
      else expect(incomplete).toBeLessThan(walks / 20);
      for (const [key, value] of staying) expect(map.get(key)).toEqual(value);
    },
  );
}
