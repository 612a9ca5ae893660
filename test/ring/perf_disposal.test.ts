import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DisposedError, PerfBuffer, t } from "../../src/index.ts";
import { bpfTest, bpfObstacle } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import type { TakeoverAnswer } from "./children/perf_takeover.ts";
import { onCpu, PerfProducer } from "./perf_producer.ts";
import { repetitions } from "../support/effort.ts";
import { testUnless } from "../support/skipping.ts";
import { countsTowardsLimit } from "../../src/ffi/permission.ts";

const children = `${import.meta.dir}/children`;
const size = 4096;

/** True if the kernel limits the locked memory of perf events; at -1 it does not. */
const isBounded = Number(readFileSync("/proc/sys/kernel/perf_event_paranoid", "utf8")) > -1;
const lockedMemoryTest = testUnless(
  bpfObstacle ??
    (isBounded ? undefined : "kernel.perf_event_paranoid lets everybody lock memory") ??
    (countsTowardsLimit() ? "before 5.11 the map is what the limit has no room for" : undefined),
);

function newBuffer(): PerfBuffer<t.Type<number>> {
  return new PerfBuffer({ event: t.u32, size });
}

/** Writes numbers on one CPU, so that they keep their order. */
function put(buffer: PerfBuffer<t.Type<unknown>>, producer: PerfProducer, values: number[]): void {
  onCpu(buffer.cpus[0] as number, () => {
    for (const value of values) producer.putNumber(value);
  });
}

describe("after disposal", () => {
  bpfTest("every method except disposal throws DisposedError", () => {
    const buffer = newBuffer();
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    expect(buffer.disposed).toBe(true);
    const uses: readonly (() => unknown)[] = [
      () => buffer.fd,
      () => buffer.backlog,
      () => buffer.stats,
      () => buffer.drain(() => {}),
      () => buffer.drainRaw(() => {}),
      () => buffer[Symbol.asyncIterator](),
      () => buffer.subscribe(() => {}),
      () => buffer.stream(),
      () => buffer.flush(),
      () => buffer.dup(),
      () => buffer.info(),
    ];
    for (const use of uses) expect(use).toThrow(DisposedError);
    expect(`${buffer}`).toStartWith("perf_event_array map");
  });

  bpfTest("views have length 0: those of the kernel's memory and that of copies", () => {
    const buffer = newBuffer();
    using map = buffer.dup();
    using producer = new PerfProducer(map);
    const views = new Set<DataView>();
    onCpu(buffer.cpus[0] as number, () => {
      for (let round = 0; round < repetitions(500, 300); round++) {
        producer.put(new Uint8Array(12));
        buffer.drainRaw((view) => void views.add(view));
      }
    });
    expect(views.size).toBe(2);
    buffer[Symbol.dispose]();
    for (const view of views) expect(() => view.getUint8(0)).toThrow(TypeError);
  });

  bpfTest("programs that still use the map cannot write records", () => {
    const buffer = newBuffer();
    using producer = new PerfProducer(buffer);
    expect(producer.putNumber(1)).toBe(true);
    buffer[Symbol.dispose]();
    expect(producer.putNumber(1)).toBe(false);
  });
});

