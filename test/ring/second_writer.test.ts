import { expect } from "bun:test";
import { t, UserRingBuf } from "../../src/index.ts";
import { EINVAL } from "../../src/uapi/errno.ts";
import type { Order } from "./children/second_writer.ts";
import { Drainer } from "./drainer.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";
import { mapTest } from "../support/needs.ts";

mapTest("user_ringbuf")(
  "two threads that write to one user ring do not block it",
  async () => {
    using ring = new UserRingBuf({ size: 4096, event: t.bytes(16) });
    using drainer = new Drainer(ring, 64);
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const writers = [16, 40].map((length) => {
      const worker = new Worker(`${import.meta.dir}/children/second_writer.ts`, { ref: false });
      const ready = Promise.withResolvers<void>();
      const result = Promise.withResolvers<{ failures: string[]; refused: number }>();
      worker.onmessage = ({ data }) => (data === "ready" ? ready.resolve() : result.resolve(data));
      worker.onerror = ({ message }) => {
        ready.reject(new Error(message));
        result.reject(new Error(message));
      };
      worker.postMessage({ ringFd: ring.fd, length, stop } satisfies Order);
      return { worker, ready: ready.promise, result: result.promise };
    });
    await Promise.all(writers.map(({ ready }) => ready));
    let drained = 0;
    const wanted = repetitions(30_000, 10_000);
    for (let drains = 0; drained < wanted && drains < wanted; drains++) {
      let count = drainer.drain();
      // A drain fails if it reads a header in the moment between the two writers' stores, as UserRingWriter describes.
      for (let tries = 0; count === -EINVAL && tries < 1000; tries++) {
        await Bun.sleep(1);
        count = drainer.drain();
      }
      expect(count).toBeGreaterThanOrEqual(0);
      drained += count;
    }
    Atomics.store(stop, 0, 1);
    const results = await Promise.all(writers.map(({ result }) => result));
    await Promise.all(writers.map(({ worker }) => endWorker(worker)));
    expect(results.flatMap(({ failures }) => failures)).toEqual([]);
    // New records can be drained, so nothing blocks the ring.
    while (drainer.drain() > 0);
    expect(ring.backlog).toBe(0);
    const bytes = new Uint8Array(16);
    bytes[0] = 16;
    bytes[15] = 7;
    drainer.read();
    expect(ring.output(bytes)).toBe(true);
    expect(drainer.read()).toEqual([bytes]);
  },
  30_000,
);
