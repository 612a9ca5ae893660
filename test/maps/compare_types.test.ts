/** Comparison of the types that a map is used with and those that the kernel has for it. */
import { describe, expect } from "bun:test";
import { closeSync } from "node:fs";
import { DataBtfBuilder } from "../../src/btf/builder.ts";
import { encodeBtf } from "../../src/btf/encode.ts";
import {
  ArrayMap,
  BpfFileSystem,
  checkMapTypes,
  HashMap,
  LpmTrie,
  PerCpuArrayMap,
  Queue,
  t,
} from "../../src/index.ts";
import { createFromSpec } from "../../src/maps/create.ts";
import { HASH } from "../../src/maps/map_types.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";

type AnyType = t.Type<unknown>;

/** Returns the reported differences of a map with one value type that is opened with another one of the same size. */
function differences(made: AnyType, used: AnyType): string[] {
  using map = new HashMap({ key: t.u32, value: made, maxEntries: 1 });
  return differencesOf(map.fd, used);
}

function differencesOf(fd: number, value: AnyType): string[] {
  using map = HashMap.fromFd(fd, { key: t.u32, value });
  try {
    expect(checkMapTypes(map)).toBe(true);
    return [];
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    const [, text] =
      /^the types of the hash map \d+ differ from those that the kernel has for it: (.*)$/.exec(
        (error as Error).message,
      )!;
    return text!.split("; ");
  }
}

const everything = t.struct({
  ...{ a: t.u8, b: t.i16, c: t.bool, d: t.be32, e: t.u64, f: t.u64Number, g: t.cstring(7) },
  ...{ h: t.bytes(3), i: t.ipv4, j: t.ipv6, k: t.mac, l: t.array(t.u16, 3), m: t.array(t.u8, 4) },
  n: t.struct({ inner: t.array(t.struct({ x: t.i32, y: t.i64 }), 2) }),
  "odd name": t.u32,
  "odd-name": t.u32,
  odd_name: t.u32,
  oddName: t.u32,
  own: t.custom<number>({ size: 4, read: () => 0, write: () => {} }),
});

