import { expect } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { ArrayMap, BpfError, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { Producer } from "./producer.ts";

bpfTest("a size that the kernel would reject is a RangeError that names a valid size", () => {
  for (const [size, remedy] of [
    [1, "did you mean 4096?"],
    [100, "did you mean 4096?"],
    [5000, "did you mean 8192?"],
    [12288, "did you mean 16384?"],
    [4096.5, "did you mean 8192?"],
    [0, "did you mean 4096?"],
    [2 ** 30 - 1, "did you mean 1073741824?"],
  ] as const) {
    const make = () => new RingBuf({ size, event: t.u32 });
    expect(make).toThrow(RangeError);
    expect(make).toThrow(remedy);
    expect(make).toThrow(`got ${size}`);
  }
});

bpfTest("an invalid size is rejected, and no invalid size is suggested", () => {
  for (const size of [
    2 ** 31,
    2 ** 32,
    -4096,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    "4096",
    undefined,
  ]) {
    // @ts-expect-error: wrong on purpose
    const make = () => new RingBuf({ size, event: t.u32 });
    expect(make).toThrow(RangeError);
    expect(make).toThrow("size: expected a power of two");
    expect(make).not.toThrow(/did you mean (NaN|-)/);
  }
});

bpfTest("errors name misspelt options and wrong types", () => {
  // @ts-expect-error: misspelt on purpose
  expect(() => new RingBuf({ sise: 4096, event: t.u32 })).toThrow('did you mean "size"?');
  // @ts-expect-error: the event type is missing
  expect(() => new RingBuf({ size: 4096 })).toThrow("event: expected a type such as t.u32");
  // @ts-expect-error: not called on purpose
  expect(() => new RingBuf({ size: 4096, event: t.bytes })).toThrow("meant to be called");
});

bpfTest("a ring has the properties that it was created with", () => {
  using ring = new RingBuf({ size: 8192, event: t.u64, name: "events" });
  expect(ring).toMatchObject({
    byteLength: 8192,
    maxEntries: 8192,
    keySize: 0,
    valueSize: 0,
    type: "ringbuf",
    name: "events",
  });
  expect(ring.types.event).toBe(t.u64);
  expect(`${ring}`).toBe('ringbuf map "events"');
  expect(ring.info().maxEntries).toBe(8192);
});

bpfTest("a ring that is opened by id or descriptor gets its size from the kernel", () => {
  using ring = new RingBuf({ size: 16384, event: t.u32 });
  using producer = new Producer(ring);
  for (const open of [
    () => RingBuf.fromId(ring.id, { event: t.u32 }),
    () => RingBuf.fromFd(ring.fd, { event: t.u32 }),
    () => ring.dup(),
  ]) {
    using other = open();
    expect(other.byteLength).toBe(16384);
    expect(other.id).toBe(ring.id);
    expect(other.fd).not.toBe(ring.fd);
    producer.putNumber(9);
    expect(other.drain((event) => expect(event).toBe(9))).toBe(1);
  }
  // The first object still works.
  producer.putNumber(1);
  expect(ring.drain(() => {})).toBe(1);
});

bpfTest("a map of another type cannot be opened as a ring", () => {
  using array = new ArrayMap({ value: t.u32, length: 1 });
  const open = () => RingBuf.fromFd(array.fd, { event: t.u32 });
  expect(open).toThrow(TypeError);
  expect(open).toThrow("type is array, not ringbuf");
  expect(() => RingBuf.fromId(0xffff_fff0, { event: t.u32 })).toThrow(BpfError);
});

bpfTest("a pinned ring outlives its object and keeps its events", () => {
  using bpffs = new DetachedMount("bpf");
  const path = `${bpffs.path}/ring`;
  {
    using ring = new RingBuf({ size: 4096, event: t.u32, pin: path });
    using producer = new Producer(ring);
    producer.putNumber(42);
  }
  using opened = RingBuf.open(path, { event: t.u32 });
  expect(opened.byteLength).toBe(4096);
  expect(opened.drain((event) => expect(event).toBe(42))).toBe(1);
  expect(() => new RingBuf({ size: 8192, event: t.u32, pin: path })).toThrow(
    ": size is 4096, not 8192",
  );
  opened.unpin();
  expect(() => RingBuf.open(path, { event: t.u32 })).toThrow("Nothing is pinned");
});

bpfTest("a RingBuf can be assigned to a RingBuf of unknown events", () => {
  using ring = new RingBuf({ size: 4096, event: t.struct({ value: t.u32 }) });
  // Tests that the assignment compiles.
  const any: RingBuf<t.Type<unknown>> = ring;
  expect(any.drain(() => {})).toBe(0);
});
