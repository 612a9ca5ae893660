import { describe, expect } from "bun:test";
import {
  ArrayMap,
  BloomFilter,
  type BpfMap,
  Btf,
  HashMap,
  LpmTrie,
  LruHashMap,
  PerCpuHashMap,
  possibleCpus,
  Queue,
  t,
} from "../../src/index.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { bpftoolObstacle, runBpftool } from "../support/bpftool.ts";
import { repetitions } from "../support/effort.ts";
import { mapTest } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { endWorker } from "../support/end_worker.ts";

const key = t.struct({ address: t.ipv4, port: t.be16, proto: t.u8 });
const value = t.struct({ packets: t.u64Number, comm: t.cstring(16) });
const row = { packets: 7, comm: "bash" };

const dumpTest = testUnless(bpfObstacle ?? bpftoolObstacle);

/** Output of `bpftool map dump` for a map. */
async function dump(map: BpfMap): Promise<{ formatted: unknown }[]> {
  const { stdout, stderr, exitCode } = await runBpftool("map", "dump", "id", `${map.id}`);
  expect([exitCode, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout);
}

describe("types of keys and values", () => {
  bpfTest("are passed to the kernel for the map types that accept BTF", () => {
    const options = { key: t.u32, value, maxEntries: 8 };
    const cidr = { key: t.cidr4, value, maxEntries: 8 };
    for (const make of [
      () => new HashMap(options),
      () => new LruHashMap(options),
      () => new PerCpuHashMap(options),
      () => new ArrayMap({ value, length: 8 }),
      () => new LpmTrie(cidr),
    ]) {
      using map = make();
      const { btfId, btfKeyTypeId, btfValueTypeId } = map.info();
      expect([btfId, btfKeyTypeId, btfValueTypeId].every((id) => id > 0)).toBe(true);
    }
    using queue = new Queue({ value, maxEntries: 8 });
    expect(queue.info().btfId).toBe(0);
  });

  mapTest("bloom_filter")("are passed to the kernel for a Bloom filter", () => {
    using filter = new BloomFilter({ value, maxEntries: 8 });
    expect(filter.info().btfValueTypeId).toBeGreaterThan(0);
  });

  describe("with kinds of BTF types that came after BTF itself", () => {
    const later = t.struct({
      state: t.enum({ IDLE: 0, BUSY: 7, LOST: -1 }),
      small: t.enum({ A: 1, B: 2 }, { base: t.u8 }),
      version: t.bits(t.u8, 4),
      length: t.bits(t.u8, 4),
      mask: t.enum({ HIGH: 2n ** 63n }, { base: t.u64 }),
      ratio: t.f64,
      part: t.f32,
      either: t.union({ number: t.u32, bytes: t.bytes(4) }),
      wide: t.u128,
    });
    const sample = {
      state: "LOST",
      small: "B",
      version: 4,
      length: 5,
      mask: "HIGH",
      ratio: 0.5,
      part: -1.5,
      wide: 2n ** 100n,
    } as const;
    const stored = { ...sample, either: { number: 0x01020304 } };
    const read = { ...sample, either: { number: 0x01020304, bytes: Uint8Array.of(4, 3, 2, 1) } };

    bpfTest("are passed in the form that this kernel accepts", () => {
      using map = new HashMap({ key: later, value: later, maxEntries: 8 });
      const { btfId, btfKeyTypeId, btfValueTypeId } = map.info();
      expect([btfId, btfKeyTypeId, btfValueTypeId].every((id) => id > 0)).toBe(true);
      map.set(stored, stored);
      expect([...map]).toEqual([[read, read]]);
      expect(map.get(stored)).toEqual(read);
      const type = Btf.fromId(btfId).toType(btfValueTypeId);
      expect(type.size).toBe(later.size);
      const view = new DataView(new ArrayBuffer(type.size));
      later.write(view, 0, stored);
      const again = type.read(view, 0) as object;
      // Linux before 6.0 lacks signed and 64-bit enums, and before 5.13 floats.
      if (!isKernelSince("6.0")) expect(again).toMatchObject({ version: 4, wide: 2n ** 100n });
      else expect(again).toMatchObject({ ...sample, either: { number: 0x01020304 } });
    });

    bpfTest("are passed together with a spin lock, whose offset the kernel needs", () => {
      const locked = t.struct({ later, flag: t.bits(t.u32, 3), lock: t.spinLock });
      using map = new HashMap({ key: t.u32, value: locked, maxEntries: 8 });
      expect(map.info().btfValueTypeId).toBeGreaterThan(0);
      map.set(1, { later: stored, flag: 5 });
      expect(map.get(1, { lock: true })).toEqual({ later: read, flag: 5 });
    });

    bpfTest("become separate arrays of bytes for kernels that lack all of them", () => {
      const { types } = HashMap.kind.spec({ key: t.u32, value: later, maxEntries: 8 });
      const { bytes, valueTypeId } = types?.older as NonNullable<
        NonNullable<typeof types>["older"]
      >;
      const btf = Btf.parse(bytes);
      expect([...btf.ids("float"), ...btf.ids("enum64")]).toEqual([]);
      expect([...btf.ids("enum")].map((id) => btf.type(id).size)).toEqual([4, 1]);
      expect(btf.members(valueTypeId).map(({ name }) => name)).toEqual(Object.keys(later.fields));
      expect(btf.sizeOf(valueTypeId)).toBe(later.size);
      expect(HashMap.kind.spec({ key: t.u32, value, maxEntries: 8 }).types?.older).toBeUndefined();
    });
  });

  dumpTest("make bpftool print the names of fields", async () => {
    using map = new HashMap({ key, value, maxEntries: 8, name: "flows" });
    map.set({ address: "192.0.2.1", port: 443, proto: 6 }, row);
    const [entry] = await dump(map);
    expect(entry?.formatted).toEqual({
      // bpftool prints numbers in network order as if they were in host order.
      key: { address: { s_addr: 0x010200c0 }, port: 0xbb01, proto: 6 },
      value: { packets: 7, comm: "bash" },
    });
  });

  dumpTest("make bpftool print the value of each CPU", async () => {
    using map = new PerCpuHashMap({ key: t.u32, value, maxEntries: 8 });
    map.set(
      1,
      possibleCpus().map((_, index) => ({ ...row, packets: index })),
    );
    const [entry] = await dump(map);
    expect(entry?.formatted).toEqual({
      key: 1,
      values: possibleCpus().map((_, index) => ({
        cpu: index,
        value: { packets: index, comm: "bash" },
      })),
    });
  });
});

const Wide = t.struct({ lock: t.spinLock, copies: t.array(t.u64Number, 64) });
const wide = (number: number) => ({ copies: new Array<number>(64).fill(number) });

describe("values with a spin lock", () => {
  const makers = {
    "a hash": () => new HashMap({ key: t.u32, value: Wide, maxEntries: 8 }),
    "an array": () => new ArrayMap({ value: Wide, length: 8 }),
  };
  for (const [name, make] of Object.entries(makers)) {
    bpfTest(`in ${name} are stored, read, iterated and batched without their lock`, () => {
      using map:
        | HashMap<t.Type<number>, t.Type<t.Infer<typeof Wide>>>
        | ArrayMap<t.Type<t.Infer<typeof Wide>>> = make();
      map.set(1, wide(1)).set(1, wide(2), { lock: false });
      map.setMany([
        [2, wide(3)],
        [3, wide(4)],
      ]);
      expect(map.get(1)).toEqual(wide(2));
      expect(map.get(1, { lock: false })).toEqual(wide(2));
      expect(map.getMany([3, 2])).toEqual([wide(4), wide(3)]);
      expect(new Map(map.entries()).get(3)).toEqual(wide(4));
    });
  }

  bpfTest("are taken one by one and in batches", () => {
    using map = makers["a hash"]();
    map.setMany([
      [1, wide(1)],
      [2, wide(2)],
      [3, wide(3)],
    ]);
    expect(map.take(2)).toEqual(wide(2));
    expect([...map.takeAll()].map(([number]) => number).sort()).toEqual([1, 3]);
    map.set(5, wide(5));
    expect([...map.takeAllInBatches()]).toEqual([[[5, wide(5)]]]);
    expect(map.replace(5, wide(5))).toBe(false);
    expect(map.add(5, wide(6))).toBe(true);
  });

  bpfTest("are never a mixture while another thread stores them", async () => {
    using map = makers["an array"]();
    const state = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(new URL("./children/store_locked.ts", import.meta.url));
    const { promise, resolve } = Promise.withResolvers<void>();
    worker.onmessage = () => resolve();
    worker.postMessage({ fd: map.fd, state });
    while (Atomics.load(state, 0) === 0) await Bun.sleep(1);
    const seen = new Set<number>();
    for (let i = 0; i < repetitions(50_000, 5000); i++) {
      const copies = map.get(0)?.copies ?? [];
      const different = new Set(copies);
      if (different.size !== 1) throw new Error(`half ${[...different].join(" and half ")}`);
      seen.add(copies[0] as number);
    }
    Atomics.store(state, 1, 1);
    await promise;
    await endWorker(worker);
    expect(seen.size).toBeGreaterThan(1);
  });

  bpfTest("are rejected for map types without locks, and for maps without one", () => {
    expect(() => new LruHashMap({ key: t.u32, value: Wide, maxEntries: 8 })).toThrow(
      expect.objectContaining({ name: "BpfError" }),
    );
    const bare = t.struct({ lock: t.u32, copies: t.array(t.u64Number, 64) });
    using map = new HashMap({ key: t.u32, value: bare, maxEntries: 8 });
    using other = HashMap.fromFd(map.fd, { key: t.u32, value: Wide });
    expect(() => other.get(1)).toThrow(/EINVAL.*without BTF that declares a spin lock/);
    expect(other.get(1, { lock: false })).toBeUndefined();
  });

  bpfTest("must be structs, and keys must have no spin lock", () => {
    const refused = (keyType: t.Type<unknown>, valueType: t.Type<unknown>) => () =>
      new HashMap({ key: keyType, value: valueType, maxEntries: 1 });
    expect(refused(t.u32, t.spinLock)).toThrow(/value: a spin lock or timer must be a field/);
    expect(refused(t.u32, t.array(Wide, 1))).toThrow(/value: a spin lock or timer must be a field/);
    expect(refused(Wide, t.u32)).toThrow(/key: expected a type without a spin lock or timer, got/);
  });
});

describe("options of a call", () => {
  bpfTest("are checked, and the map is unchanged on an error", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8 });
    // Untyped options, as in JavaScript.
    const set = (options: unknown) => () => map.set(1, 1, options as { lock?: boolean });
    expect(set({ lokc: true })).toThrow(/options: unknown option "lokc": did you mean "lock"/);
    expect(set({ lock: 1 })).toThrow(/lock: expected true or false, got 1/);
    expect(set({ flags: -1 })).toThrow(/flags: expected an integer from 0/);
    expect(set({ flags: 1 })).toThrow(/flags: .*add\(\)/);
    expect(set({ flags: 2 })).toThrow(/flags: .*replace\(\)/);
    expect(map.count()).toBe(0);
    expect(map.set(1, 1, { flags: 0 }).get(1)).toBe(1);
    // BPF_F_LOCK, which this map does not support.
    expect(set({ flags: 4 })).toThrow(/EINVAL/);
  });
});

describe("types for which the kernel rejects BTF", () => {
  bpfTest("leave the map without BTF", () => {
    // The kernel requires a struct as the key of a trie.
    using trie = new LpmTrie({ key: t.bytes(8), value: t.u32, maxEntries: 4 });
    expect(trie.info().btfId).toBe(0);
    const network = Uint8Array.of(8, 0, 0, 0, 10, 0, 0, 0);
    expect(trie.set(network, 5).get(network)).toBe(5);
  });
});
