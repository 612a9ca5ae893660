// CPUs that come online after a perf buffer was created, or again.
import { existsSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, describe, expect, jest } from "bun:test";
import { openOutputEvent } from "../../src/ffi/perf_event.ts";
import { PerfBuffer, PerfEventArray, possibleCpus, t } from "../../src/index.ts";
import { type ConsumerStats, RecordSource } from "../../src/ring/consumer.ts";
import { PullIterator, eventItems } from "../../src/ring/iterators.ts";
import { perfLayout } from "../../src/ring/perf_cpus.ts";
import { type Machine, PerfEvents } from "../../src/ring/perf_events.ts";
import { consumeSettings } from "../../src/ring/ring_options.ts";
import { u32 } from "../../src/types/integer.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { isGuest, testUnless } from "../support/skipping.ts";
import { onCpu, PerfProducer } from "./perf_producer.ts";

const ENOENT = -2;
const size = 4096;
/** The interval of the checks for online CPUs. */
const checkMilliseconds = 1000;

/** A fake of this machine on which CPUs can be offline. */
class FakeMachine implements Machine {
  readonly offline = new Set<number>();
  suspended = 0;
  time = 0;
  /** The error that opening an event throws, if any. */
  failure: Error | undefined;

  now(): number {
    return this.time;
  }

  openOutputEvent: Machine["openOutputEvent"] = (cpu, layout, what) => {
    if (this.failure !== undefined) throw this.failure;
    return this.offline.has(cpu) ? undefined : openOutputEvent(cpu, layout, what);
  };

  onlineCpus(): number[] {
    return possibleCpus().filter((cpu) => !this.offline.has(cpu) && this.#isReal(cpu));
  }

  suspendedMilliseconds(): number {
    return this.suspended;
  }

  #isReal(cpu: number): boolean {
    return onCpu(cpu, () => true) === true;
  }
}

/** A map with perf events on a fake machine, and a program that writes to it. */
class Setup implements Disposable {
  readonly machine = new FakeMachine();
  readonly map = new PerfEventArray();
  readonly producer = new PerfProducer(this.map);
  readonly events: PerfEvents;
  readonly cpus = this.machine.onlineCpus();
  /** A CPU, one of several, that the tests take offline. */
  readonly last = this.cpus.at(-1) as number;

  constructor({ overwrite = false, offline = [] as readonly number[] } = {}) {
    for (const cpu of offline) this.machine.offline.add(cpu);
    this.events = new PerfEvents(
      this.map,
      perfLayout({ event: u32, size, overwrite }),
      this.machine,
    );
  }

  put(cpu: number, ...values: number[]): number[] {
    const put = (value: number) =>
      this.producer.output(new Uint8Array(Uint32Array.of(value).buffer));
    return onCpu(cpu, () => values.map(put)) as number[];
  }

  /** Returns the events of a drain. */
  drained(): number[] {
    const values: number[] = [];
    this.events.reader.drain((view, offset) => void values.push(view.getUint32(offset, true)), 1e6);
    return values;
  }

  source(): RecordSource<number> {
    const map = {
      id: this.map.id,
      stats: undefined as unknown as ConsumerStats,
      watch: (onReady: () => void) => this.events.watch(onReady),
    };
    return new RecordSource(map, u32, this.events.reader);
  }

  [Symbol.dispose](): void {
    this.events.reader[Symbol.dispose]();
    this.events.close();
    this.producer[Symbol.dispose]();
    this.map[Symbol.dispose]();
  }
}

const switchOf = (cpu: number): string => `/sys/devices/system/cpu/cpu${cpu}/online`;
const setOnline = (cpu: number, isOnline: boolean): void =>
  writeFileSync(switchOf(cpu), isOnline ? "1" : "0");
/** A CPU that these tests may take offline: on a virtual machine for tests only. */
const switched = isGuest
  ? possibleCpus().findLast((cpu) => cpu > 0 && existsSync(switchOf(cpu)))
  : undefined;
