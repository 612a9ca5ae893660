import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import {
  CgroupStorage,
  HashMap,
  InodeStorage,
  type ObjectStorage,
  SkStorage,
  type StorageOptions,
  t,
  TaskStorage,
} from "../../src/index.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { randomBytes } from "./random_bytes.ts";
import { refusalOf } from "./refusal_of.ts";
import {
  cgroupOwners,
  inodeOwners,
  type Owners,
  socketOwners,
  taskOwners,
} from "./storage_owners.ts";
import { repetitions } from "../support/effort.ts";
import { mapTest } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";

type Make<Owner> = <V extends t.Type<unknown>>(
  options: StorageOptions<V>,
) => ObjectStorage<Owner, t.Infer<V>>;

/** Reason to skip tests of inode storage: the BPF security module is not active, or an old kernel does not report it. */
function inodeObstacle(): string | undefined {
  if (bpfObstacle !== undefined) return bpfObstacle;
  try {
    using _storage = new InodeStorage({ value: t.u32 });
    return undefined;
  } catch (error) {
    if (!String(error).includes("the kernel's active security modules")) throw error;
    return String(error);
  }
}

const inodeTest = testUnless(inodeObstacle());

/** Storage of the kernel and a `Map`, to which the same random operations are applied, with all names of the owners. */
function compareToModel<Owner>(
  random: Random,
  make: Make<Owner>,
  { names }: Owners<Owner>,
  size: number,
): void {
  using storage = make({ value: t.bytes(size) });
  const model = new Map<number, string>();
  for (let step = 0; step < repetitions(300); step++) {
    const owner = random.below(names.length);
    const name = random.pick(names[owner]!);
    const value = randomBytes(random, size);
    const expected = model.get(owner);
    const operations: readonly (() => void)[] = [
      () => {
        expect(storage.set(name, value)).toBe(storage);
        model.set(owner, value.toHex());
      },
      () => {
        expect(storage.add(name, value)).toBe(expected === undefined);
        if (expected === undefined) model.set(owner, value.toHex());
      },
      () => {
        expect(storage.replace(name, value)).toBe(expected !== undefined);
        if (expected !== undefined) model.set(owner, value.toHex());
      },
      () => expect(storage.get(name)?.toHex()).toBe(expected),
      () => expect(storage.has(name)).toBe(expected !== undefined),
      () => expect(storage.delete(name)).toBe(model.delete(owner)),
      () => {
        expect(storage.take(name)?.toHex()).toBe(expected);
        model.delete(owner);
      },
    ];
    random.pick(operations)();
  }
  for (const [owner, same] of names.entries()) {
    for (const name of same) expect(storage.get(name)?.toHex()).toBe(model.get(owner));
  }
}

function countDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function testStorage<Owner>(
  type: string,
  test: typeof bpfTest,
  make: Make<Owner>,
  makeOwners: () => Promise<Owners<Owner>>,
): void {
  describe(`${type} storage`, () => {
    for (const size of [1, 3, 8, 4096]) {
      test(`behaves like a Map with values of ${size} bytes`, async () => {
        using owners = await makeOwners();
        withRandom((random) => compareToModel(random, make, owners, size));
      });
    }

    test("behaves like a Map with values of random sizes", async () => {
      using owners = await makeOwners();
      withRandom((random) => {
        for (let round = 0; round < 4; round++) {
          compareToModel(random, make, owners, 1 + random.below(4096));
        }
      });
    });

    test("reports its properties, and shares its values with other objects of the map", async () => {
      using owners = await makeOwners();
      const name = owners.names[0]![0]!;
      using storage = make({ value: t.u32, name: "kept" });
      expect(storage).toMatchObject({
        type: `${type}_storage`,
        name: "kept",
        keySize: 4,
        valueSize: 4,
        maxEntries: 0,
        flags: 1,
        types: { value: t.u32 },
      });
      expect(storage.info().btfValueTypeId).not.toBe(0);
      storage.set(name, 5);
      using same = storage.dup() as ObjectStorage<Owner, number>;
      storage[Symbol.dispose]();
      expect(same.get(name)).toBe(5);
      expect(() => storage.get(name)).toThrow(`${type}_storage map "kept" is disposed`);
    });

    test("copies a value with a spin lock under the lock, unless lock is false", async () => {
      using owners = await makeOwners();
      const name = owners.names[0]![0]!;
      using storage = make({ value: t.struct({ lock: t.spinLock, count: t.u32 }) });
      storage.set(name, { count: 7 });
      expect(storage.get(name)).toEqual({ count: 7 });
      expect(storage.get(name, { lock: false })).toEqual({ count: 7 });
      expect(storage.add(name, { count: 8 })).toBe(false);
      expect(storage.replace(name, { count: 9 }, { lock: false })).toBe(true);
      expect(storage.take(name)).toEqual({ count: 9 });
    });

    test("leaves nothing open after 1,000 creations", async () => {
      using owners = await makeOwners();
      const before = countDescriptors();
      for (let round = 0; round < repetitions(1000); round++) {
        using storage = make({ value: t.u64 });
        for (const name of owners.names[round % owners.names.length]!) {
          storage.set(name, BigInt(round));
          expect(storage.get(name)).toBe(BigInt(round));
        }
      }
      // Bun closes descriptors for earlier child processes at any time.
      expect(countDescriptors()).toBeLessThanOrEqual(before);
    });

    test("rejects wrong values and owners before anything is stored", async () => {
      using owners = await makeOwners();
      const name = owners.names[0]![0]!;
      using storage = make({ value: t.u8, name: "small" });
      expect(() => storage.set(name, 256)).toThrow(RangeError);
      expect(storage.has(name)).toBe(false);
      for (const wrong of [undefined, null, true, 1n, {}, { fd: "1" }, [], "", "a\0b"]) {
        expect(() => storage.get(wrong as never)).toThrow(TypeError);
        expect(() => storage.get(wrong as never)).toThrow(
          `owner of a value of ${type}_storage map "small": expected `,
        );
      }
      for (const wrong of [-1, 1.5, Number.NaN, 2 ** 31, { fd: -1 }, { fd: 2 ** 31 }]) {
        expect(() => storage.set(wrong as never, 1)).toThrow(RangeError);
      }
      expect(() => storage.get(name, { flag: 1 } as never)).toThrow('unknown option "flag"');
    });

    test("checks options before any system call", () => {
      const wrong = (options: object) => () => make({ value: t.u32, ...options });
      expect(wrong({ maxEntries: 1 })).toThrow('unknown option "maxEntries"');
      expect(wrong({ key: t.u32 })).toThrow('unknown option "key"');
      expect(wrong({ value: undefined })).toThrow("value: expected a type");
      expect(wrong({ value: t.spinLock })).toThrow("must be a field of the struct");
      expect(wrong({ numaNode: 0 })).toThrow(TypeError);
      expect(wrong({ flags: ["mmapable"] })).toThrow('takes no flag "mmapable": known names: ');
      expect(wrong({ flags: [4] })).toThrow("takes no flag 4");
      expect(wrong({ flags: ["no_prealloc"], name: "a b" })).toThrow(RangeError);
      expect(wrong({ flags: -1 })).toThrow(RangeError);
      expect(wrong({ value: t.bytes(70_000) })).toThrow("E2BIG");
    });

    test("has only the operations of the kernel", () => {
      using storage = make({ value: t.u32 });
      const missing = [
        "keys",
        "values",
        "entries",
        "getMany",
        "setMany",
        "clear",
        "count",
        "takeAll",
      ];
      for (const name of missing) expect(name in storage).toBe(false);
      expect(Symbol.iterator in storage).toBe(false);
    });
  });
}

