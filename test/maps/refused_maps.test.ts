/** Maps that the kernel or the library rejects: past limits, or of another type than the existing one. */
import { describe, expect, test } from "bun:test";
import { kernelConfig } from "../../src/ffi/kernel.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  ArrayMap,
  BloomFilter,
  BpfError,
  type BpfMap,
  features,
  HashMap,
  LpmTrie,
  LruHashMap,
  LruPerCpuHashMap,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  Queue,
  Stack,
  t,
} from "../../src/index.ts";
import { BLOOM_FILTER, type MapType, mapTypes } from "../../src/maps/map_types.ts";
import type { Type } from "../../src/types/type.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { mapTest } from "../support/needs.ts";

const cpus = possibleCpus();
const numbers = { key: t.u32, value: t.u32, name: "full" };
const networks = { key: t.cidr4, value: t.u32, name: "full" };
const values = { value: t.u32, name: "full" };

describe("maps past the kernel's limits", () => {
  const large = 32 * 1024;
  const mebibyte = 1024 * 1024;
  // Far more than any machine has, so that the kernel rejects it before allocating.
  const most = 2 ** 32 - 1;
  const refused: Readonly<Record<string, readonly [RegExp, () => Disposable]>> = {
    "a hash value of more than 32 KiB for each CPU": [
      /(E2BIG|ENOMEM).* 32 KiB: .* a value of 32769 bytes/,
      () => new PerCpuHashMap({ ...numbers, value: t.bytes(large + 1), maxEntries: 1 }),
    ],
    "an LRU hash value of more than 32 KiB for each CPU": [
      /(E2BIG|ENOMEM).* 32 KiB: .* a value of 32769 bytes/,
      () => new LruPerCpuHashMap({ ...numbers, value: t.bytes(large + 1), maxEntries: 64 }),
    ],
    "an array value of more than 32 KiB for each CPU": [
      /(E2BIG|ENOMEM).* 32 KiB: .* a value of 32769 bytes/,
      () => new PerCpuArrayMap({ value: t.bytes(large + 1), length: 1 }),
    ],
    "a large value": [
      /E2BIG.*too large for its type: a key of 4 and a value of 67108864 bytes/,
      () => new HashMap({ ...numbers, value: t.bytes(64 * mebibyte), maxEntries: 1 }),
    ],
    "a large key": [
      /E2BIG.*too large for its type: a key of 67108864 and a value of 4 bytes/,
      () => new HashMap({ ...numbers, key: t.bytes(64 * mebibyte), maxEntries: 1 }),
    ],
    "very many entries of a hash map": [
      /(E2BIG|ENOMEM).* 4294967295 entries/,
      () => new HashMap({ ...numbers, value: t.bytes(mebibyte), maxEntries: most }),
    ],
    "very many entries of an LRU hash map": [
      /(E2BIG|ENOMEM).* 4294967295 entries/,
      () => new LruHashMap({ ...numbers, value: t.bytes(mebibyte), maxEntries: most }),
    ],
    "very many entries of an array": [
      /(E2BIG|ENOMEM).* 4294967295 entries/,
      () => new ArrayMap({ value: t.bytes(mebibyte), length: most }),
    ],
    "very many entries of a queue": [
      /(E2BIG|ENOMEM).* 4294967295 entries/,
      () => new Queue({ value: t.bytes(mebibyte), maxEntries: most }),
    ],
    "very many entries of a stack": [
      /(E2BIG|ENOMEM).* 4294967295 entries/,
      () => new Stack({ value: t.bytes(mebibyte), maxEntries: most }),
    ],
    "a spin lock in the values of an LRU hash map": [
      /E(OP)?NOTSUPP.* its values cannot have a spin lock or timer/,
      () =>
        new LruHashMap({
          ...numbers,
          value: t.struct({ lock: t.spinLock, count: t.u32 }),
          maxEntries: 4,
        }),
    ],
    "an LRU hash map without preallocation": [
      /^cannot create the lru_hash map "full": .*(ENOTSUPP.*does not allow these flags|EINVAL)/,
      () => new LruHashMap({ ...numbers, maxEntries: 4, flags: ["no_prealloc"] }),
    ],
  };
  for (const [what, [message, create]] of Object.entries(refused)) {
    bpfTest(`are rejected: ${what}`, () => {
      expect(create).toThrow(BpfError);
      expect(create).toThrow(message);
    });
  }

  bpfTest("are accepted at the limit", () => {
    using hash = new PerCpuHashMap({ ...numbers, value: t.bytes(large), maxEntries: 1 });
    using array = new PerCpuArrayMap({ value: t.bytes(large), length: 1 });
    const of = cpus.map((cpu) => new Uint8Array(large).fill(cpu + 1));
    expect(hash.set(1, of).get(1)).toEqual(of);
    expect([...array.set(0, of)]).toEqual([[0, of]]);
    using trie = new LpmTrie({ key: t.bytes(260), value: t.u32, maxEntries: 1 });
    expect(trie.keySize).toBe(260);
  });

  bpfTest(
    "are rejected before any system call for keys of an LPM trie that are too small or large",
    () => {
      for (const size of [1, 4, 261, 1024]) {
        const create = () => new LpmTrie({ ...networks, key: t.bytes(size), maxEntries: 1 });
        expect(create).toThrow(RangeError);
        expect(create).toThrow(/^key: expected t\.cidr4, t\.cidr6 or a struct of 5 to 260 bytes/);
      }
    },
  );

  bpfTest("a prefix that is longer than its address is neither stored nor found", () => {
    const key = t.struct({ length: t.u32, address: t.bytes(4) });
    using trie = new LpmTrie({ ...networks, key, maxEntries: 4 });
    const prefix = (length: number) => ({ length, address: new Uint8Array(4) });
    trie.set(prefix(0), 1);
    for (const [name, write] of [
      ["BpfError", () => trie.set(prefix(33), 2)],
      ["BpfError", () => trie.delete(prefix(33))],
      ["BatchError", () => trie.setMany([[prefix(33), 2]])],
      [
        "BatchError",
        () =>
          trie.setMany([
            [prefix(0), 1],
            [prefix(33), 2],
          ]),
      ],
      ["BatchError", () => trie.deleteMany([prefix(33)])],
    ] as const) {
      const hint = expect.stringMatching(/^The prefix is longer than the 32 bits of the address/);
      expect(write).toThrow(expect.objectContaining({ name, code: "EINVAL", hint }));
    }
    expect([trie.get(prefix(32)), trie.get(prefix(33))]).toEqual([1, undefined]);
    expect([...trie]).toEqual([[prefix(0), 1]]);
  });
});

