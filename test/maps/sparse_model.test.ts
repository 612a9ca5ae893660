/** Arrays with empty slots and maps of kernel objects, compared with a Map to which the same random operations are applied. */
import { describe, expect } from "bun:test";
import {
  CpuMap,
  DevMap,
  DevMapHash,
  type KeyedMap,
  ProgArray,
  possibleCpus,
  Program,
  ReuseportSockArray,
  SockHash,
  SockMap,
  type SparseArrayMap,
  asm,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { refusalOf } from "./refusal_of.ts";
import { cookieOf, datagramSocket, listener } from "./sockets.ts";
import { cpuMapProgram, devMapProgram, programId } from "./special_program.ts";

/** Value to store, and the value that is read then. */
interface Sample<V, W> {
  readonly written: W;
  readonly read: V;
}

/** Methods that only some map classes have. */
interface Conditional<W> {
  add(key: number, value: W): boolean;
  replace(key: number, value: W): boolean;
}

interface Deletable<V, W> extends KeyedMap<number, V, W> {
  set(key: number, value: W): unknown;
  delete(key: number): boolean;
  clear(): void;
}

const stepsEach = 3000;

/** Map and its model. */
class Pair<V, W> {
  readonly #model = new Map<number, V>();
  readonly #random: Random;
  readonly #map: Deletable<V, W>;
  readonly #samples: readonly Sample<V, W>[];
  readonly #keys: readonly number[];
  /** True if a sample can be in only one slot. */
  readonly #isExclusive: boolean;

  constructor(
    random: Random,
    map: Deletable<V, W>,
    samples: readonly Sample<V, W>[],
    keys: readonly number[],
    isExclusive = false,
  ) {
    this.#random = random;
    this.#map = map;
    this.#samples = samples;
    this.#keys = keys;
    this.#isExclusive = isExclusive;
  }

  run(): void {
    for (let step = 0; step < stepsEach; step++) this.#step();
    this.#compare();
  }

  #step(): void {
    const key = this.#random.pick(this.#keys);
    switch (this.#random.below(10)) {
      case 0:
      case 1:
      case 2:
        this.#store(key, this.#random.pick(["set", "add", "replace"] as const));
        break;
      case 3:
      case 4:
        expect(this.#map.delete(key)).toBe(this.#model.delete(key));
        break;
      case 5: {
        const keys = Array.from({ length: this.#random.below(8) }, () =>
          this.#random.pick(this.#keys),
        );
        expect(this.#map.getMany(keys)).toEqual(keys.map((each) => this.#model.get(each)));
        break;
      }
      case 6:
        if (this.#random.below(50) > 0) break;
        this.#map.clear();
        this.#model.clear();
        break;
      case 7:
        if (this.#random.below(20) === 0) this.#compare();
        break;
      default:
        expect(this.#map.get(key)).toEqual(this.#model.get(key) as V);
        expect(this.#map.has(key)).toBe(this.#model.has(key));
    }
  }

  #store(key: number, operation: "set" | "add" | "replace"): void {
    const { written, read } = this.#random.pick(this.#samples);
    const conditional = this.#map as Partial<Conditional<W>>;
    const isPresent = this.#model.has(key);
    const isForbidden =
      (operation === "add" && isPresent) || (operation === "replace" && !isPresent);
    const store = (): unknown => {
      if (operation === "set") return this.#map.set(key, written);
      return conditional[operation]?.(key, written);
    };
    if (operation !== "set" && conditional[operation] === undefined) return;
    if (isForbidden) {
      expect(store()).toBe(false);
    } else if (this.#isExclusive && [...this.#model.values()].includes(read)) {
      expect(refusalOf(store).code).toBe("EBUSY");
    } else if (!isPresent && this.#model.size >= this.#map.maxEntries) {
      expect(refusalOf(store).code).toBe("E2BIG");
    } else {
      expect(store()).toBe(operation === "set" ? this.#map : true);
      this.#model.set(key, read);
    }
  }

  #compare(): void {
    const entries = [...this.#map];
    expect(new Map(entries)).toEqual(this.#model);
    expect(entries).toHaveLength(this.#model.size);
    expect(new Set(this.#map.keys())).toEqual(new Set(this.#model.keys()));
    expect(this.#map.toMap()).toEqual(this.#model);
    expect([...this.#map.values()]).toEqual(entries.map(([, value]) => value));
    expect(this.#map.count()).toBe(this.#model.size);
    let seen = 0;
    this.#map.forEach((value, key) => {
      expect(value).toEqual(this.#model.get(key) as V);
      seen++;
    });
    expect(seen).toBe(this.#model.size);
  }
}

/** All indexes of an array, over which iteration must be in order. */
function indexesOf<V, W>(map: SparseArrayMap<V, W>): number[] {
  return [...Array(map.length).keys()];
}

function program(value: number): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(asm.r0, value), asm.exit()],
  });
}

describe("behaves like a Map:", () => {
  bpfTest("a program array", () => {
    withRandom((random) => {
      using open = new DisposableStack();
      const map = open.use(new ProgArray({ length: 1 + random.below(200) }));
      const samples = [1, 2, 3].map((value) => {
        const written = open.use(program(value));
        return { written, read: written.info().id };
      });
      new Pair(random, map, samples, indexesOf(map)).run();
      expect([...map.keys()]).toEqual([...map.keys()].sort((a, b) => a - b));
    });
  });

  bpfTest("an array of sockets", () => {
    withRandom((random) => {
      using open = new DisposableStack();
      const map = open.use(new SockMap({ length: 1 + random.below(200) }));
      const samples = [listener, datagramSocket, listener].map((make) => {
        const written = open.use(make());
        return { written, read: cookieOf(written) };
      });
      new Pair(random, map, samples, indexesOf(map)).run();
    });
  });

  bpfTest("a hash of sockets", () => {
    withRandom((random) => {
      using open = new DisposableStack();
      const map = open.use(new SockHash({ key: t.u32, maxEntries: 1 + random.below(200) }));
      const samples = [listener, datagramSocket, listener].map((make) => {
        const written = open.use(make());
        return { written: { fd: written.fd }, read: cookieOf(written) };
      });
      const keys = Array.from({ length: 2 * map.maxEntries }, () => random.below(2 ** 32));
      new Pair(random, map, samples, keys).run();
    });
  });

  bpfTest("an array of sockets that share ports", () => {
    withRandom((random) => {
      using open = new DisposableStack();
      const map = open.use(new ReuseportSockArray({ length: 1 + random.below(20) }));
      const samples = Array.from({ length: 12 }, () => {
        const written = open.use(random.pick([listener, datagramSocket])());
        return { written, read: cookieOf(written) };
      });
      new Pair(random, map, samples, indexesOf(map), true).run();
    });
  });

  for (const [name, make] of [
    ["an array", (maxEntries: number) => new DevMap({ length: maxEntries })],
    ["a hash", (maxEntries: number) => new DevMapHash({ maxEntries })],
  ] as const) {
    bpfTest(`${name} of network interfaces`, async () => {
      using observer = devMapProgram();
      const id = await programId(observer);
      withRandom((random) => {
        using map = make(1 + random.below(150));
        const alone = { ifindex: 1, programId: undefined };
        const samples = [
          { written: 1, read: alone },
          { written: "lo", read: alone },
          { written: { ifindex: "lo" }, read: alone },
          { written: { ifindex: 1, program: observer }, read: { ifindex: 1, programId: id } },
        ];
        const keys =
          map instanceof DevMap
            ? indexesOf(map)
            : Array.from({ length: 2 * map.maxEntries }, () => random.below(2 ** 32));
        new Pair(random, map, samples, keys).run();
      });
    });
  }

  bpfTest("a map of CPUs", async () => {
    using observer = cpuMapProgram();
    const id = await programId(observer);
    withRandom((random) => {
      using map = new CpuMap();
      const samples = [
        { written: { queueSize: 1 }, read: { queueSize: 1, programId: undefined } },
        { written: { queueSize: 2, program: observer }, read: { queueSize: 2, programId: id } },
      ];
      new Pair(random, map, samples, possibleCpus()).run();
    });
  });
});
