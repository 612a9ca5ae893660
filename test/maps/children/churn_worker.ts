/** Worker that stores and deletes keys of a map as fast as possible until the stop flag is set. It posts its error, or "". */
import { Random } from "../../types/random.ts";
import { churnedKinds, type ChurnedKind, type ChurnTask, shared } from "../churned_kinds.ts";

declare const self: Worker;

function churn({ kind, fd, first, count, seed, memory }: ChurnTask): void {
  const { open, key, value }: ChurnedKind = churnedKinds[kind];
  using map = open(fd);
  const random = new Random(seed);
  const pairs = Array.from({ length: count }, (_, index) => {
    const number = first + index;
    return [key(number), value(number)] as const;
  });
  const some = () => Array.from({ length: random.below(20) }, () => random.pick(pairs));
  for (let steps = 1; Atomics.load(memory, shared.stop) === 0; steps++) {
    const operation = random.below(40);
    if (operation === 0) map.setMany(some());
    else if (operation === 1) map.deleteMany(some().map(([one]) => one));
    else if (operation % 2 === 0) map.set(...random.pick(pairs));
    else map.delete(random.pick(pairs)[0]);
    Atomics.store(memory, shared.steps, steps);
  }
}

self.onmessage = ({ data }: MessageEvent<ChurnTask>) => {
  let failure = "";
  try {
    // Closes the map before the message: the termination of a Worker closes nothing.
    churn(data);
  } catch (error) {
    failure = error instanceof Error ? String(error.stack) : String(error);
  }
  Atomics.store(data.memory, shared.ended, 1);
  self.postMessage(failure);
};
