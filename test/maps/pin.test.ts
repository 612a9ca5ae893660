import { describe, expect } from "bun:test";
import { existsSync, unlinkSync } from "node:fs";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { HashMap, t } from "../../src/index.ts";
import { repetitions } from "../support/effort.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";
import { endWorker } from "../support/end_worker.ts";

describe("the option pin", () => {
  bpfTest("applies the access flags to new and existing maps", () => {
    using bpffs = new DetachedMount("bpf");
    const options = { key: t.u32, value: t.u32, maxEntries: 1, pin: `${bpffs.path}/map` };
    for (const _round of ["created", "opened"]) {
      using reader = new HashMap({ ...options, flags: ["rdonly"] });
      expect(() => reader.set(1, 1)).toThrow(expect.objectContaining({ code: "EPERM" }));
      expect(reader.get(1)).toBeUndefined();
    }
    using writer = new HashMap(options);
    expect(writer.set(1, 1).get(1)).toBe(1);
  });

  bpfTest("leaves nothing open if a construction fails after the pin was removed", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/map`;
    const unsteady = t.custom<number>({ size: 4, read: () => 0, write: () => {} });
    const value = Object.create(unsteady, {
      // A type that changes its size and removes the pin as soon as that exists.
      size: {
        get() {
          if (!existsSync(pin)) return 4;
          unlinkSync(pin);
          return 8;
        },
      },
    }) as typeof unsteady;
    const before = openKernelObjects();
    // The error is that of the construction, not that of the missing pin.
    expect(() => new HashMap({ key: t.u32, value, maxEntries: 1, pin })).toThrow(/^the types of/);
    expect(openKernelObjects()).toEqual(before);
  });

  bpfTest("returns the same map to all threads that create it at once", async () => {
    using bpffs = new DetachedMount("bpf");
    const workers = Array.from(
      { length: 2 },
      () => new Worker(new URL("children/pin_worker.ts", import.meta.url)),
    );
    for (let round = 0; round < repetitions(100, 10); round++) {
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
    await Promise.all(workers.map(endWorker));
  });
});
