import { describe, expect } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  Arena,
  ArrayMap,
  asm,
  BpfError,
  type BpfMap,
  HashMap,
  LruHashMap,
  PerCpuHashMap,
  possibleCpus,
  ProgArray,
  Program,
  Queue,
  RingBuf,
  t,
} from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";

const types = { key: t.u32, value: t.u64 } as const;
const options = { ...types, maxEntries: 4 } as const;

describe("the properties of a map", () => {
  bpfTest("are those that it was created with", () => {
    using map = new HashMap({ ...options, name: "counts", flags: ["no_prealloc", "zero_seed"] });
    expect(map.name).toBe("counts");
    expect(map.type).toBe("hash");
    expect([map.keySize, map.valueSize, map.maxEntries]).toEqual([4, 8, 4]);
    expect(map.flags).toBe(1 | 64);
    expect(map.id).toBeGreaterThan(0);
    expect(map.fd).toBeGreaterThan(2);
    expect(map.types).toEqual(types);
    expect(`${map}`).toBe('hash map "counts"');
    expect(map.info()).toMatchObject({
      id: map.id,
      type: "hash",
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      flags: 1 | 64,
      name: "counts",
      mapExtra: 0,
    });
    // The kernel has the types too.
    expect(map.info().btfId).toBeGreaterThan(0);
  });

  bpfTest("are those that other processes read", () => {
    using map = new ArrayMap({ value: t.u32, length: 7, numaNode: 0 });
    const fdinfo = readFileSync(`/proc/self/fdinfo/${map.fd}`, "utf8");
    expect(fdinfo).toMatch(/^map_type:\t2$/m);
    expect(fdinfo).toMatch(/^max_entries:\t7$/m);
    expect(fdinfo).toMatch(new RegExp(`^map_id:\t${map.id}$`, "m"));
    expect(`${map}`).toBe(`array map ${map.id}`);
  });

  bpfTest("can include the longest name, and flags as bits", () => {
    using map = new HashMap({ ...options, name: "a_23456789.BCDE", flags: 1 });
    expect([map.name, map.flags]).toEqual(["a_23456789.BCDE", 1]);
  });

  bpfTest("that the kernel rejects are explained", () => {
    const refused = () => new HashMap({ ...options, flags: ["stack_build_id"], name: "odd" });
    expect(refused).toThrow(BpfError);
    expect(refused).toThrow(
      /cannot create the hash map "odd": bpf\(BPF_MAP_CREATE\): EINVAL .*flags stack_build_id$/,
    );
  });
});

/** User-defined class with its own constructor arguments. */
class NamedCounts extends HashMap<typeof t.u32, typeof t.u64> {
  constructor(name: string) {
    super({ ...options, name });
  }
}

describe("options and types", () => {
  bpfTest("can be inherited", () => {
    using map = new HashMap(Object.create(options) as typeof options);
    map.set(1, 5n);
    expect(map.types).toEqual(types);
    class Types {
      get key() {
        return t.u32;
      }
      get value() {
        return t.u64;
      }
    }
    using opened = HashMap.fromId(map.id, new Types());
    expect(opened.get(1)).toBe(5n);
  });

  bpfTest("that are null are rejected", () => {
    expect(() => HashMap.fromId(1, null as never)).toThrow(/^types: expected .*, got null$/);
    expect(() => Arena.fromId(1, null as never)).toThrow(/^types: expected .*, got null$/);
  });
});

describe("a frozen map", () => {
  bpfTest("can be read and not written", () => {
    using map = new HashMap(options);
    expect(map.set(1, 1n).freeze()).toBe(map);
    expect(map.get(1)).toBe(1n);
    for (const write of [() => map.set(2, 2n), () => map.delete(1), () => map.clear()]) {
      expect(write).toThrow(expect.objectContaining({ code: "EPERM" }));
      expect(write).toThrow(/The map is frozen/);
    }
    expect(() => map.freeze()).toThrow(/(EPERM|EBUSY).*The map is frozen already/);
    expect(map.toMap()).toEqual(new Map([[1, 1n]]));
  });
});