if (switched !== undefined) setOnline(switched, true);
afterAll(() => {
  if (switched !== undefined) setOnline(switched, false);
});

afterEach(() => {
  jest.useRealTimers();
});

const onlineHere = new FakeMachine().onlineCpus();
const lastCpu = onlineHere.at(-1) as number;
const severalTest = testUnless(
  bpfObstacle ?? (onlineHere.length > 1 ? undefined : "it needs two CPUs"),
);
const switchTest = testUnless(
  bpfObstacle ?? (switched === undefined ? "it takes a CPU offline" : undefined),
);

async function until(condition: () => boolean): Promise<void> {
  for (let left = 2000; !condition() && left > 0; left--) await Bun.sleep(10);
  expect(condition()).toBe(true);
}

describe("a CPU that comes online", () => {
  severalTest("is read from the next drain on", async () => {
    using setup = new Setup({ offline: [lastCpu] });
    const { machine, events, last } = setup;
    expect(events.cpus).toEqual(setup.cpus.filter((cpu) => cpu !== last));
    expect(setup.put(last, 1)).toEqual([ENOENT]);
    machine.offline.clear();
    machine.time += checkMilliseconds;
    expect(setup.drained()).toEqual([]);
    expect(events.cpus).toEqual(setup.cpus);
    expect(setup.put(last, 2)).toEqual([0]);
    expect([setup.drained(), events.reader.cpu]).toEqual([[2], last]);
  });

  severalTest("is read while a consumer waits, and wakes the consumer", async () => {
    using setup = new Setup({ offline: [lastCpu] });
    const source = setup.source();
    const settings = consumeSettings("test", { wakeup: "interrupt" }, []);
    const iterator = new PullIterator(source, "iteration", settings, eventItems(source));
    const next = iterator.next();
    await Bun.sleep(10);
    setup.machine.offline.clear();
    await Bun.sleep(checkMilliseconds + 20);
    expect(setup.events.cpus).toEqual(setup.cpus);
    setup.put(setup.last, 7);
    expect(await next).toEqual({ done: false, value: 7 });
    await iterator.return();
  });

  severalTest("is read by a consumer whose wait began under fake timers", async () => {
    using setup = new Setup({ offline: [lastCpu] });
    const source = setup.source();
    const settings = consumeSettings("test", { wakeup: "interrupt" }, []);
    jest.useFakeTimers();
    const iterator = new PullIterator(source, "iteration", settings, eventItems(source));
    const next = iterator.next();
    jest.useRealTimers();
    setup.machine.offline.clear();
    await until(() => setup.events.cpus.includes(lastCpu));
    setup.put(setup.last, 7);
    expect(await next).toEqual({ done: false, value: 7 });
    await iterator.return();
  });

  severalTest("is paused, or in overwrite mode, like the others", async () => {
    using setup = new Setup({ offline: [lastCpu], overwrite: true });
    setup.events.pause(true);
    setup.machine.offline.clear();
    setup.machine.time += checkMilliseconds;
    setup.drained();
    const ENOSPC = -28;
    expect(setup.put(setup.last, 1)).toEqual([ENOSPC]);
    setup.events.pause(false);
    const values = Array.from({ length: size }, (_, index) => index);
    expect(new Set(setup.put(setup.last, ...values))).toEqual(new Set([0]));
    expect(setup.drained()).toEqual(values.slice(-size / 16));
  });

  severalTest(
    "with an event that cannot be opened is reported once until it is offline again",
    async () => {
      using setup = new Setup({ offline: [lastCpu] });
      const { machine } = setup;
      const before = countResources();
      machine.offline.clear();
      machine.failure = new Error("no event today");
      setup.machine.time += checkMilliseconds;
      expect(() => setup.drained()).toThrow("no event today");
      setup.machine.time += checkMilliseconds;
      expect(setup.drained()).toEqual([]);
      expect(countResources()).toEqual(before);
      machine.offline.add(lastCpu);
      setup.machine.time += checkMilliseconds;
      setup.drained();
      machine.offline.clear();
      machine.failure = undefined;
      setup.machine.time += checkMilliseconds;
      setup.drained();
      expect(setup.events.cpus).toEqual(setup.cpus);
    },
  );
});

