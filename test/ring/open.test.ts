import { expect } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { ArrayMap, BpfError, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { Producer } from "./producer.ts";

bpfTest("a size that the kernel would refuse is a RangeError that names one that would do", () => {
  for (const [size, remedy] of [
    [1, "4096 would do"],
    [100, "4096 would do"],
    [5000, "8192 would do"],
    [12288, "16384 would do"],
    [4096.5, "8192 would do"],
    [0, "4096 would do"],
    [2 ** 30 - 1, "1073741824 would do"],
  ] as const) {
    const make = () => new RingBuf({ size, event: t.u32 });
    expect(make).toThrow(RangeError);
    expect(make).toThrow(remedy);
    expect(make).toThrow(`got ${size}`);
  }
});

bpfTest("a size that is no size at all is refused without a remedy that cannot help", () => {
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
    expect(make).toThrow("size: a ring buffer takes a power of two");
    expect(make).not.toThrow(/NaN would do|-\d+ would do/);
  }
});

bpfTest("misspelt options and wrong types are named", () => {
  // @ts-expect-error: misspelt on purpose
  expect(() => new RingBuf({ sise: 4096, event: t.u32 })).toThrow('did you mean "size"?');
  // @ts-expect-error: no type on purpose
  expect(() => new RingBuf({ size: 4096 })).toThrow("event: expected a type such as t.u32");
  // @ts-expect-error: not called on purpose
  expect(() => new RingBuf({ size: 4096, event: t.bytes })).toThrow("meant to be called");
});

bpfTest("a ring says what it is", () => {
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

bpfTest("a ring opened by id or descriptor takes its size from the kernel", () => {
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
  // The one that it all began with is still whole.
  producer.putNumber(1);
  expect(ring.drain(() => {})).toBe(1);
});

bpfTest("another kind of map is no ring", () => {
  using array = new ArrayMap({ value: t.u32, length: 1 });
  const open = () => RingBuf.fromFd(array.fd, { event: t.u32 });
  expect(open).toThrow(TypeError);
  expect(open).toThrow("type is array, not ringbuf");
  expect(() => RingBuf.fromId(0xffff_fff0, { event: t.u32 })).toThrow(BpfError);
});

bpfTest("a pinned ring outlives its object, with what was in it", () => {
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

bpfTest("a ring of events is a ring of anything, for who does not look at them", () => {
  using ring = new RingBuf({ size: 4096, event: t.struct({ value: t.u32 }) });
  // The assignment is what is tested: it has to compile.
  const any: RingBuf<t.Type<unknown>> = ring;
  expect(any.drain(() => {})).toBe(0);
});