describe("another object for the same map", () => {
  bpfTest("comes from dup, fromFd and fromId, and outlives the first", () => {
    const first = new HashMap({ ...options, name: "shared" });
    using dup = first.dup();
    using byFd = HashMap.fromFd(first.fd, types);
    using byId = HashMap.fromId(first.id, types);
    first.set(1, 5n);
    first[Symbol.dispose]();
    for (const other of [dup, byFd, byId]) {
      expect([other.id, other.name, other.get(1)]).toEqual([first.id, "shared", 5n]);
    }
    using array = new ArrayMap({ value: t.u32, length: 2 });
    using again = ArrayMap.fromId(array.id, { value: t.u32 });
    expect(again.set(1, 3).dup()[Symbol.dispose]()).toBeUndefined();
    expect(array.get(1)).toBe(3);
  });

  bpfTest("is of the library's class for a class that extends it", () => {
    using first = new NamedCounts("mine");
    first.set(1, 5n);
    using dup = first.dup();
    using byFd = NamedCounts.fromFd(first.fd, types);
    using byId = NamedCounts.fromId(first.id, types);
    for (const other of [dup, byFd, byId]) {
      expect([other.id, other.name, other.get(1)]).toEqual([first.id, "mine", 5n]);
      expect(other.constructor).toBe(HashMap);
    }
  });

  bpfTest("is rejected if sizes or the map type differ, with each difference", () => {
    using map = new HashMap({ ...options, name: "small" });
    expect(() => HashMap.fromId(map.id, { key: t.u64, value: t.u32 })).toThrow(
      new TypeError(
        `the map with id ${map.id} does not fit: keySize is 4, not 8; valueSize is 8, not 4`,
      ),
    );
    expect(() => ArrayMap.fromFd(map.fd, { value: t.u64 })).toThrow(/type is hash, not array/);
  });

  bpfTest("is rejected for objects that are not maps", () => {
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    // Program type and map type have the same number here: only the kind of object differs.
    expect(() => HashMap.fromFd(program.fd, types)).toThrow(
      new TypeError(
        `the map of descriptor ${program.fd} does not fit: it is a BPF program, not a map`,
      ),
    );
    const file = openSync("/dev/null", "r");
    expect(() => HashMap.fromFd(file, types)).toThrow(/EINVAL.*not that of a BPF object/);
    closeSync(file);
    expect(() => HashMap.fromFd(file, types)).toThrow(expect.objectContaining({ code: "EBADF" }));
    for (const bad of [-1, 1.5, "3"]) {
      expect(() => HashMap.fromFd(bad as number, types)).toThrow(/^fd: expected an integer/);
    }
    for (const bad of [0, -1, 2 ** 32]) {
      expect(() => HashMap.fromId(bad, types)).toThrow(/^id: expected an integer from 1/);
    }
    expect(() => HashMap.fromId(0x7fffffff, types)).toThrow(
      expect.objectContaining({ code: "ENOENT", syscall: "bpf(BPF_MAP_GET_FD_BY_ID)" }),
    );
    expect(() => HashMap.fromId(1, { key: t.u32 } as never)).toThrow(/^value: expected a type/);
  });
});

/** Ways to open an existing map. */
const ways = {
  open: (Class: Opener, _map: BpfMap, path: string, options: object) => Class.open(path, options),
  fromId: (Class: Opener, map: BpfMap, _path: string, options: object) =>
    Class.fromId(map.id, options),
  fromFd: (Class: Opener, map: BpfMap, _path: string, options: object) =>
    Class.fromFd(map.fd, options),
} as const;

/** Map class as untyped scripts use it. */
interface Opener {
  open(path: string, options: object): BpfMap;
  fromId(id: number, options: object): BpfMap;
  fromFd(fd: number, options: object): BpfMap;
}

const valued = { value: t.u32, maxEntries: 4 } as const;
/** Classes with their options of opening, a misspelt option, and the right name. */
const openers: readonly [Opener, () => BpfMap, object, string, string][] = [
  [HashMap, () => new HashMap(options), types, "vlaue", '"value"'],
  [PerCpuHashMap, () => new PerCpuHashMap(options), types, "flag", '"flags"'],
  [LruHashMap, () => new LruHashMap(options), types, "keys", '"key"'],
  [ArrayMap, () => new ArrayMap({ value: t.u32, length: 1 }), { value: t.u32 }, "valeu", '"value"'],
  [Queue, () => new Queue(valued), { value: t.u32 }, "flasg", '"flags"'],
  [ProgArray, () => new ProgArray({ length: 1 }), {}, "flogs", '"flags"'],
  [RingBuf, () => new RingBuf({ size: 65_536, event: t.u32 }), { event: t.u32 }, "evnt", '"event"'],
];

