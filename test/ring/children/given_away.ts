/** @module Transfers an ArrayBuffer that the library returned, disposes of its owner, and accesses the memory after that. */
import {
  Arena,
  ArrayMap,
  HashMap,
  PerfBuffer,
  RingBuf,
  t,
  UserRingBuf,
} from "../../../src/index.ts";
import { Producer } from "../producer.ts";
import { PerfProducer } from "../perf_producer.ts";

const [kind, way] = process.argv.slice(2) as [keyof typeof kinds, keyof typeof ways];

/** Ways to transfer an ArrayBuffer. Each returns the new ArrayBuffer. */
const ways = {
  transfer: async (buffer: ArrayBuffer) => buffer.transfer(),
  clone: async (buffer: ArrayBuffer) => structuredClone(buffer, { transfer: [buffer] }),
  async message(buffer: ArrayBuffer) {
    const { port1, port2 } = new MessageChannel();
    const received = new Promise<ArrayBuffer>((resolve) => {
      port2.onmessage = ({ data }) => {
        resolve(data);
        port2.close();
      };
    });
    port1.postMessage(buffer, [buffer]);
    return await received;
  },
};

/** Reads the memory, and writes to it if that is allowed, in optimized code. */
function use(buffer: ArrayBuffer, writable: boolean): void {
  const bytes = new Uint8Array(buffer);
  let total = 0;
  for (let round = 0; round < 2000; round++) {
    for (let at = 0; at < bytes.length; at += 61) {
      if (writable) bytes[at] = round;
      total += bytes[at] as number;
    }
  }
  if (!(total >= 0)) throw new Error("read nothing");
}

async function check(buffer: ArrayBuffer, writable: boolean, owner: Disposable): Promise<void> {
  const taken = await ways[way](buffer);
  if (!buffer.detached || taken.byteLength === 0) throw new Error("was not transferred");
  use(taken, writable);
  owner[Symbol.dispose]();
  owner[Symbol.dispose]();
  use(taken, writable);
  Bun.gc(true);
  // The next mapping could get the same address.
  using successor = new RingBuf({ size: 65536, event: t.u32 });
  use(taken, writable);
  if (successor.drain(() => {}) !== 0) throw new Error("the next ring was written to");
  Bun.gc(true);
  use(taken, writable);
}

/** Calls `fn` and returns the message of its error. */
function messageOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return (error as Error).message;
  }
  return "no error";
}

const kinds = {
  async record() {
    const ring = new UserRingBuf({ size: 65536, event: t.u32 });
    const record = ring.reserve(5000);
    const settled = ring.reserve(100);
    if (record === undefined || settled === undefined) throw new Error("no room");
    await ways[way](settled.bytes.buffer);
    settled.submit();
    await check(record.bytes.buffer, true, ring);
  },
  async ring() {
    const ring = new RingBuf({ size: 65536, event: t.u32 });
    using producer = new Producer(ring);
    for (let value = 0; value < 10; value++) producer.putNumber(value);
    let buffer: ArrayBuffer | undefined;
    ring.drainRaw((view) => (buffer = view.buffer as ArrayBuffer));
    await check(buffer as ArrayBuffer, false, ring);
  },
  async perf() {
    const ring = new PerfBuffer({ event: t.u64Number });
    using producer = new PerfProducer(ring);
    producer.putNumber(1);
    let buffer: ArrayBuffer | undefined;
    ring.drainRaw((view) => (buffer = view.buffer as ArrayBuffer));
    await check(buffer as ArrayBuffer, false, ring);
  },
  async array() {
    const map = new ArrayMap({ value: t.u64, length: 1024, mmap: true });
    await check(map.view.buffer as ArrayBuffer, true, map);
  },
  async arena() {
    const arena = new Arena({ pages: 4 });
    const other = arena.dup();
    await check(arena.view.buffer as ArrayBuffer, true, arena);
    other.view.setUint32(0, 1);
    other[Symbol.dispose]();
  },
  async codec() {
    let given: ArrayBuffer | undefined;
    const value = t.custom<number>({
      size: 8,
      read(view, offset) {
        given ??= view.buffer as ArrayBuffer;
        return view.getUint32(offset, true);
      },
      write: (view, offset, number) => view.setUint32(offset, number, true),
    });
    const map = new HashMap({ key: t.u32, value, maxEntries: 10_000 });
    for (let key = 0; key < 5000; key++) map.set(key, key);
    map.get(1);
    const taken = await ways[way](given as ArrayBuffer);
    use(taken, true);
    // The memory for the arguments of calls was transferred. That must be an error, not a crash.
    console.log(messageOf(() => map.get(1)));
  },
  async encoder() {
    let given: ArrayBuffer | undefined;
    const event = t.custom<number>({
      size: 8,
      read: () => 0,
      write(view, offset, number) {
        given ??= view.buffer as ArrayBuffer;
        view.setUint32(offset, number, true);
      },
    });
    const ring = new UserRingBuf({ size: 65536, event });
    const record = ring.reserve(5000);
    ring.output(1);
    await check(given as ArrayBuffer, true, ring);
    record?.[Symbol.dispose]();
  },
};

await kinds[kind]();
console.log("survived");