describe("the types of a map", () => {
  bpfTest("of every map class match those that the library gave to the kernel", () => {
    using hash = new HashMap({ key: everything, value: everything, maxEntries: 1 });
    using array = new ArrayMap({ value: everything, length: 1 });
    using perCpu = new PerCpuArrayMap({ value: t.u64, length: 1 });
    using trie = new LpmTrie({ key: t.cidr6, value: everything, maxEntries: 1 });
    for (const map of [hash, array, perCpu, trie]) expect(checkMapTypes(map)).toBe(true);
  });

  bpfTest("match if only names or signs differ, or if one is bytes", () => {
    const made = t.struct({ rx_bytes: t.u64, pid: t.i32, port: t.be16, x: t.u16, ip: t.ipv4 });
    const used = t.struct({ rxBytes: t.i64, pid: t.u32, port: t.u16, x: t.bytes(2), ip: t.u32 });
    expect(differences(made, used)).toEqual([]);
    expect(differences(everything, t.bytes(everything.size))).toEqual([]);
    expect(differences(t.bytes(everything.size), everything)).toEqual([]);
  });

  bpfTest("of the same size are reported with each difference and its place", () => {
    const made = t.struct({ packets: t.u32, bytes: t.u32, list: t.array(t.u32, 4), last: t.u64 });
    // Opening succeeds, because the sizes match.
    expect(
      differences(
        made,
        t.struct({ bytes: t.u32, packets: t.u32, list: t.array(t.u64, 2), first: t.u64 }),
      ),
    ).toEqual([
      "value.bytes is at byte 0 here, and at 4 in the kernel",
      "value.packets is at byte 4 here, and at 0 in the kernel",
      "value.list has 2 elements here, and 4 in the kernel",
      "value.first is present here, and missing in the kernel",
      "value.last is missing here, and present in the kernel",
    ]);
    const halves = t.struct({ low: t.u32, high: t.u32 });
    expect(differences(t.u64, halves)).toEqual([
      "value is a struct here, and an integer in the kernel",
    ]);
    expect(differences(halves, t.array(t.u32, 2))).toEqual([
      "value is an array here, and a struct in the kernel",
    ]);
    expect(differences(t.array(t.struct({ a: t.u16, b: t.u16 }), 2), t.array(t.u32, 2))).toEqual([
      "value[] is an integer here, and a struct in the kernel",
    ]);
    expect(
      differences(
        t.struct({ a: t.u8, b: t.u8, c: t.u16 }),
        t.struct({ a: t.u16, b: t.u8, c: t.u8 }),
      ),
    ).toEqual([
      "value.a has 2 bytes here, and 1 in the kernel",
      "value.b is at byte 2 here, and at 1 in the kernel",
      "value.c is at byte 3 here, and at 2 in the kernel",
    ]);
  });

  bpfTest(
    "match for all kinds of types, also if the kernel has bytes instead of bit-fields",
    () => {
      const bits = { a: t.bits(t.u32, 3), b: t.bits(t.u32, 20), c: t.bits(t.bool, 1) } as const;
      const rest = { d: t.u32, e: t.bits(t.enum({ A: 1 }), 9), f: t.bits(t.u64, 40) } as const;
      const all = t.struct({
        ...bits,
        ...rest,
        ...{ g: t.f32, h: t.f64, i: t.union({ x: t.u32, y: t.f32 }), j: t.u128, k: t.i128 },
        ...{ l: t.enum({ A: 1 }, { base: t.u8 }), m: t.enum({ A: 1n }, { base: t.u64 }) },
      });
      const packed = t.struct({ g: t.u8, ...bits, ...rest, h: t.f64 }, { packed: true });
      // The kernel needs BTF to find the lock, and the library then describes bit-fields as bytes.
      const locked = t.struct({ lock: t.spinLock, ...bits, ...rest });
      for (const value of [all, packed, locked]) expect(differences(value, value)).toEqual([]);
    },
  );

  bpfTest(
    "match if the kernel has them in the form for kernels that lack kinds of BTF types",
    () => {
      const value = t.struct({
        ...{ a: t.f32, b: t.f64, c: t.enum({ A: -1 }), d: t.enum({ A: 1n }, { base: t.u64 }) },
        e: t.u32,
      });
      const { older } = encodeBtf({ key: t.u32, value });
      const spec = { type: "hash", keySize: 4, valueSize: value.size, maxEntries: 1 } as const;
      const common = { flags: 0, name: "", numaNode: -1, mapExtra: 0 };
      const types = { ...older!, areRequired: true };
      const fd = createFromSpec(HASH, { ...spec, ...common, types });
      try {
        expect(differencesOf(fd, value)).toEqual([]);
      } finally {
        closeSync(fd);
      }
    },
  );

  bpfTest("match anything of their size if they are custom types, regardless of their kind", () => {
    for (const kind of ["struct", "array", "union", "bits", "enum"]) {
      const own = { kind, name: "own", size: 8, align: 4, read: () => 0, write: () => {} };
      expect(differences(t.struct({ a: t.u32, b: t.u32 }), own)).toEqual(
        kind === "enum" ? ["value is an integer here, and a struct in the kernel"] : [],
      );
      expect(differences(t.struct({ a: own }), t.struct({ a: t.u64 }))).toEqual([]);
    }
  });

  bpfTest("are compared bit by bit if they have bit-fields", () => {
    const made = t.struct({ a: t.bits(t.u32, 3), b: t.bits(t.u32, 5), c: t.bits(t.u32, 24) });
    expect(
      differences(
        made,
        t.struct({ b: t.bits(t.u32, 5), a: t.bits(t.u32, 4), d: t.bits(t.u32, 23) }),
      ),
    ).toEqual([
      "value.b is at bit 0 here, and at 3 in the kernel",
      "value.a has 4 bits here, and 3 in the kernel",
      "value.d is present here, and missing in the kernel",
      "value.c is missing here, and present in the kernel",
    ]);
    expect(differences(made, t.struct({ a: t.u32 }))).toEqual([
      "value.a has 32 bits here, and 3 in the kernel",
      "value.b is missing here, and present in the kernel",
      "value.c is missing here, and present in the kernel",
    ]);
    // An integer with the same number of bits at the same offset matches.
    expect(
      differences(
        t.struct({ a: t.bits(t.u32, 8), b: t.bits(t.u32, 24) }),
        t.struct({ a: t.u8, b: t.bytes(3) }),
      ),
    ).toEqual([]);
    expect(differences(t.struct({ a: t.u32 }), t.struct({ a: t.bits(t.u32, 31) }))).toEqual([
      "value.a has 31 bits here, and 32 in the kernel",
    ]);
  });

  bpfTest("of keys are compared too", () => {
    const made = { key: t.struct({ a: t.u32, b: t.u32 }), value: t.u32 } as const;
    const used = { key: t.struct({ b: t.u32, a: t.u32 }), value: t.u32 } as const;
    using bpffs = new BpfFileSystem();
    const path = `${bpffs.path}/map`;
    using _map = new HashMap({ ...made, maxEntries: 1, pin: path });
    using opened = HashMap.open(path, used);
    const before = countResources();
    expect(() => checkMapTypes(opened)).toThrow(
      /: key\.b is at byte 0 here, and at 4 in the kernel; key\.a /,
    );
    expect(countResources()).toEqual(before);
  });

  bpfTest("match those of a program that clang compiled", () => {
    const btf = new DataBtfBuilder();
    const u32 = btf.typedef("__u32", btf.int("unsigned int", 4));
    const u64 = btf.typedef("u64", btf.typedef("__u64", btf.int("unsigned long long", 8)));
    const text = btf.array(btf.int("char", 1), 16);
    const union = btf.union("", 8, [
      { name: "bytes", typeId: u64, bitOffset: 0 },
      { name: "halves", typeId: btf.array(u32, 2), bitOffset: 0 },
    ]);
    const anonymous = btf.struct("", 8, [{ name: "tgid", typeId: u32, bitOffset: 32 }]);
    const event = btf.typedef(
      "event_t",
      btf.struct("event", 40, [
        { name: "task_pid", typeId: btf.int("int", 4, { isSigned: true }), bitOffset: 0 },
        { name: "", typeId: union, bitOffset: 64 },
        { name: "comm", typeId: text, bitOffset: 128 },
        { name: "", typeId: anonymous, bitOffset: 256 },
      ]),
    );
    const types = { bytes: btf.encode(), keyTypeId: u32, valueTypeId: event, areRequired: true };
    const common = { flags: 0, name: "", numaNode: -1, mapExtra: 0 };
    const spec = { type: "hash", keySize: 4, valueSize: 40, maxEntries: 1, ...common } as const;
    const fd = createFromSpec(HASH, { ...spec, types });
    const plain = createFromSpec(HASH, spec);
    try {
      const head = { taskPid: t.i32, pad: t.bytes(4), bytes: t.u64Number, comm: t.cstring(16) };
      const value = t.struct({ ...head, hole: t.bytes(4), tgid: t.u32 });
      expect(differencesOf(fd, value)).toEqual([]);
      const wrong = t.struct({ ...head, tgid: t.u32, hole: t.bytes(4) });
      expect(differencesOf(fd, wrong)).toEqual([
        "value.tgid is at byte 32 here, and at 36 in the kernel",
      ]);
      // Returns false if the kernel has no types.
      using unknown = HashMap.fromFd(plain, { key: t.u32, value: wrong });
      expect(checkMapTypes(unknown)).toBe(false);
    } finally {
      closeSync(fd);
      closeSync(plain);
    }
  });

  bpfTest("are not compared for maps without keys", () => {
    using queue = new Queue({ value: everything, maxEntries: 1 });
    expect(checkMapTypes(queue)).toBe(false);
  });
});
