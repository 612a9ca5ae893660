import { inspect } from "node:util";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ArrayMap,
  type AssociativeMap,
  BloomFilter,
  type BpfMap,
  HashMap,
  type IndexedMap,
  type KeyedMap,
  LpmTrie,
  LruHashMap,
  LruPerCpuHashMap,
  PerCpuArrayMap,
  type PerCpuAssociativeMap,
  PerCpuHashMap,
  possibleCpus,
  type PushPopMap,
  Queue,
  Stack,
  t,
} from "../../src/index.ts";
import { packageRoot } from "../support/run.ts";

/** Members by name, each with a call that uses it. */
type Uses<M> = Readonly<Record<string | symbol, (map: M) => unknown>>;

/** Map class. */
export interface Subject<M extends BpfMap = BpfMap> {
  readonly create: () => M;
  /** Uses of every member that makes a system call, or returns an object that does. */
  readonly uses: Uses<M>;
  /** Returns the contents of a map. */
  readonly contents: (map: M) => unknown;
}

const bpfMapUses: Uses<BpfMap> = {
  fd: (map) => map.fd,
  info: (map) => map.info(),
  freeze: (map) => map.freeze(),
  pin: (map) => map.pin("/sys/fs/bpf/gone"),
  unpin: (map) => map.unpin("/sys/fs/bpf/gone"),
  dup: (map) => map.dup(),
};

const keyedUses = <K, V, W>(key: K): Uses<KeyedMap<K, V, W>> => ({
  ...bpfMapUses,
  get: (map) => map.get(key),
  has: (map) => map.has(key),
  getMany: (map) => map.getMany([]),
  entries: (map) => [...map.entries()],
  keys: (map) => [...map.keys()],
  values: (map) => [...map.values()],
  entriesInBatches: (map) => [...map.entriesInBatches()],
  [Symbol.iterator]: (map) => [...map],
  forEach: (map) => map.forEach(() => {}),
  nextKey: (map) => map.nextKey(),
  count: (map) => map.count(),
  toMap: (map) => map.toMap(),
});

const associativeUses = <K, V, W>(key: K, value: W): Uses<AssociativeMap<K, V, W>> => ({
  ...keyedUses<K, V, W>(key),
  set: (map) => map.set(key, value),
  add: (map) => map.add(key, value),
  replace: (map) => map.replace(key, value),
  setMany: (map) => map.setMany([]),
  delete: (map) => map.delete(key),
  deleteMany: (map) => map.deleteMany([]),
  take: (map) => map.take(key),
  takeMany: (map) => map.takeMany([]),
  takeAll: (map) => [...map.takeAll()],
  takeAllInBatches: (map) => [...map.takeAllInBatches()],
  clear: (map) => map.clear(),
});

const indexedUses = <V, W>(value: W): Uses<IndexedMap<V, W>> => ({
  ...keyedUses<number, V, W>(1),
  set: (map) => map.set(1, value),
  setMany: (map) => map.setMany([]),
  at: (map) => map.at(99),
});

/** Further uses of per-CPU maps. */
const perCpuUses: Uses<PerCpuAssociativeMap<number, number> | PerCpuArrayMap<t.Type<number>>> = {
  sum: (map) => map.sum(1),
  reduce: (map) => map.reduce(1, (sum, value) => sum + value, 0),
  getCpu: (map) => map.getCpu(1, possibleCpus()[0] as number),
  setCpu: (map) => map.setCpu(1, possibleCpus()[0] as number, 1),
};

/** Further uses of arrays with mapped values. */
const mappedUses: Uses<ArrayMap<t.Type<number>>> = {
  view: (map) => map.view,
  load: (map) => map.load(1),
  atomicAdd: (map) => map.atomicAdd(1, 1),
};

const pushPopUses: Uses<PushPopMap<number>> = {
  ...bpfMapUses,
  push: (map) => map.push(1),
  pop: (map) => map.pop(),
  peek: (map) => map.peek(),
  takeAll: (map) => [...map.takeAll()],
  clear: (map) => map.clear(),
};

const keyed = { key: t.u32, value: t.u32, maxEntries: 64, name: "gone" };
const valued = { value: t.u32, maxEntries: 4, name: "gone" };
const indexed = { value: t.u32, length: 4, name: "gone" };
const each = possibleCpus().map(() => 1);

/** Checks the uses of a class against its type, for the tables below, which have all classes. */
function subject<M extends BpfMap>(
  create: () => M,
  uses: Uses<M>,
  contents: (map: M) => unknown,
): Subject {
  return { create, uses, contents } as unknown as Subject;
}

/** Uses by class. A new map class needs a line here, and a table above for members that others lack. */
export const subjects: Readonly<Record<string, Subject>> = {
  HashMap: subject(
    () => new HashMap(keyed),
    associativeUses(1, 1),
    (map) => [...map],
  ),
  LruHashMap: subject(
    () => new LruHashMap(keyed),
    associativeUses(1, 1),
    (map) => [...map],
  ),
  PerCpuHashMap: subject(
    () => new PerCpuHashMap(keyed),
    { ...associativeUses(1, each), ...perCpuUses },
    (map) => [...map],
  ),
  LruPerCpuHashMap: subject(
    () => new LruPerCpuHashMap(keyed),
    { ...associativeUses(1, each), ...perCpuUses },
    (map) => [...map],
  ),
  ArrayMap: subject(
    () => new ArrayMap({ ...indexed, mmap: true }),
    { ...indexedUses(1), ...mappedUses },
    (map) => [...map],
  ),
  PerCpuArrayMap: subject(
    () => new PerCpuArrayMap(indexed),
    { ...indexedUses(each), ...perCpuUses },
    (map) => [...map],
  ),
  LpmTrie: subject(
    () => new LpmTrie({ ...keyed, key: t.cidr4 }),
    associativeUses("10.0.0.0/8", 1),
    (map) => [...map],
  ),
  Queue: subject(
    () => new Queue(valued),
    pushPopUses,
    (map) => map.peek(),
  ),
  Stack: subject(
    () => new Stack(valued),
    pushPopUses,
    (map) => map.peek(),
  ),
  BloomFilter: subject(
    () => new BloomFilter(valued),
    {
      ...bpfMapUses,
      add: (map: BloomFilter<t.Type<number>>) => map.add(1),
      has: (map: BloomFilter<t.Type<number>>) => map.has(1),
    },
    (map) => map.has(1),
  ),
};

/** Members that work after disposal, because they were read at creation. */
export const answersOn = [
  "id",
  "name",
  "type",
  "keySize",
  "valueSize",
  "maxEntries",
  "flags",
  "types",
] as const;

/** Members that make no system call, or that end the map. */
export const others: readonly (string | symbol)[] = [
  "constructor",
  "disposed",
  "toString",
  "length",
  "stride",
  Symbol.dispose,
  inspect.custom,
];

/** Names of protected members, which cannot be recognized at run time. */
export function protectedNames(): readonly string[] {
  const folders = ["src/handle", "src/maps"].map((folder) => join(packageRoot, folder));
  const files = folders.flatMap((folder) => readdirSync(folder).map((file) => join(folder, file)));
  return files.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    return [...text.matchAll(/^  protected (?:(?:override|get) )*(\w+)[(<]/gm)].map(
      ([, name]) => name as string,
    );
  });
}
