import { describe, expect } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { bpfTest } from "../support/privilege.ts";

describe("the option pin", () => {
  bpfTest("gives all who create it at once the same map", async () => {
    using bpffs = new DetachedMount("bpf");
    const workers = Array.from(
      { length: 2 },
      () => new Worker(new URL("children/pin_worker.ts", import.meta.url)),
    );
    for (let round = 0; round < 100; round++) {
      const gate = new Int32Array(new SharedArrayBuffer(4));
      const path = `${bpffs.path}/map${round}`;
      const answers = await Promise.all(
        workers.map((worker) => {
          const answer = Promise.withResolvers<unknown>();
          worker.onmessage = ({ data }: MessageEvent) => answer.resolve(data);
          worker.postMessage({ path, gate, workers: workers.length });
          return answer.promise;
        }),
      );
      expect(answers).toEqual(answers.map(() => expect.any(Number)));
      expect(new Set(answers).size).toBe(1);
    }
    for (const worker of workers) worker.terminate();
  });
});
