import { expect, test } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  ArrayMap,
  asm,
  BpfError,
  type Code,
  DisposedError,
  HashMap,
  Program,
  t,
  features,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";

const { r0, r1, r2, r3, r4, r6, r10 } = asm;
const packet = new Uint8Array(14);

/** Loads a socket filter with the given code. */
function socket(code: Code, rest: Partial<ConstructorParameters<typeof Program>[0]> = {}) {
  return new Program({ section: "socket", license: "GPL", code, ...rest });
}

bpfTest("testRun() returns the program's r0", () => {
  using program = socket([asm.mov(r0, 7), asm.exit()], { name: "seven" });
  const result = program.testRun({ data: packet });
  expect(result.returnValue).toBe(7);
  expect(result.data).toEqual(packet);
  expect(result.duration).toBeGreaterThanOrEqual(0);
  expect(`${program}`).toBe('socket program "seven"');
  expect(program.section).toBe("socket");
  expect(program.log).toBe("");
});

bpfTest("testRun() passes the packet to the program, and returns the changed packet", () => {
  using program = new Program({
    section: "tc",
    license: "GPL",
    code: [
      asm.mov(r6, r1),
      asm.stw(r10, -4, 0x44332211),
      asm.mov(r2, 2),
      asm.mov(r3, r10),
      asm.add(r3, -4),
      asm.mov(r4, 4),
      asm.mov(asm.r5, 0),
      asm.call("skb_store_bytes"),
      asm.ldxw(r0, r6, 0),
      asm.exit(),
    ],
  });
  const data = Uint8Array.from({ length: 64 }, (_, index) => index);
  const { returnValue, data: changed } = program.testRun({ data });
  expect(returnValue).toBe(64);
  expect([...changed.subarray(0, 8)]).toEqual([0, 1, 0x11, 0x22, 0x33, 0x44, 6, 7]);
  expect(changed.length).toBe(64);
  // The input is copied, so the caller's memory is unchanged.
  expect(data[2]).toBe(2);
});

bpfTest("testRun() runs the program `repeat` times", () => {
  using state = new ArrayMap({ value: t.u64Number, length: 1 });
  using program = socket(
    [
      asm.ldMapValue(r1, "state", 0),
      asm.mov(r2, 1),
      asm.atomicAdd(r1, 0, r2),
      asm.mov(r0, 0),
    ].concat(asm.exit()),
    { maps: { state } },
  );
  program.testRun({ data: packet });
  expect(state.get(0)).toBe(1);
  program.testRun({ data: packet, repeat: 1000 });
  expect(state.get(0)).toBe(1001);
});

bpfTest("testRun() passes a raw tracepoint 8 bytes of context per argument", () => {
  using program = new Program({
    section: "raw_tp",
    license: "GPL",
    code: [asm.ldxdw(r0, r1, 8), asm.exit()],
  });
  const ctx = new Uint8Array(new BigUint64Array([1n, 0x1234n]).buffer);
  expect(program.testRun({ ctx }).returnValue).toBe(0x1234);
});