testStorage("sk", bpfTest, (options) => new SkStorage(options), socketOwners);
testStorage("task", mapTest("task_storage"), (options) => new TaskStorage(options), taskOwners);
testStorage("inode", inodeTest, (options) => new InodeStorage(options), inodeOwners);
testStorage("cgrp", mapTest("cgrp_storage"), (options) => new CgroupStorage(options), cgroupOwners);

mapTest("task_storage")(
  "a storage can be opened by path, id and descriptor, and only by its own class",
  () => {
    using storage = new TaskStorage({ value: t.u32 });
    storage.set(process.pid, 3);
    using byId = TaskStorage.fromId(storage.id, storage.types);
    using byFd = TaskStorage.fromFd(storage.fd, { value: t.u32 });
    expect([byId.get(process.pid), byFd.get(process.pid)]).toEqual([3, 3]);
    expect(() => SkStorage.fromFd(storage.fd, { value: t.u32 })).toThrow(
      "type is task_storage, not sk_storage",
    );
    expect(() => TaskStorage.fromFd(storage.fd, { value: t.u64 })).toThrow("valueSize is 4, not 8");
    using hash = new HashMap({ key: t.i32, value: t.u32, maxEntries: 1 });
    expect(() => CgroupStorage.fromId(hash.id, { value: t.u32 })).toThrow("type is hash");
  },
);

bpfTest("wrong owners are explained in all methods", () => {
  using storage = new SkStorage({ value: t.u32, name: "sockets" });
  const owner = storage.fd;
  for (const [doing, use] of [
    ["look up a value in", () => storage.get(owner)],
    ["look up a value in", () => storage.has(owner)],
    ["look up a value in", () => storage.take(owner)],
    ["store a value in", () => storage.set(owner, 1)],
    ["store a value in", () => storage.replace(owner, 1)],
    ["delete a value of", () => storage.delete(owner)],
  ] as const) {
    const refusal = refusalOf(use);
    expect(refusal.message).toStartWith(`cannot ${doing} sk_storage map "sockets": bpf(`);
    expect([refusal.code, refusal.hint]).toEqual([
      "ENOTSOCK",
      "The descriptor does not refer to a socket, or it is closed",
    ]);
  }
});

/** Never called: must not compile. */
export function typeErrors(
  sockets: SkStorage<t.Type<number>>,
  tasks: TaskStorage<t.Type<number>>,
): void {
  // @ts-expect-error: a socket has no path
  sockets.get("/tmp/socket");
  // @ts-expect-error: a process has no path
  tasks.get("/proc/1");
  // @ts-expect-error: not a number
  sockets.set(1, "text");
  // @ts-expect-error: no iteration
  sockets.entries();
  // @ts-expect-error: no call for many
  tasks.setMany([]);
  // @ts-expect-error: no list of owners
  tasks.count();
  // @ts-expect-error: there is no limit on entries
  void new TaskStorage({ value: t.u32, maxEntries: 1 });
  // @ts-expect-error: only for sockets
  void new TaskStorage({ value: t.u32, flags: ["clone"] });
  // @ts-expect-error: the key type is fixed
  void new CgroupStorage({ key: t.u32, value: t.u32 });
}
