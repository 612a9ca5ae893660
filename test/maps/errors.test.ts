/** Errors of rejected calls, and the contents of the map after them. */
import { describe, expect } from "bun:test";
import {
  type AssociativeMap,
  BatchError,
  BloomFilter,
  BpfError,
  CpuMap,
  HashMap,
  LpmTrie,
  LruHashMap,
  LruPerCpuHashMap,
  type MapFlag,
  PerCpuHashMap,
  possibleCpus,
  Queue,
  Stack,
  t,
  features,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { mapTest, testWith } from "../support/needs.ts";
import { runBun } from "../support/run.ts";

const cpus = possibleCpus();
const numbers = { key: t.u32, value: t.u32, name: "full" };
const networks = { key: t.cidr4, value: t.u32, name: "full" };
const values = { value: t.u32, name: "full" };
const each = (value: number) => cpus.map(() => value);

/** Returns the BpfError that a call throws. */
function refusalOf(call: () => unknown): BpfError {
  try {
    call();
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

/** Associative maps, with a key and a value for each number. */
interface Kind {
  create(maxEntries: number, flags?: readonly MapFlag[]): AssociativeMap<unknown, unknown>;
  key(number: number): unknown;
  value(number: number): unknown;
  /** Error code of a full map; "" for maps that evict. */
  readonly full: string;
}

const plain = { key: (n: number) => n, value: (n: number) => n, full: "E2BIG" };
const perCpu = { ...plain, value: each };

const kinds: Readonly<Record<string, Kind>> = {
  HashMap: {
    ...plain,
    create: (maxEntries, flags = []) => new HashMap({ ...numbers, maxEntries, flags }),
  },
  LruHashMap: {
    ...plain,
    full: "",
    create: (maxEntries, flags = []) => new LruHashMap({ ...numbers, maxEntries, flags }),
  },
  PerCpuHashMap: {
    ...perCpu,
    create: (maxEntries, flags = []) => new PerCpuHashMap({ ...numbers, maxEntries, flags }),
  },
  LruPerCpuHashMap: {
    ...perCpu,
    full: "",
    create: (maxEntries, flags = []) => new LruPerCpuHashMap({ ...numbers, maxEntries, flags }),
  },
  LpmTrie: {
    ...plain,
    key: (n) => `10.0.0.${n}/32`,
    full: "ENOSPC",
    create: (maxEntries, flags = []) => new LpmTrie({ ...networks, maxEntries, flags }),
  },
};

/** Test of updates with conditions, which tries of some kernels ignore. */
function conditionTest(className: string): typeof bpfTest {
  return className === "LpmTrie" ? testWith(features.fixes.get("lpm_trie_update")) : bpfTest;
}

/** Creates a map with the first `count` entries. */
function filled({ create, key, value }: Kind, maxEntries: number, count: number) {
  const map = create(maxEntries);
  for (let n = 0; n < count; n++) map.set(key(n), value(n));
  return map;
}

function entriesOf({ key, value }: Kind, count: number): Map<unknown, unknown> {
  return new Map(Array.from({ length: count }, (_, n) => [key(n), value(n)]));
}

for (const [name, kind] of Object.entries(kinds).filter(([, { full }]) => full !== "")) {
  const { key, value, full } = kind;
  describe(`errors of a full ${name}`, () => {
    conditionTest(name)("store nothing, and present keys can be replaced", () => {
      using map = filled(kind, 3, 3);
      for (const store of [() => map.set(key(7), value(7)), () => map.add(key(7), value(7))]) {
        const error = refusalOf(store);
        expect(error).not.toBeInstanceOf(BatchError);
        expect([error.code, error.syscall]).toEqual([full, "bpf(BPF_MAP_UPDATE_ELEM)"]);
        expect(error.message).toStartWith(`cannot store a value in ${map.type} map "full": `);
        expect(error.hint).toStartWith("The map is full: increase maxEntries");
        expect(map.toMap()).toEqual(entriesOf(kind, 3));
      }
      expect([map.replace(key(7), value(7)), map.add(key(1), value(9))]).toEqual([false, false]);
      map.set(key(1), value(9));
      expect(map.toMap()).toEqual(entriesOf(kind, 3).set(key(1), value(9)));
    });

    conditionTest(name)("keep the entries before the rejected one, and report their number", () => {
      using map = filled(kind, 3, 1);
      const pairs = [1, 2, 0, 7, 8].map((n) => [key(n), value(n)] as const);
      const error = refusalOf(() => map.setMany(pairs)) as BatchError;
      expect(error).toBeInstanceOf(BatchError);
      expect([error.code, error.applied]).toEqual([full, 3]);
      expect(error.hint).toStartWith("The map is full: increase maxEntries");
      expect(error.message).toContain("(3 of 5 were applied)");
      expect(map.toMap()).toEqual(entriesOf(kind, 3));
    });
  });
}

for (const [name, kind] of Object.entries(kinds)) {
  const { key, value } = kind;
  describe(`errors of ${name}`, () => {
    conditionTest(name)("do not occur for absent keys", () => {
      using map = filled(kind, 8, 2);
      const absent = key(7);
      expect(map.get(absent)).toBeUndefined();
      expect(map.take(absent)).toBeUndefined();
      expect(map.getMany([absent, key(1)])).toEqual([undefined, value(1)]);
      expect([map.has(absent), map.delete(absent), map.replace(absent, value(7))]).toEqual([
        false,
        false,
        false,
      ]);
      expect(map.deleteMany([absent, key(0), absent])).toBe(1);
      expect(map.toMap()).toEqual(new Map([[key(1), value(1)]]));
    });

    conditionTest(name)("when it is frozen leave it unchanged and readable", () => {
      using map = filled(kind, 8, 2);
      map.freeze();
      const writes = [
        () => map.set(key(1), value(9)),
        () => map.add(key(7), value(7)),
        () => map.replace(key(1), value(9)),
        () => map.setMany([[key(1), value(9)]]),
        () => map.delete(key(1)),
        () => map.deleteMany([key(1)]),
        () => map.take(key(1)),
        () => [...map.takeAll()],
        () => map.clear(),
      ];
      for (const write of writes) {
        const error = refusalOf(write);
        expect(error.code).toBe("EPERM");
        expect(error.hint).toMatch(/^The map is frozen/);
        expect(map.toMap()).toEqual(entriesOf(kind, 2));
      }
      expect(map.get(key(1))).toEqual(value(1));
    });

    bpfTest("when it may not be read do not mention freezing", () => {
      using map = kind.create(8, ["wronly"]);
      map.set(key(1), value(1));
      for (const read of [
        () => map.get(key(1)),
        () => map.has(key(1)),
        () => map.getMany([key(1)]),
        () => map.count(),
      ]) {
        const error = refusalOf(read);
        expect([error.code, error.hint]).toEqual([
          "EPERM",
          "The map was created or opened without the right to read it",
        ]);
      }
    });

    bpfTest("for a key or value that its type rejects leave it unchanged", () => {
      using map = filled(kind, 8, 1);
      const good = [key(1), value(1)] as const;
      const bads: readonly (readonly [key: unknown, value: unknown])[] = [
        ["nothing like a key", value(2)],
        [key(2), "nothing like a value"],
      ];
      for (const bad of bads) {
        const message =
          /^(key|value)(?: \d+)? of .* map "full": .*expected .*, got "nothing like a \1"/;
        expect(() => map.set(...bad)).toThrow(message);
        expect(() => map.setMany([good, bad])).toThrow(message);
        expect(map.toMap()).toEqual(entriesOf(kind, 1));
      }
    });
  });
}

describe.each([
  ["Queue", () => new Queue({ ...values, maxEntries: 2 }), 1],
  ["Stack", () => new Stack({ ...values, maxEntries: 2 }), 2],
] as const)("errors of %s", (_name, create, next) => {
  bpfTest("occur when it is full or frozen, and not when it is empty", () => {
    using map = create();
    expect([map.peek(), map.pop(), [...map.takeAll()]]).toEqual([undefined, undefined, []]);
    map.push(1).push(2);
    const full = refusalOf(() => map.push(3));
    expect([full.code, full.hint]).toEqual([
      "E2BIG",
      "The map is full: increase maxEntries, or push with { evict: true } to drop the oldest value",
    ]);
    expect(() => map.push("3" as never)).toThrow(/^value of (queue|stack) map "full": expected/);
    map.freeze();
    for (const write of [
      () => map.push(3),
      () => map.push(3, { evict: true }),
      () => map.pop(),
      () => [...map.takeAll()],
      () => map.clear(),
    ]) {
      expect(refusalOf(write).hint).toMatch(/^The map is frozen/);
      expect(map.peek()).toBe(next);
    }
    expect(refusalOf(() => map.pop()).message).toStartWith("cannot take a value from ");
  });
});

mapTest("bloom_filter")("a frozen Bloom filter can be queried, and rejects additions", () => {
  using filter = new BloomFilter({ ...values, maxEntries: 100 });
  filter.add(1).freeze();
  expect(refusalOf(() => filter.add(2)).hint).toMatch(/^The map is frozen/);
  expect([filter.has(1), filter.has(2)]).toEqual([true, false]);
});

bpfTest("LPM tries reject add and replace on kernels that ignore the conditions", async () => {
  const { exitCode, stderr, stdout } = await runBun(["test/maps/children/unfixed_trie.ts"]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  expect(stdout).toMatch(
    /^EOPNOTSUPP cannot add to the lpm_trie map "routes": .*add\(\) and replace\(\) of tries are not available here: .*Use set\(\)\nEOPNOTSUPP cannot replace in /,
  );
});

describe("an error that a custom type throws", () => {
  /** Creates a map whose value type throws each value. */
  function throwing(name: string): HashMap<typeof t.u32, t.Type<unknown>> {
    const value = t.custom<unknown>({
      size: 4,
      read: () => 0,
      write(_view, _offset, thrown) {
        throw thrown;
      },
    });
    return new HashMap({ key: t.u32, value, maxEntries: 4, name });
  }

  function thrownBy(call: () => unknown): unknown {
    try {
      call();
    } catch (error) {
      return error;
    }
    return undefined;
  }

  class Refusal extends TypeError {
    readonly code = "E_COLOUR";
  }

  bpfTest("is rethrown with the place before its message", () => {
    using map = throwing("mine");
    const own = new Refusal("no such colour", { cause: 7 });
    expect(thrownBy(() => map.set(1, own))).toBe(own);
    expect(own).toMatchObject({
      message: 'value of hash map "mine": no such colour',
      code: "E_COLOUR",
      cause: 7,
    });
    const one = thrownBy(() => map.setMany([[1, new RangeError("too red")]]));
    expect(String(one)).toBe('RangeError: value 0 of hash map "mine": too red');
  });

  bpfTest("has the place before its message once when it is thrown again", () => {
    using map = throwing("mine");
    using other = throwing("other");
    const own = new RangeError("no such colour");
    for (let round = 0; round < 3; round++) thrownBy(() => map.set(1, own));
    expect(own.message).toBe('value of hash map "mine": no such colour');
    thrownBy(() => other.setMany([[1, own]]));
    expect(own.message).toBe('value 0 of hash map "other": no such colour');
    own.message = "changed meanwhile";
    thrownBy(() => map.set(1, own));
    expect(own.message).toBe('value of hash map "mine": changed meanwhile');
  });

  bpfTest("is the same object if it has no message", () => {
    using map = throwing("mine");
    const own = new Refusal();
    for (let round = 0; round < 2; round++) {
      expect(thrownBy(() => map.set(1, own))).toBe(own);
      expect(own.message).toBe('value of hash map "mine": ');
    }
  });

  bpfTest("is the cause of a new error with the place if its message cannot be changed", () => {
    using map = throwing("mine");
    class Silent extends Error {
      override get message(): string {
        return "silent";
      }
    }
    const fixed = Object.defineProperty(new RangeError(), "message", { value: "fixed" });
    const unchangeable = [
      [Object.freeze(new Refusal("frozen")), TypeError, "frozen"],
      [Object.freeze(new RangeError("frozen")), RangeError, "frozen"],
      [fixed, RangeError, "fixed"],
      [new DOMException("gone", "AbortError"), Error, "gone"],
      [new Silent(), Error, "silent"],
      ["a text", Error, "a text"],
      [undefined, Error, "undefined"],
      [null, Error, "null"],
      [{ code: 5 }, Error, "an object"],
      [Object.create(null), Error, "an object"],
      [Symbol("sign"), Error, "Symbol(sign)"],
    ] as const;
    for (const [own, Class, text] of unchangeable) {
      for (let round = 0; round < 2; round++) {
        const error = thrownBy(() => map.set(1, own)) as Error;
        expect(error.constructor).toBe(Class);
        expect(error.message).toBe(`value of hash map "mine": ${text}`);
        expect(error.cause).toBe(own);
      }
      if (own instanceof Error) expect(own.message).toBe(text);
    }
  });

  bpfTest("has the CPU in the place each time", () => {
    const frozen = Object.freeze(new RangeError("frozen"));
    const own = new TypeError("own");
    const value = t.custom<unknown>({
      size: 4,
      read: () => 0,
      write(_view, _offset, thrown) {
        if (thrown instanceof Error) throw thrown;
      },
    });
    using map = new PerCpuHashMap({ key: t.u32, value, maxEntries: 4, name: "each" });
    for (const error of [own, own, frozen, frozen]) {
      const shown = thrownBy(() => map.set(1, [...each(0).slice(1), error])) as Error;
      expect(`${shown}`).toBe(
        `${error.name}: value of percpu_hash map "each": value of CPU ${cpus.at(-1)}: ${error === own ? "own" : "frozen"}`,
      );
    }
  });

  bpfTest("that the getter fd of a value throws is handled in the same way", () => {
    using map = new CpuMap({ length: 1, name: "cpus" });
    const program = Object.defineProperty({}, "fd", {
      get() {
        throw Object.freeze(new RangeError("no descriptor"));
      },
    });
    const store = () => map.set(0, { queueSize: 192, program: program as { fd: number } });
    expect(store).toThrow(new RangeError('value of cpumap map "cpus": program: no descriptor'));
  });
});