/** Map class: a map of it, and a function that opens a descriptor as one. */
interface Class {
  create(): BpfMap;
  open(fd: number, value: Type<number>): BpfMap;
}

const key = t.u32;
const classes: Readonly<Record<string, Class>> = {
  HashMap: {
    create: () => new HashMap({ ...numbers, maxEntries: 4 }),
    open: (fd, value) => HashMap.fromFd(fd, { key, value }),
  },
  LruHashMap: {
    create: () => new LruHashMap({ ...numbers, maxEntries: 4 }),
    open: (fd, value) => LruHashMap.fromFd(fd, { key, value }),
  },
  PerCpuHashMap: {
    create: () => new PerCpuHashMap({ ...numbers, maxEntries: 4 }),
    open: (fd, value) => PerCpuHashMap.fromFd(fd, { key, value }),
  },
  LruPerCpuHashMap: {
    create: () => new LruPerCpuHashMap({ ...numbers, maxEntries: 4 }),
    open: (fd, value) => LruPerCpuHashMap.fromFd(fd, { key, value }),
  },
  ArrayMap: {
    create: () => new ArrayMap({ ...values, length: 4 }),
    open: (fd, value) => ArrayMap.fromFd(fd, { value }),
  },
  PerCpuArrayMap: {
    create: () => new PerCpuArrayMap({ ...values, length: 4 }),
    open: (fd, value) => PerCpuArrayMap.fromFd(fd, { value }),
  },
  LpmTrie: {
    create: () => new LpmTrie({ ...networks, maxEntries: 4 }),
    open: (fd, value) => LpmTrie.fromFd(fd, { key: t.cidr4, value }),
  },
  Queue: {
    create: () => new Queue({ ...values, maxEntries: 4 }),
    open: (fd, value) => Queue.fromFd(fd, { value }),
  },
  Stack: {
    create: () => new Stack({ ...values, maxEntries: 4 }),
    open: (fd, value) => Stack.fromFd(fd, { value }),
  },
  BloomFilter: {
    create: () => new BloomFilter({ ...values, maxEntries: 4 }),
    open: (fd, value) => BloomFilter.fromFd(fd, { value }),
  },
};