describe.each(Object.entries(ways))("options of %s", (_way, open) => {
  bpfTest("are rejected if unknown, in all classes", () => {
    using bpffs = new DetachedMount("bpf");
    for (const [Class, create, known, wrong, right] of openers) {
      const path = `${bpffs.path}/${wrong}`;
      using map = create().pin(path);
      const before = openKernelObjects();
      const refused = () => open(Class, map, path, { ...known, [wrong]: 1 });
      expect(refused).toThrow(TypeError);
      expect(refused).toThrow(`: unknown option "${wrong}": did you mean ${right}?`);
      expect(() => open(Class, map, path, { ...known, nonsense: 1 })).toThrow(
        /^\w+: unknown option "nonsense": known names: /,
      );
      expect(openKernelObjects()).toEqual(before);
      open(Class, map, path, known)[Symbol.dispose]();
    }
  });

  bpfTest("are rejected if only creation takes them", () => {
    using bpffs = new DetachedMount("bpf");
    using map = new HashMap(options).pin(`${bpffs.path}/map`);
    for (const name of ["maxEntries", "name", "pin", "numaNode"]) {
      expect(() => open(HashMap, map, `${bpffs.path}/map`, { ...types, [name]: 4 })).toThrow(
        `HashMap: unknown option "${name}": known names: "key", "value", "flags"`,
      );
    }
  });

  bpfTest("accept flags as names or bits of one right, and not of both", () => {
    using bpffs = new DetachedMount("bpf");
    const path = `${bpffs.path}/map`;
    using map = new HashMap(options).pin(path);
    const openWith = (flags: unknown) => () => open(HashMap, map, path, { ...types, flags });
    expect(openWith(["no_prealloc"])).toThrow(
      /^flags: expected "rdonly", "wronly" or none, got no_prealloc$/,
    );
    expect(openWith(["rdonly", "wronly"])).toThrow(/or none, got rdonly,wronly$/);
    expect(openWith(["rdonyl"])).toThrow('flags: unknown flag "rdonyl": did you mean "rdonly"?');
    expect(openWith("rdonly")).toThrow(/^flags: expected an array of names or a number/);
    expect(openWith(1)).toThrow(/^flags: expected .* got 1$/);
    for (const flags of [[], 0, undefined]) openWith(flags)()[Symbol.dispose]();
  });
});

describe("a map opened read-only or write-only", () => {
  /** Flags of opening, and the file flags that the kernel reports for the descriptor. */
  const rights = { rdonly: [true, false, 8], wronly: [false, true, 16] } as const;
  for (const [flag, [reads, writes, bits]] of Object.entries(rights)) {
    bpfTest(`with "${flag}" by its path or id has only that right`, () => {
      using bpffs = new DetachedMount("bpf");
      const path = `${bpffs.path}/map`;
      using map = new HashMap(options).pin(path);
      for (const open of [ways.open, ways.fromId]) {
        for (const flags of [[flag], bits]) {
          map.set(1, 5n);
          using opened = open(HashMap, map, path, { ...types, flags }) as typeof map;
          expect([opened.id, opened.types]).toEqual([map.id, types]);
          const refusal = expect.objectContaining({ code: "EPERM" });
          if (reads) expect([opened.get(1), opened.count()]).toEqual([5n, 1]);
          else expect(() => opened.get(1)).toThrow(refusal);
          if (writes) expect(opened.set(2, 6n).delete(2)).toBe(true);
          else expect(() => opened.set(2, 6n)).toThrow(refusal);
          if (!writes) expect(() => opened.delete(1)).toThrow(/opened without the required access/);
          using twin = opened.dup();
          if (!reads) expect(() => twin.get(1)).toThrow(refusal);
          if (!writes) expect(() => twin.set(2, 6n)).toThrow(refusal);
        }
      }
    });

    bpfTest(`with "${flag}" by a descriptor requires a descriptor with only that right`, () => {
      using bpffs = new DetachedMount("bpf");
      const path = `${bpffs.path}/map`;
      using both = new HashMap(options).pin(path);
      using limited = HashMap.open(path, { ...types, flags: bits });
      const before = openKernelObjects();
      using again = HashMap.fromFd(limited.fd, { ...types, flags: bits });
      using unasked = HashMap.fromFd(limited.fd, types);
      for (const map of [again, unasked]) {
        if (!reads) expect(() => map.get(1)).toThrow(/EPERM/);
        if (!writes) expect(() => map.set(1, 1n)).toThrow(/EPERM/);
        map[Symbol.dispose]();
      }
      for (const [fd, flags] of [
        [both.fd, bits],
        [limited.fd, 24 - bits],
      ] as const) {
        expect(() => HashMap.fromFd(fd, { ...types, flags })).toThrow(
          new TypeError(
            `flags: the map of descriptor ${fd} has other access rights: open it by its path or id`,
          ),
        );
      }
      expect(openKernelObjects()).toEqual(before);
    });
  }

  bpfTest("accepts only valid flags in TypeScript", () => {
    using map = new HashMap(options);
    using opened = HashMap.fromId(map.id, { ...types, flags: ["rdonly"] });
    const value: bigint | undefined = opened.get(1);
    expect(value).toBeUndefined();
    using places = new ProgArray({ length: 1 });
    ProgArray.fromId(places.id, { flags: ["rdonly"] })[Symbol.dispose]();
    expect(() => {
      // @ts-expect-error: misspelt
      HashMap.fromId(map.id, { ...types, flasg: ["rdonly"] });
    }).toThrow(TypeError);
    expect(() => {
      // @ts-expect-error: an option of creation
      HashMap.fromId(map.id, { ...types, maxEntries: 4 });
    }).toThrow(TypeError);
    expect(() => {
      // @ts-expect-error: a flag of creation
      HashMap.fromId(map.id, { ...types, flags: ["no_prealloc"] });
    }).toThrow(TypeError);
  });
});

