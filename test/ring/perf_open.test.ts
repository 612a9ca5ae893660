import { describe, expect, test } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { PerfPages } from "../../src/ffi/perf_event.ts";
import {
  ArrayMap,
  BpfError,
  PerfBuffer,
  PerfEventArray,
  possibleCpus,
  RingBuf,
  t,
} from "../../src/index.ts";
import { refusalOf } from "../maps/refusal_of.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { PerfProducer } from "./perf_producer.ts";

const ENOENT = -2;
const size = 4096;

function drained(buffer: PerfBuffer<t.Type<number>>): number[] {
  const events: number[] = [];
  buffer.drain((event) => void events.push(event));
  return events;
}

describe("a perf buffer", () => {
  bpfTest("has the properties that it was created with", () => {
    using buffer = new PerfBuffer({ event: t.u64, name: "events" });
    expect(buffer).toMatchObject({
      type: "perf_event_array",
      name: "events",
      byteLength: 65536,
      watermark: undefined,
      keySize: 4,
      valueSize: 4,
      maxEntries: Math.max(...possibleCpus()) + 1,
      backlog: 0,
      cpu: -1,
    });
    expect(`${buffer}`).toBe('perf_event_array map "events"');
    expect(buffer.types.event).toBe(t.u64);
    expect(buffer.cpus.length).toBeGreaterThan(0);
    expect(possibleCpus()).toEqual(expect.arrayContaining([...buffer.cpus]));
    using other = new PerfBuffer({ event: t.u64, size: 8192, watermark: 4096 });
    expect(other).toMatchObject({ byteLength: 8192, watermark: 4096, paused: false });
    using third = new PerfBuffer({ event: t.u64, wakeupEvents: 100, paused: true });
    expect(third).toMatchObject({ wakeupEvents: 100, watermark: undefined, paused: true });
  });

  bpfTest("rejects invalid options and suggests a valid size", () => {
    const make = (options: object) => () => new PerfBuffer({ event: t.u32, ...options });
    for (const [wrong, remedy] of [
      [100, "did you mean 4096?"],
      [5000, "did you mean 8192?"],
      [4096.5, "did you mean 8192?"],
      [0, "did you mean 4096?"],
    ] as const) {
      expect(make({ size: wrong })).toThrow(RangeError);
      expect(make({ size: wrong })).toThrow(
        "size: expected a power of two that is a multiple of the page size",
      );
      expect(make({ size: wrong })).toThrow(remedy);
    }
    expect(make({ size: 2 ** 31 })).toThrow("at most 2^30, got 2147483648");
    for (const watermark of [0, -1, 1.5, 2049, "1"]) {
      expect(make({ size: 4096, watermark })).toThrow(RangeError);
      expect(make({ size: 4096, watermark })).toThrow(
        "watermark: expected an integer from 1 to 2048",
      );
    }
    for (const wakeupEvents of [0, -1, 1.5, 129, "1"]) {
      expect(make({ size: 4096, wakeupEvents })).toThrow(RangeError);
      // Records of 16 bytes in half of the buffer.
      expect(make({ size: 4096, wakeupEvents })).toThrow(
        "wakeupEvents: expected an integer from 1 to 128",
      );
    }
    expect(make({ watermark: 64, wakeupEvents: 2 })).toThrow(
      "wakeupEvents: cannot be combined with watermark: remove one of them",
    );
    expect(make({ paused: 1 })).toThrow("paused: expected true or false, got 1");
    expect(make({ watermarks: 1 })).toThrow('did you mean "watermark"?');
    expect(make({ maxEntries: 1 })).toThrow('unknown option "maxEntries"');
    expect(make({ event: undefined })).toThrow("event: expected a type such as t.u32");
    expect(make({ name: "no spaces" })).toThrow(RangeError);
  });

  test("rejects more memory than one mapping can have", () => {
    expect(() => new PerfPages(4, 8, 2 ** 30, "perf buffers")).toThrow(
      "size: 4 buffers of 1073741824 bytes, and a page more for each, are more than the 4 GiB",
    );
  });
});

describe("another object for the map", () => {
  bpfTest("throws while there is a first one, and takes over after its disposal", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/events`;
    const first = new PerfBuffer({ event: t.u32, size, pin });
    using map = first.dup();
    using producer = new PerfProducer(map);
    expect(map).toBeInstanceOf(PerfEventArray);
    expect([map.id, map.type]).toEqual([first.id, "perf_event_array"]);
    const others: readonly (() => PerfBuffer<t.Type<number>>)[] = [
      () => PerfBuffer.open(pin, { event: t.u32, size }),
      () => PerfBuffer.fromId(map.id, { event: t.u32 }),
      () => PerfBuffer.fromFd(map.fd, { event: t.u32, watermark: 64 }),
      () => new PerfBuffer({ event: t.u32, size, pin }),
    ];
    for (const open of others) {
      expect(open).toThrow(
        `${first} has a PerfBuffer already, and a second one would replace its perf events`,
      );
      producer.putNumber(5);
      expect(drained(first)).toEqual([5]);
    }
    first[Symbol.dispose]();
    for (const open of others) {
      using buffer = open();
      expect(buffer.id).toBe(map.id);
      expect(drained(buffer)).toEqual([]);
      producer.putNumber(6);
      expect(drained(buffer)).toEqual([6]);
    }
  });

  bpfTest(
    "gets no records after disposal of the perf buffer, which removes the perf events",
    () => {
      using bpffs = new DetachedMount("bpf");
      const pin = `${bpffs.path}/events`;
      const buffer = new PerfBuffer({ event: t.u32, size, pin });
      using map = PerfEventArray.open(pin);
      using producer = new PerfProducer(map);
      expect(producer.output(new Uint8Array(4))).toBe(0);
      buffer[Symbol.dispose]();
      expect(producer.output(new Uint8Array(4))).toBe(ENOENT);
    },
  );

  bpfTest("may have fewer entries than there are CPUs, and must be a perf_event_array", () => {
    using short = new PerfEventArray({ length: 1 });
    using buffer = PerfBuffer.fromFd(short.fd, { event: t.u32 });
    expect(buffer.cpus).toEqual([0]);
    using array = new ArrayMap({ value: t.u32, length: 1 });
    expect(() => PerfBuffer.fromFd(array.fd, { event: t.u32 })).toThrow(
      "type is array, not perf_event_array",
    );
    // @ts-expect-error: misspelt on purpose
    expect(() => PerfBuffer.fromFd(short.fd, { event: t.u32, sise: 4096 })).toThrow(
      'did you mean "size"?',
    );
    expect(() => PerfBuffer.fromFd(short.fd, { event: t.u32, size: 3 })).toThrow(RangeError);
    expect(() => PerfBuffer.fromId(0xffff_fff0, { event: t.u32 })).toThrow(BpfError);
    using ring = new RingBuf({ event: t.u32, size });
    expect(() => PerfBuffer.fromFd(ring.fd, { event: t.u32 })).toThrow(TypeError);
  });

  bpfTest("fails for a frozen map, and leaves no descriptor open", () => {
    using map = new PerfEventArray();
    map.freeze();
    const before = countResources();
    const refusal = refusalOf(() => PerfBuffer.fromFd(map.fd, { event: t.u32, size }));
    expect(refusal.code).toBe("EPERM");
    expect(refusal.message).toStartWith(`cannot store the perf event of CPU 0 in ${map}: `);
    expect(refusal.hint).toContain("frozen");
    expect(countResources()).toEqual(before);
    // The map can be claimed by another object after that.
    expect(() => PerfBuffer.fromFd(map.fd, { event: t.u32, size })).toThrow("frozen");
  });
});
