/** Common behaviour of the classes for maps of programs, sockets and the like: options, operations, opening, disposal. */
import { describe, expect, test } from "bun:test";
import {
  type BpfMap,
  BpfFileSystem,
  CgroupArray,
  CpuMap,
  DevMap,
  DevMapHash,
  DisposedError,
  PerfEventArray,
  ProgArray,
  ReuseportSockArray,
  SockHash,
  SockMap,
  t,
  XskMap,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type BadConstruction, findWrongError } from "./bad_options.ts";

/** Untyped options, as in JavaScript: `any`, because the compiler rejects them otherwise. */
type Unchecked = any;

/** Map class. */
interface MapClass {
  new (options: Unchecked): BpfMap;
  open(path: string, types: Unchecked): BpfMap;
  fromId(id: number, types: Unchecked): BpfMap;
  fromFd(fd: number, types: Unchecked): BpfMap;
}

/** Map class, and ways to create and open its maps. */
interface Kind {
  readonly name: string;
  readonly options: object;
  readonly operations: string;
  create(options: Unchecked): BpfMap;
  open(path: string): BpfMap;
  fromId(id: number): BpfMap;
  fromFd(fd: number): BpfMap;
}

function kindOf(
  Class: MapClass,
  options: Readonly<Record<string, unknown>>,
  operations: string,
): Kind {
  const types = "key" in options ? { key: options["key"] } : {};
  return {
    name: Class.name,
    options,
    operations,
    create: (all) => new Class(all),
    open: (path) => Class.open(path, types),
    fromId: (id) => Class.fromId(id, types),
    fromFd: (fd) => Class.fromFd(fd, types),
  };
}

const length = 2;
const maxEntries = 2;
const writing = "length set delete";
const walking = "get has getMany keys values entries entriesInBatches forEach count toMap clear";
const conditional = "add replace";
const associative = `set delete setMany deleteMany take takeAll ${walking} ${conditional}`;

const kinds: readonly Kind[] = [
  kindOf(ProgArray, { length }, `${writing} ${walking}`),
  kindOf(PerfEventArray, {}, writing),
  kindOf(CgroupArray, { length }, writing),
  kindOf(XskMap, { length }, `length set unset ${conditional}`),
  kindOf(SockMap, { length }, `${writing} ${walking} ${conditional}`),
  kindOf(ReuseportSockArray, { length }, `${writing} ${walking} ${conditional}`),
  kindOf(SockHash, { key: t.ipv6, maxEntries }, associative),
  kindOf(DevMap, { length }, `${writing} ${walking}`),
  kindOf(DevMapHash, { maxEntries }, associative),
  kindOf(CpuMap, {}, `${writing} ${walking}`),
];

/** Option for the size of a map. */
const sizeOf = ({ options }: Kind) => ("maxEntries" in options ? "maxEntries" : "length");

const entries = /(?:length|maxEntries): expected an integer from 1 to 4294967295, got /;

function badConstructionsOf(kind: Kind): readonly BadConstruction[] {
  const { name, options, create } = kind;
  const size = sizeOf(kind);
  const bad = (
    what: string,
    changes: object,
    error: BadConstruction["error"],
    says: RegExp,
  ): BadConstruction => ({
    what: `${name} with ${what}`,
    construct: () => create({ ...options, ...changes }),
    error,
    says,
  });
  return [
    ...[0, -1, 1.5, 2 ** 32, Number.NaN, "4", 4n, null].map((count) =>
      bad(`${size} ${String(count)}`, { [size]: count }, "RangeError", entries),
    ),
    bad("a value", { value: t.u32 }, "TypeError", /unknown option "value"/),
    size === "length"
      ? bad("maxEntries", { maxEntries: 4 }, "TypeError", /"maxEntries": .* the option `length`/)
      : bad("maxEntires", { maxEntires: 4 }, "TypeError", /did you mean "maxEntries"\?/),
    bad(`${size}s`, { [`${size}s`]: 4 }, "TypeError", new RegExp(`did you mean "${size}"`)),
    bad(
      "a name of 16 characters",
      { name: "a".repeat(16) },
      "RangeError",
      /name: .* at most 15 characters/,
    ),
    bad("an unknown flag", { flags: ["rdonyl"] }, "TypeError", /flags: unknown flag "rdonyl"/),
    bad("an empty pin", { pin: "" }, "TypeError", /pin: expected a path .* got ""/),
    {
      what: `${name} with null`,
      construct: () => create(null),
      error: "TypeError",
      says: new RegExp(`${name}: expected an object, got null`),
    },
  ];
}

const badKeys: readonly BadConstruction[] = (
  [
    ["no key", undefined, "TypeError", /key: expected a type such as t\.u32, got undefined/],
    ["an uncalled type function as key", t.bytes, "TypeError", /key: .* meant to be called/],
    [
      "a spin lock as key",
      t.spinLock,
      "TypeError",
      /key: expected a type without a spin lock or timer, got/,
    ],
    ["a key of 513 bytes", t.bytes(513), "RangeError", /key: expected a type of at most 512 bytes/],
  ] as const
).map(([what, key, error, says]) => ({
  what: `SockHash with ${what}`,
  construct: () => new SockHash({ key: key as Unchecked, maxEntries }),
  error,
  says,
}));