describe("a map of another type or size", () => {
  for (const [name, { create, open }] of Object.entries(classes)) {
    (name === "BloomFilter" ? mapTest("bloom_filter") : bpfTest)(
      `${name} is opened only by its own class and with its own sizes`,
      () => {
        using map = create();
        const where = `the map of descriptor ${map.fd} does not fit:`;
        for (const [other, { open: openOther }] of Object.entries(classes)) {
          if (other === name) continue;
          expect(() => openOther(map.fd, t.u32)).toThrow(TypeError);
          expect(() => openOther(map.fd, t.u32)).toThrow(`${where} type is ${map.type}, not `);
        }
        expect(() => open(map.fd, t.u64Number)).toThrow(
          new TypeError(`${where} valueSize is 4, not 8`),
        );
        using again = open(map.fd, t.u32);
        expect([again.id, again.type]).toEqual([map.id, map.type]);
      },
    );
  }

  bpfTest("at the path of the option pin is reported, and stays pinned", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/pin`;
    using queue = new Queue({ ...values, maxEntries: 4, pin });
    queue.push(7);
    for (const create of [
      () => new Stack({ ...values, maxEntries: 4, pin }),
      () => Stack.open(pin, { value: t.u32 }),
      () => new HashMap({ ...numbers, maxEntries: 4, pin }),
      () => new Queue({ ...values, maxEntries: 5, pin }),
      () => new Queue({ value: t.u64, maxEntries: 4, pin }),
    ]) {
      expect(create).toThrow(TypeError);
      expect(create).toThrow(`the map pinned at ${pin} does not fit: `);
    }
    using again = Queue.open(pin, { value: t.u32 });
    expect(again.pop()).toBe(7);
  });
});

describe("a map type that the kernel does not have", () => {
  const rhash = features.mapTypes.get("rhash");
  const explainTest = testUnless(
    bpfObstacle ?? (rhash.status === "missing" ? undefined : "the kernel has all map types"),
  );

  explainTest("is explained by its version if no probes are loaded", async () => {
    const { stdout, stderr } = await runBun(["test/maps/children/newest_type.ts"]);
    expect({ stderr, stdout }).toEqual({
      stderr: "",
      stdout: `EINVAL This kernel does not support the map type rhash: ${rhash.reason}\n`,
    });
  });

  test("has the function absence() if a kernel since 5.10 can lack it", () => {
    for (const { since, config, absence } of mapTypes.values()) {
      const [major = 0, minor = 0] = since.split(".").map(Number);
      const isLater = major > 5 || (major === 5 && minor > 10);
      expect(absence !== undefined).toBe(isLater || config !== undefined);
    }
  });

  test("is explained by the build options of the kernel if they are readable", () => {
    const absence = (row: Partial<MapType>) => BLOOM_FILTER.absence?.({ ...BLOOM_FILTER, ...row });
    expect(absence({ since: "3.19" })).toBeUndefined();
    expect(absence({ since: "99.0" })).toStartWith("it needs Linux 99.0, and");
    const without = absence({ since: "3.19", config: ["CONFIG_NO_SUCH_OPTION"] });
    const isReadable = kernelConfig() !== undefined;
    expect(without).toBe(
      isReadable ? "this kernel was built without CONFIG_NO_SUCH_OPTION" : undefined,
    );
  });
});
