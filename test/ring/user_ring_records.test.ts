import { expect } from "bun:test";
import { UserRingMemory } from "../../src/ffi/ring_memory.ts";
import { asm, BpfError, Program, t, type UserRecord, UserRingBuf } from "../../src/index.ts";
import { mapTest } from "../support/needs.ts";
import { countResources } from "../support/resources.ts";
import { drainedRing } from "./rings.ts";
import { repetitions } from "../support/effort.ts";

const userRingTest = mapTest("user_ringbuf");

const numbered = t.struct({ length: t.u32, value: t.u32 });

function numbers(size?: number) {
  const made = drainedRing(numbered, size);
  return { ...made, put: (value: number) => made.ring.output({ length: 8, value }) };
}

userRingTest("programs drain events in the order in which they were written", () => {
  using setup = numbers();
  const { ring, drainer, put } = setup;
  for (const value of [3, 1, 2]) expect(put(value)).toBe(true);
  expect(ring.backlog).toBe(48);
  expect(drainer.readNumbers()).toEqual([3, 1, 2]);
  expect(ring.stats).toEqual({
    events: 3,
    bytes: 48,
    discarded: 0,
    refused: 0,
    waits: 0,
    wakeups: 0,
    polls: 0,
    backlog: 0,
  });
});

userRingTest("output() returns false for a full ring until programs have drained it", () => {
  using setup = numbers();
  const { ring, drainer, put } = setup;
  for (let value = 0; value < 256; value++) expect(put(value)).toBe(true);
  expect([put(256), put(256), ring.reserve(0)]).toEqual([false, false, undefined]);
  expect(ring.stats).toMatchObject({ events: 256, refused: 3, backlog: 4096 });
  expect(drainer.readNumbers({ limit: 2 })).toEqual([0, 1]);
  expect([put(256), put(257), put(258)]).toEqual([true, true, false]);
  expect(drainer.readNumbers()).toEqual(Array.from({ length: 256 }, (_, index) => index + 2));
});

/** A record of the following test: its bytes and its state. */
interface Written {
  readonly record: UserRecord<unknown>;
  readonly bytes: Uint8Array;
  state: "open" | "submitted" | "discarded";
}

userRingTest("records of any length are drained unchanged, over hundreds of wrap-arounds", () => {
  const seed = (Math.random() * 0x1_0000_0000) >>> 0;
  let state = seed;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) % limit;
  };
  using setup = numbers(8192);
  const { ring, drainer } = setup;
  /** The records that programs have not drained, in the order of their reservation. */
  let written: Written[] = [];
  const settle = (one: Written, how: "submit" | "discard"): void => {
    one.record[how]();
    one.state = how === "submit" ? "submitted" : "discarded";
  };
  const drain = (): void => {
    const firstOpen = written.findIndex((one) => one.state === "open");
    const ready = written.slice(0, firstOpen === -1 ? written.length : firstOpen);
    written = written.slice(ready.length);
    const submitted = ready.filter((one) => one.state === "submitted");
    expect(drainer.read()).toEqual(submitted.map(({ bytes }) => bytes));
  };
  try {
    for (let step = 0; step < 20_000; step++) {
      const open = written.filter((one) => one.state === "open");
      const record = ring.reserve(below(8) === 0 ? below(4097) : below(100));
      if (record === undefined || open.length > 5) {
        record?.discard();
        if (below(2) === 0) drain();
        for (const one of open.sort(() => below(3) - 1)) {
          settle(one, below(4) === 0 ? "discard" : "submit");
        }
        drain();
        continue;
      }
      const { bytes, view, length } = record;
      for (let index = 0; index < length; index++) bytes[index] = below(256);
      if (length >= 4) view.setUint32(0, length, true);
      const one: Written = { record, bytes: bytes.slice(), state: "open" };
      written.push(one);
      const what = below(10);
      if (what > 1) settle(one, what === 2 ? "discard" : "submit");
    }
    for (const one of written) if (one.state === "open") settle(one, "submit");
    drain();
  } catch (error) {
    throw new Error(`seed ${seed}: ${error}`, { cause: error });
  }
  expect(ring.stats.bytes).toBeGreaterThan(8192 * 200);
  expect(ring.backlog).toBe(0);
});

userRingTest("an open record blocks the records that were reserved after it", () => {
  using setup = numbers();
  const { ring, drainer, put } = setup;
  put(1);
  const [first, second, third] = [ring.reserve(), ring.reserve(), ring.reserve()];
  put(5);
  third?.set({ length: 8, value: 4 }).submit();
  second?.discard();
  expect(drainer.readNumbers()).toEqual([1]);
  expect(drainer.readNumbers()).toEqual([]);
  expect(ring.backlog).toBe(64);
  first?.set({ length: 8, value: 2 }).submit();
  expect(drainer.readNumbers()).toEqual([2, 4, 5]);
  expect(ring.stats).toMatchObject({ events: 4, discarded: 1, backlog: 0 });
});