describe("options", () => {
  for (const bad of [...kinds.flatMap(badConstructionsOf), ...badKeys]) {
    test(`are rejected: ${bad.what}`, () => {
      expect(findWrongError(bad)).toBeUndefined();
    });
  }

  test("must have a size if there is no default", () => {
    for (const kind of kinds) {
      const { name, options, create } = kind;
      if (!(sizeOf(kind) in options)) continue;
      expect(() => create({ ...options, [sizeOf(kind)]: undefined }), name).toThrow(entries);
    }
  });
});

const otherOperations = "unset push pop peek at sum reduce getCpu setCpu view drainRaw";
const allOperations = new Set(`${writing} ${associative} ${otherOperations}`.split(" "));

describe("operations", () => {
  for (const { name, options, create, operations } of kinds) {
    bpfTest(`of ${name} are those of its map type`, () => {
      using map = create(options);
      expect([...allOperations].filter((operation) => operation in map).sort()).toEqual(
        operations.split(" ").sort(),
      );
      expect(Symbol.iterator in map).toBe(operations.includes("entries"));
    });
  }

  test("of other map types do not type-check", () => {
    const _never = (
      programs: ProgArray,
      events: PerfEventArray,
      cgroups: CgroupArray,
      xsks: XskMap,
      sockets: SockMap,
      hash: SockHash<t.Type<string>>,
      ports: DevMap,
      cpus: CpuMap,
    ) => {
      // @ts-expect-error
      programs.add(0, 1);
      // @ts-expect-error
      programs.replace(0, 1);
      // @ts-expect-error
      programs.setMany([[0, 1]]);
      // @ts-expect-error
      programs.take(0);
      // @ts-expect-error
      programs.at(0);
      // @ts-expect-error
      programs.set(0, "program");
      // @ts-expect-error
      events.get(0);
      // @ts-expect-error
      events.count();
      // @ts-expect-error
      [...events];
      // @ts-expect-error
      events.set(0, "path");
      // @ts-expect-error
      cgroups.has(0);
      // @ts-expect-error
      cgroups.clear();
      // @ts-expect-error
      xsks.get(0);
      // @ts-expect-error
      const _deleted: boolean = xsks.delete(0);
      // @ts-expect-error
      sockets.take(0);
      // @ts-expect-error
      sockets.set(0, sockets.get(0));
      // @ts-expect-error
      hash.length;
      // @ts-expect-error
      hash.set(1, 5);
      // @ts-expect-error
      ports.add(0, 1);
      // @ts-expect-error
      ports.set(0, { program: 5 });
      // @ts-expect-error
      cpus.set(0, 64);
      // @ts-expect-error
      cpus.replace(0, { queueSize: 1 });
    };
    expect(_never).toBeFunction();
  });
});

describe("opening", () => {
  for (const { name, options, create, open, fromId, fromFd } of kinds) {
    bpfTest(`a ${name} returns the same map for a path, an id and a descriptor`, () => {
      using fileSystem = new BpfFileSystem();
      const path = `${fileSystem.path}/map`;
      using map = create({ ...options, name: "mine", pin: path });
      using pinned = open(path);
      using identified = fromId(map.id);
      using shared = fromFd(map.fd);
      using duplicate = map.dup();
      for (const other of [pinned, identified, shared, duplicate]) {
        expect(other.id).toBe(map.id);
        expect(other.constructor).toBe(map.constructor);
        expect(other.fd).not.toBe(map.fd);
        expect(`${other}`).toBe(`${map.type} map "mine"`);
      }
    });

    bpfTest(`a ${name} by the option pin returns the same map`, () => {
      using fileSystem = new BpfFileSystem();
      const pin = `${fileSystem.path}/map`;
      using map = create({ ...options, pin });
      using again = create({ ...options, pin });
      expect(again.id).toBe(map.id);
    });

    bpfTest(`a ${name} rejects another map type`, () => {
      for (const other of kinds) {
        if (other.name === name) continue;
        using map = other.create(other.options);
        expect(() => fromId(map.id)).toThrow(
          new RegExp(`does not fit: .*type is ${map.type}, not `),
        );
      }
    });

    bpfTest(`a disposed ${name} throws in all methods`, () => {
      const map: Unchecked = create(options);
      map[Symbol.dispose]();
      map[Symbol.dispose]();
      const calls: readonly (() => unknown)[] = [
        () => map.fd,
        () => map.dup(),
        ...(name === "SockHash"
          ? [() => map.set("::1", 5), () => map.delete("::1"), () => map.get("::1")]
          : name === "XskMap"
            ? [() => map.unset(0), () => map.unset(1)]
            : [() => map.delete(0), () => map.delete(1)]),
        ...(name === "CgroupArray" ? [() => map.set(0, "/")] : []),
        ...("get" in map
          ? [
              () => map.clear(),
              () => map.count(),
              () => [...map],
              () => map.getMany([]),
              () => (name === "SockHash" ? map.has("::1") : map.has(0)),
            ]
          : []),
      ];
      for (const call of calls) expect(call, `${call}`).toThrow(DisposedError);
    });
  }
});