describe("disposal", () => {
  bpfTest("in a drain's callback ends the drain", () => {
    const buffer = newBuffer();
    using producer = new PerfProducer(buffer);
    put(buffer, producer, [1, 2, 3]);
    const events: number[] = [];
    const count = buffer.drain((event) => {
      events.push(event);
      if (events.length === 2) buffer[Symbol.dispose]();
    });
    expect([count, events]).toEqual([2, [1, 2]]);
  });

  bpfTest("in the body of a loop ends the loop over any iterator", async () => {
    const loops: readonly ((
      buffer: PerfBuffer<t.Type<{ value: number }>>,
    ) => AsyncIterable<unknown>)[] = [
      (buffer) => buffer,
      (buffer) => buffer.batches({ max: 2 }),
      (buffer) => buffer.batches({ max: 2, inPlace: true }),
      (buffer) => buffer.stream({ highWaterMark: 1 }),
    ];
    for (const loop of loops) {
      const buffer = new PerfBuffer({ event: t.struct({ value: t.u32 }), size });
      using producer = new PerfProducer(buffer);
      put(buffer, producer, [1, 2, 3, 4, 5]);
      let items = 0;
      for await (const _ of loop(buffer)) {
        if (++items === 1) buffer[Symbol.dispose]();
      }
      expect([items > 0, buffer.disposed]).toEqual([true, true]);
    }
  });

  bpfTest("ends a loop that waits", async () => {
    const buffer = newBuffer();
    setTimeout(() => buffer[Symbol.dispose](), 10);
    for await (const _ of buffer) expect.unreachable();
    expect(buffer.disposed).toBe(true);
  });

  bpfTest("in the callback of a subscription ends the subscription", async () => {
    const buffer = newBuffer();
    using producer = new PerfProducer(buffer);
    put(buffer, producer, [1, 2, 3]);
    const events: number[] = [];
    const subscription = buffer.subscribe((event) => {
      events.push(event);
      buffer[Symbol.dispose]();
    });
    await Bun.sleep(20);
    expect([events, subscription.active]).toEqual([[1], false]);
  });

  bpfTest("during a pending wake-up ends the wait", async () => {
    for (let round = 0; round < 50; round++) {
      const buffer = newBuffer();
      using producer = new PerfProducer(buffer);
      let events = 0;
      buffer.subscribe(() => void events++);
      await Bun.sleep(1);
      producer.putNumber(1);
      if (round % 2 === 0) await Promise.resolve();
      else await new Promise<void>((resolve) => setImmediate(resolve));
      buffer[Symbol.dispose]();
      const before = events;
      await Bun.sleep(0);
      expect(events).toBe(before);
    }
  });

  bpfTest("throws while Bun reads the memory, and changes nothing", async () => {
    const buffer = new PerfBuffer({ event: t.u32, size: 1 << 20 });
    using producer = new PerfProducer(buffer);
    let memory: Uint8Array | undefined;
    // A view of the CPU whose pages are the last.
    onCpu(buffer.cpus.at(-1) as number, () => producer.putNumber(5));
    buffer.drainRaw((view) => {
      memory = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    });
    const path = join(tmpdir(), `bun-bpf-perf-${process.pid}`);
    const writing = writeFile(path, memory as Uint8Array);
    expect(() => buffer[Symbol.dispose]()).toThrow("an asynchronous operation uses its memory");
    expect(buffer.disposed).toBe(false);
    for (const cpu of buffer.cpus) {
      onCpu(cpu, () => producer.putNumber(cpu));
      expect(buffer.drain((event) => expect(event).toBe(cpu))).toBe(1);
    }
    await writing;
    await rm(path);
    buffer[Symbol.dispose]();
    expect(buffer.disposed).toBe(true);
  });

  bpfTest("of 1,000 buffers, drained or subscribed to, leaves no descriptor open", async () => {
    const before = countResources();
    for (let round = 0; round < repetitions(1000); round++) {
      using buffer = newBuffer();
      if (round % 10 === 0) buffer.subscribe(() => {});
      else buffer.drain(() => {});
    }
    await Bun.sleep(1);
    expect(countResources()).toEqual(before);
  });

  bpfTest("keeps the events of another thread that has taken the map over", async () => {
    const buffer = newBuffer();
    using map = buffer.dup();
    using producer = new PerfProducer(map);
    const worker = new Worker(`${children}/perf_takeover.ts`);
    const answer = () => {
      const { promise, resolve } = Promise.withResolvers<TakeoverAnswer>();
      worker.onmessage = ({ data }: MessageEvent<TakeoverAnswer>) => resolve(data);
      return promise;
    };
    const opened = answer();
    worker.postMessage({ open: map.id });
    expect(await opened).toEqual([]);
    put(buffer, producer, [1]);
    expect(buffer.drain(() => {})).toBe(0);
    buffer[Symbol.dispose]();
    producer.putNumber(2);
    const drained = answer();
    worker.postMessage("drain");
    expect((await drained).sort()).toEqual([1, 2]);
    worker.postMessage("close");
    await new Promise((resolve) => worker.addEventListener("close", resolve));
  });
});

describe("a failed constructor of a perf buffer", () => {
  bpfTest("leaves no descriptor open", () => {
    using first = newBuffer();
    using map = first.dup();
    const before = countResources();
    for (let round = 0; round < 10; round++) {
      expect(() => PerfBuffer.fromFd(map.fd, { event: t.u32, size })).toThrow("already");
      // @ts-expect-error: the event type is missing
      expect(() => new PerfBuffer({ size })).toThrow(TypeError);
    }
    expect(countResources()).toEqual(before);
    using producer = new PerfProducer(first);
    producer.putNumber(1);
    expect(first.drain(() => {})).toBe(1);
  });

  bpfTest("names the missing capability", async () => {
    const preload = ["--preload", "./test/support/drop_capabilities.ts"];
    const ended = await runBun([...preload, `${children}/perf_refused.ts`]);
    const lines = ended.stdout.trimEnd().split("\n");
    expect(lines[0]).toStartWith("EPERM This process lacks CAP_BPF: ");
    expect(lines[1]).toStartWith("EACCES This process lacks CAP_PERFMON: ");
    expect(lines[1]).toContain("--cap-add PERFMON");
    expect(ended.exitCode).toBe(0);
  });

  lockedMemoryTest(
    "names the remedy if the limit on locked memory is reached, and leaves no descriptor open",
    async () => {
      const ended = await runBun([`${children}/perf_locked_memory.ts`]);
      expect(ended).toMatchObject({ stderr: "", exitCode: 0 });
      expect(ended.stdout).toStartWith("EPERM The pages of all these buffers are locked: ");
      expect(ended.stdout).toContain("ulimit -l");
      expect(ended.stdout).toEndWith("nothing left\n");
    },
  );
});