userRingTest("a value that the type rejects leaves the ring unchanged", () => {
  using setup = numbers();
  const { ring, drainer, put } = setup;
  expect(() => put(-1)).toThrow(RangeError);
  expect(() => put("1" as never)).toThrow(TypeError);
  const failing = () => {
    using record = ring.reserve();
    record?.set({ length: 8, value: -1 });
    record?.submit();
  };
  expect(failing).toThrow(RangeError);
  put(7);
  expect(drainer.readNumbers()).toEqual([7]);
  expect(ring.stats).toMatchObject({ events: 1, discarded: 1 });
});

userRingTest("lengths are checked before anything is written", () => {
  using setup = numbers();
  const { ring } = setup;
  for (const length of [-1, 1.5, 4089, Number.NaN, 2 ** 32, null, "8"]) {
    expect(() => ring.reserve(length as number)).toThrow(
      "length: expected an integer from 0 to 4088",
    );
  }
  using large = new UserRingBuf({ size: 4096, event: t.bytes(4089) });
  const message = "event: bytes(4089) needs 4089 bytes, but a record of the user_ringbuf map";
  expect(() => large.output(new Uint8Array(4089))).toThrow(message);
  expect(() => large.reserve()).toThrow("length: expected an integer from 0 to 4088, got 4089");
  expect([ring.backlog, large.backlog]).toEqual([0, 0]);
  using whole = new UserRingBuf({ size: 4096, event: t.bytes(4088) });
  expect(whole.output(new Uint8Array(4088))).toBe(true);
  expect([whole.backlog, whole.reserve(0)]).toEqual([4096, undefined]);
});

/** Returns a program that drains the ring and ignores its records. */
function swallow(ring: UserRingBuf<t.Type<unknown>>): Program {
  const { r0, r1, r2, r3, r4 } = asm;
  return new Program({
    section: "syscall",
    license: "GPL",
    maps: { ring },
    code: [
      ...[asm.ldMap(r1, "ring"), asm.ldFunc(r2, "each"), asm.mov(r3, asm.fp), asm.mov(r4, 0)],
      ...[asm.call("user_ringbuf_drain"), asm.exit()],
      ...[asm.func("each"), asm.mov(r0, 0), asm.exit()],
    ],
  });
}

userRingTest(
  "the longest record that can be reserved is the longest that the kernel accepts",
  () => {
    using ring = new UserRingBuf({ size: 2 ** 25, event: t.u32 });
    using program = swallow(ring);
    expect(() => ring.reserve(2 ** 24)).toThrow("from 0 to 16777215");
    using record = ring.reserve(2 ** 24 - 1);
    record?.bytes.fill(1);
    record?.submit();
    expect([program.testRun().returnValue, ring.backlog]).toEqual([1, 0]);
    // For one byte more, the kernel returns E2BIG in each drain, even if the record is discarded.
    using memory = new UserRingMemory(ring.fd, ring.byteLength, "ring");
    const at = memory.producerHalves[0] as number;
    memory.headers[at / 4] = (2 ** 24) | 0x4000_0000;
    memory.producerHalves[0] = at + 2 ** 24 + 8;
    for (let attempt = 0; attempt < 2; attempt++) {
      expect([program.testRun().returnValue | 0, ring.backlog]).toEqual([-7, 2 ** 24 + 8]);
    }
  },
);

userRingTest("the kernel accepts positions beyond 2^32", () => {
  using ring = new UserRingBuf({ size: 2 ** 25, event: t.u32 });
  using program = swallow(ring);
  let drained = 0;
  for (let count = 0; count < 600; count++) {
    using record = ring.reserve(2 ** 24 - 1 - (count % 100));
    if (count % 2 === 0) record?.submit();
    else record?.discard();
    drained += program.testRun().returnValue;
  }
  expect(drained).toBe(300);
  expect(ring.stats).toMatchObject({ events: 300, discarded: 300, refused: 0, backlog: 0 });
  expect(ring.stats.bytes).toBeGreaterThan(2 ** 33);
});

userRingTest("several objects for one ring can write in turn, even while records are open", () => {
  using setup = numbers();
  const { ring, drainer, put } = setup;
  using other = ring.dup();
  put(1);
  other.output({ length: 8, value: 2 });
  const record = ring.reserve();
  other.output({ length: 8, value: 4 });
  put(5);
  record?.set({ length: 8, value: 3 }).submit();
  expect(drainer.readNumbers()).toEqual([1, 2, 3, 4, 5]);
  expect([ring.stats.events, other.stats.events]).toEqual([3, 2]);
});

userRingTest("a frozen ring can be opened and drained, but not written to", () => {
  using setup = numbers();
  setup.ring.freeze();
  const message =
    "mmap: EPERM (operation not permitted). The map is frozen: only programs can write to it";
  expect(() => setup.put(1)).toThrow(message);
  expect(() => setup.ring.backlog).toThrow(BpfError);
  expect(setup.drainer.drain()).toBe(0);
});

userRingTest("1,000 rings with records leave no descriptor open", () => {
  const before = countResources();
  for (let round = 0; round < repetitions(1000); round++) {
    using ring = new UserRingBuf({ size: 4096, event: t.u32 });
    ring.output(round);
    void ring.reserve(8)?.bytes;
  }
  expect(countResources()).toEqual(before);
});