testWith(features.programTypes.get("syscall"))(
  "testRun() returns the changed context of a syscall program",
  () => {
    using program = new Program({
      section: "syscall",
      license: "GPL",
      code: [
        asm.ldxdw(r2, r1, 0),
        asm.add(r2, 1),
        asm.stxdw(r1, 8, r2),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
    const ctx = new Uint8Array(new BigUint64Array([41n, 0n, 7n]).buffer);
    const result = program.testRun({ ctx });
    expect(result.ctx).toEqual(new Uint8Array(new BigUint64Array([41n, 42n, 7n]).buffer));
    // The input is copied, so the caller's memory is unchanged.
    expect(ctx[8]).toBe(0);
  },
);

bpfTest("testRun() passes the context of a packet, and returns all of it", () => {
  /** The offset of `mark` in `struct __sk_buff`. */
  const mark = 8;
  using program = new Program({
    section: "tc",
    license: "GPL",
    code: [asm.ldxw(r0, r1, mark), asm.mov(r2, r0), asm.add(r2, 1), asm.stxw(r1, mark, r2)].concat(
      asm.exit(),
    ),
  });
  const ctx = new Uint8Array(new Uint32Array([0, 0, 41]).buffer);
  const result = program.testRun({ data: packet, ctx });
  expect(result.returnValue).toBe(41);
  expect(new DataView(result.ctx.buffer).getUint32(mark, true)).toBe(42);
  expect(result.ctx.length).toBeGreaterThanOrEqual(184);
  expect(program.testRun({ data: packet }).ctx).toEqual(new Uint8Array(0));
});

bpfTest("a descriptor that is not a map's is rejected before the program is loaded", () => {
  const code = [asm.ldMap(r1, "map"), asm.mov(r0, 0), asm.exit()];
  using other = socket([asm.mov(r0, 0), asm.exit()]);
  for (const fd of [99_999, -1, 0, other.fd, 1.5, "3" as unknown as number]) {
    const load = () => socket(code, { maps: { map: { fd } } });
    expect(load).toThrow(TypeError);
    expect(load).toThrow('maps: "map": expected a map, but its fd ');
  }
});

bpfTest("a BpfError about rejected input names the input that the program type takes", () => {
  using program = socket([asm.mov(r0, 0), asm.exit()]);
  for (const options of [{}, { data: new Uint8Array(13) }, { data: new Uint8Array(0) }]) {
    const run = () => program.testRun(options);
    expect(run).toThrow(BpfError);
    expect(run).toThrow(
      /bpf\(BPF_PROG_TEST_RUN\): EINVAL .*a packet \(data\) of at least 14 bytes/,
    );
  }
  using tracepoint = new Program({
    section: "tp",
    license: "GPL",
    code: [asm.mov(r0, 0), asm.exit()],
  });
  expect(() => tracepoint.testRun({ ctx: new Uint8Array(8) })).toThrow("do not support test runs");
});

bpfTest("testRun() checks its arguments before it calls the kernel", () => {
  using program = socket([asm.mov(r0, 0), asm.exit()]);
  // @ts-expect-error: wrong on purpose
  expect(() => program.testRun({ data: [1, 2] })).toThrow("data: expected a Uint8Array");
  // @ts-expect-error: wrong on purpose
  expect(() => program.testRun({ ctx: "no" })).toThrow("ctx: expected a Uint8Array");
  expect(() => program.testRun({ data: packet, repeat: 0 })).toThrow(RangeError);
  // @ts-expect-error: misspelt on purpose
  expect(() => program.testRun({ dada: packet })).toThrow('did you mean "data"?');
});

bpfTest("code refers to maps by name or directly", () => {
  using counts = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
  counts.set(5, 99);
  for (const reference of ["counts", counts] as const) {
    using program = socket(
      [
        asm.stw(r10, -4, 5),
        asm.ldMap(r1, reference),
        asm.mov(r2, r10),
        asm.add(r2, -4),
        asm.call("map_lookup_elem"),
        asm.jeq(r0, 0, "absent"),
        asm.ldxw(r0, r0, 0),
        asm.label("absent"),
        asm.exit(),
      ],
      { maps: { counts } },
    );
    expect(program.testRun({ data: packet }).returnValue).toBe(99);
  }
});

test("a reference to a missing map is an error with a hint", () => {
  const load = (maps: Record<string, { fd: number }>) =>
    socket([asm.ldMap(r1, "counts"), asm.mov(r0, 0), asm.exit()], { maps });
  expect(() => load({ count: { fd: 9 } })).toThrow('did you mean "count"?');
  expect(() => load({})).toThrow('refers to a map "counts" that was not passed');
  // An inherited property of the object is not a map.
  expect(() =>
    socket([asm.ldMap(r1, "toString"), asm.mov(r0, 0), asm.exit()], { maps: {} }),
  ).toThrow("that was not passed");
});

bpfTest("a reference to a disposed map throws DisposedError", () => {
  const counts = new ArrayMap({ value: t.u32, length: 1 });
  counts[Symbol.dispose]();
  const load = () => socket([asm.ldMap(r1, counts), asm.mov(r0, 0), asm.exit()]);
  expect(load).toThrow(DisposedError);
});

bpfTest("a program reads and writes the value of an array map by its address", () => {
  using state = new ArrayMap({ value: t.array(t.u32, 4), length: 1 });
  state.set(0, [10, 20, 30, 40]);
  using program = socket(
    [asm.ldMapValue(r1, "state", 8), asm.ldxw(r0, r1, 0), asm.stw(r1, 4, 77), asm.exit()],
    { maps: { state } },
  );
  expect(program.testRun({ data: packet }).returnValue).toBe(30);
  expect(state.get(0)).toEqual([10, 20, 30, 77]);
});

test("the options are checked before the kernel is called", () => {
  const code = [asm.mov(r0, 0), asm.exit()];
  // @ts-expect-error: misspelt on purpose
  expect(() => socket(code, { licence: "GPL" })).toThrow('did you mean "license"?');
  // @ts-expect-error: wrong on purpose
  expect(() => socket(code, { license: 1 })).toThrow('license: expected a string such as "GPL"');
  expect(() => socket(code, { license: "GPL\0x" })).toThrow("license: expected a string");
  // @ts-expect-error: misspelt on purpose
  expect(() => socket(code, { log: "verbos" })).toThrow('did you mean "verbose"?');
  // @ts-expect-error: wrong on purpose
  expect(() => socket(code, { log: "toString" })).toThrow("log: unknown");
  // @ts-expect-error: wrong on purpose
  expect(() => socket(code, { maps: null })).toThrow("maps: expected an object of maps by name");
  expect(() => socket(code, { name: "sixteen letters!" })).toThrow(RangeError);
  expect(() => socket(code, { name: "sixteen_letters_" })).toThrow("at most 15 characters");
  expect(() => socket([])).toThrow("the program is empty");
});

bpfTest("info() has the type, the name and the tag", () => {
  using program = socket([asm.mov(r0, 1), asm.exit()], { name: "fifteen_letters" });
  using same = socket([asm.mov(r0, 1), asm.exit()]);
  using other = socket([asm.mov(r0, 2), asm.exit()]);
  const info = program.info();
  expect(info).toMatchObject({ type: "socket_filter", name: "fifteen_letters" });
  expect(info.id).toBeGreaterThan(0);
  expect(info.tag).toMatch(/^[0-9a-f]{16}$/);
  expect(info.translatedSize).toBeGreaterThanOrEqual(16);
  expect([same.info().tag, other.info().tag === info.tag]).toEqual([info.tag, false]);
  expect(`${same}`).toBe("socket program");
});

bpfTest("a program is pinned and unpinned, and errors name the cause", () => {
  using bpffs = new DetachedMount("bpf");
  const path = `${bpffs.path}/program`;
  using program = socket([asm.mov(r0, 0), asm.exit()]);
  expect(() => program.unpin()).toThrow("was not pinned by this object");
  expect(program.pin(path)).toBe(program);
  expect(() => program.pin(path)).toThrow(/EEXIST.*remove it, or open what is pinned there/);
  expect(program.unpin()).toBe(true);
  expect(program.pin(path).unpin(path)).toBe(true);
  expect(() => program.pin(undefined as unknown as string)).toThrow(TypeError);
  for (const wrong of ["", "/a\0b"]) {
    expect(() => program.pin(wrong)).toThrow(TypeError);
    expect(() => program.unpin(wrong)).toThrow(TypeError);
  }
  expect(() => program.pin("/tmp/bun-bpf-no-bpffs")).toThrow(/must be on a BPF file system/);
});

bpfTest("testRun() copies its input once, even if its length property changes", () => {
  let asked = 0;
  class Growing extends Uint8Array {
    // The length differs between the allocation and the call.
    override get length(): number {
      return asked++ % 2 === 0 ? 8 : 3000;
    }
    override get byteLength(): number {
      return this.length;
    }
  }
  using tracing = new Program({
    section: "raw_tp",
    license: "GPL",
    code: [asm.ldxdw(r0, r1, 0), asm.exit()],
  });
  const ctx = new Growing(Uint8Array.of(0x34, 0x12, 0, 0, 0, 0, 0, 0));
  for (let round = 0; round < 4; round++) {
    expect(tracing.testRun({ ctx }).returnValue).toBe(0x1234);
    asked = round;
  }
  using program = socket([asm.ldxw(r0, r1, 0), asm.exit()]);
  for (let round = 0; round < 4; round++) {
    const { returnValue, data } = program.testRun({ data: new Growing(64) });
    expect([returnValue, data]).toEqual([64 - 14, new Uint8Array(64)]);
    asked = round;
  }
});

bpfTest("a disposed program throws DisposedError", () => {
  const program = socket([asm.mov(r0, 0), asm.exit()]);
  program[Symbol.dispose]();
  program[Symbol.dispose]();
  expect(program.disposed).toBe(true);
  for (const use of [
    () => program.fd,
    () => program.info(),
    () => program.testRun({ data: packet }),
    () => program.pin("/nowhere"),
    () => program.unpin("/nowhere"),
  ]) {
    expect(use).toThrow(DisposedError);
  }
});

bpfTest("1,000 programs that ran and were disposed of leave nothing open", () => {
  const before = countResources();
  for (let round = 0; round < repetitions(1000); round++) {
    using program = socket([asm.mov(r0, 0), asm.exit()]);
    program.testRun({ data: packet });
  }
  for (let round = 0; round < 100; round++) {
    expect(() => socket([asm.exit()])).toThrow("R0 !read_ok");
  }
  expect(countResources()).toEqual(before);
});