describe("a CPU that was offline", () => {
  for (const overwrite of [false, true]) {
    severalTest(
      `has its remaining records read${overwrite ? " in overwrite mode" : ""}, and is read again when online`,
      async () => {
        using setup = new Setup({ overwrite });
        const { machine, events, last } = setup;
        const before = countResources();
        setup.put(last, 1, 2);
        machine.offline.add(last);
        setup.machine.time += checkMilliseconds;
        // It is online again before these records are read.
        events.reader.hold(1, 0);
        events.reader.cancelHold();
        expect(events.cpus).toEqual(setup.cpus.filter((cpu) => cpu !== last));
        machine.offline.clear();
        setup.machine.time += checkMilliseconds;
        expect(setup.drained().toSorted()).toEqual([1, 2]);
        expect(events.cpus).toEqual(setup.cpus);
        setup.put(last, 3);
        expect(setup.drained()).toEqual([3]);
        // The old event was closed.
        setup.machine.time += checkMilliseconds;
        setup.drained();
        expect(countResources()).toEqual(before);
      },
    );
  }

  severalTest("during a suspend is read again", async () => {
    using setup = new Setup();
    const old = [...setup.events.reader.readers];
    setup.put(setup.last, 1);
    setup.machine.suspended += 60_000;
    setup.machine.time += checkMilliseconds;
    expect(setup.drained()).toEqual([1]);
    setup.put(setup.last, 2);
    expect(setup.drained()).toEqual([2]);
    setup.machine.time += checkMilliseconds;
    setup.drained();
    expect(setup.events.reader.readers.filter((reader) => old.includes(reader))).toEqual([]);
    expect(setup.events.reader.readers).toHaveLength(old.length);
  });
});

describe("on the running kernel", () => {
  switchTest("a CPU that goes online, offline and online is read by a subscription", async () => {
    const cpu = switched as number;
    setOnline(cpu, false);
    try {
      using buffer = new PerfBuffer({ event: t.u32, size });
      using producer = new PerfProducer(buffer);
      const put = (value: number) => onCpu(cpu, () => producer.putNumber(value));
      const events: number[] = [];
      using _ = buffer.subscribe((event) => void events.push(event), { wakeup: "interrupt" });
      expect(buffer.cpus).not.toContain(cpu);
      for (let round = 1; round <= 2; round++) {
        setOnline(cpu, true);
        // The CPU has no perf event yet.
        expect(put(10 * round)).toBe(false);
        await until(() => buffer.cpus.includes(cpu));
        expect(put(round)).toBe(true);
        await until(() => events.length === round);
        setOnline(cpu, false);
        await until(() => !buffer.cpus.includes(cpu));
      }
      expect(events).toEqual([1, 2]);
    } finally {
      setOnline(cpu, true);
    }
  });

  switchTest("a CPU that goes online is read by the next drain", async () => {
    const cpu = switched as number;
    setOnline(cpu, false);
    try {
      using buffer = new PerfBuffer({ event: t.u32, size });
      using producer = new PerfProducer(buffer);
      setOnline(cpu, true);
      await Bun.sleep(checkMilliseconds + 20);
      expect(buffer.drain(() => {})).toBe(0);
      expect(buffer.cpus).toContain(cpu);
      onCpu(cpu, () => producer.putNumber(5));
      expect(buffer.drain((event) => expect([event, buffer.cpu]).toEqual([5, cpu]))).toBe(1);
    } finally {
      setOnline(cpu, true);
    }
  });
});