describe("a pin", () => {
  bpfTest("keeps a map for later openers of the path", () => {
    using mount = new DetachedMount("bpf");
    const path = `${mount.path}/counts`;
    const map = new HashMap({ ...options, name: "counts" });
    expect(map.set(1, 5n).pin(path)).toBe(map);
    expect(existsSync(path)).toBe(true);
    map[Symbol.dispose]();
    using opened = HashMap.open(path, types);
    expect([opened.name, opened.get(1)]).toEqual(["counts", 5n]);
    expect(opened.unpin()).toBe(true);
    expect(existsSync(path)).toBe(false);
    expect(opened.unpin()).toBe(false);
    expect(() => HashMap.open(path, types)).toThrow(/nothing is pinned at/);
  });

  bpfTest("as an option creates the map the first time and opens it afterwards", () => {
    using mount = new DetachedMount("bpf");
    const pin = `${mount.path}/counts`;
    using first = new HashMap({ ...options, pin });
    using second = new HashMap({ ...options, pin });
    expect(second.id).toBe(first.id);
    const other = () => new HashMap({ ...options, maxEntries: 5, flags: ["no_prealloc"], pin });
    expect(other).toThrow(
      new TypeError(
        `the map pinned at ${pin} does not fit: maxEntries is 4, not 5; flags is none, not no_prealloc`,
      ),
    );
    using array = new ArrayMap({ value: t.u32, length: 1 });
    expect(() => array.pin(pin)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    expect(() => ArrayMap.open(pin, { value: t.u64 })).toThrow(/type is hash, not array/);
    second.unpin(pin);
    expect(existsSync(pin)).toBe(false);
  });

  bpfTest("of a different array is rejected with the name of the option", () => {
    using mount = new DetachedMount("bpf");
    const pin = `${mount.path}/totals`;
    using _map = new ArrayMap({ value: t.u32, length: 4, pin });
    expect(() => new ArrayMap({ value: t.u64, length: 5, pin })).toThrow(
      new TypeError(
        `the map pinned at ${pin} does not fit: valueSize is 4, not 8; length is 4, not 5`,
      ),
    );
  });

  bpfTest("is accepted if the kernel rounded up the number of entries", () => {
    using mount = new DetachedMount("bpf");
    const pin = `${mount.path}/recent`;
    const maxEntries = 5 * possibleCpus().length - 1;
    const recent = { ...types, maxEntries, flags: ["no_common_lru"] as const, pin };
    using first = new LruHashMap(recent);
    using second = new LruHashMap(recent);
    expect(second.id).toBe(first.id);
    expect(() => new LruHashMap({ ...recent, maxEntries: maxEntries + 2 })).toThrow(
      /maxEntries is/,
    );
  });

  bpfTest("outside of a BPF file system is rejected, and nothing remains open", () => {
    using map = new HashMap(options);
    for (const pin of [
      () => map.pin("/tmp/bun-bpf-pin"),
      () => new HashMap({ ...options, pin: "/tmp/bun-bpf-pin" }),
    ]) {
      expect(pin).toThrow(BpfError);
      expect(pin).toThrow(/A pin must be on a BPF file system: mount one with/);
    }
    expect(existsSync("/tmp/bun-bpf-pin")).toBe(false);
  });

  bpfTest("must be a string without a NUL", () => {
    using map = new HashMap(options);
    for (const path of ["", 5, undefined, "/sys/fs/bpf/a\0b"]) {
      expect(() => map.pin(path as string)).toThrow(/^path: expected a path on a BPF file system/);
      expect(() => HashMap.open(path as string, types)).toThrow(/^path: expected a path/);
    }
  });
});
