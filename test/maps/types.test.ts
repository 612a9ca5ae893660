/** TypeScript types of maps: inference from `t` types, and derivation of the types that kernel code uses. */
import { describe, expectTypeOf, test } from "bun:test";
import {
  ArrayMap,
  type BpfMap,
  createMap,
  HashMap,
  type LruHashMap,
  LpmTrie,
  type PerCpuHashMap,
  PerfBuffer,
  type PerfEventArray,
  type Queue,
  RingBuf,
  SockMap,
  StackTraceMap,
  type BuildIdFrame,
  t,
} from "../../src/index.ts";

type AnyType = t.Type<unknown>;

/** Map as kernel code sees it. */
interface InsideMap<K extends AnyType, V extends AnyType> {
  get(key: t.Inside<K>): Readonly<t.Inside<V>> | undefined;
  set(key: t.Inside<K>, value: t.Inside<V>): boolean;
}

/** Object of this process as kernel code sees it. */
type KernelView<M> =
  M extends HashMap<infer K, infer V>
    ? { readonly kind: "hash" } & InsideMap<K, V>
    : M extends LruHashMap<infer K, infer V>
      ? { readonly kind: "lru" } & InsideMap<K, V>
      : M extends ArrayMap<infer V>
        ? { readonly kind: "array"; readonly length: number; get(index: number): t.Inside<V> }
        : M extends RingBuf<infer E>
          ? { readonly kind: "ring"; output(event: t.Inside<E>): void }
          : M extends Queue<infer V>
            ? { readonly kind: "queue"; push(value: t.Inside<V>): boolean }
            : M;

type Scope<S> = { readonly [N in keyof S]: KernelView<S[N]> };

const Account = t.struct({ lock: t.spinLock, packets: t.u64 });
type Account = typeof Account;

declare const maps: {
  readonly accounts: HashMap<typeof t.u32, Account>;
  readonly recent: LruHashMap<typeof t.ipv4, typeof t.u64Number>;
  readonly totals: ArrayMap<Account>;
  readonly events: RingBuf<Account>;
  readonly jobs: Queue<typeof t.u32>;
  readonly limit: number;
};
type Inside = Scope<typeof maps>;

describe("types of maps", () => {
  test("are inferred from the `t` types in the options", () => {
    // Never called: only its types matter.
    const _calls = () => {
      const map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 1 });
      expectTypeOf(map).toEqualTypeOf<HashMap<typeof t.u32, typeof t.u64>>();
      expectTypeOf(map.get).toBeCallableWith(1);
      expectTypeOf(map.get(1)).toEqualTypeOf<bigint | undefined>();
      expectTypeOf(map.set(1, 2n)).toEqualTypeOf<HashMap<typeof t.u32, typeof t.u64>>();
      expectTypeOf([...map]).toEqualTypeOf<[key: number, value: bigint][]>();
      expectTypeOf(map.dup()).toEqualTypeOf<HashMap<typeof t.u32, typeof t.u64>>();
      expectTypeOf(map.type).toEqualTypeOf<"hash">();
      // @ts-expect-error a text is not a number
      map.set("1", 2n);
      const accounts = new HashMap({ key: t.u32, value: Account, maxEntries: 1 });
      expectTypeOf(accounts.get(1)).toEqualTypeOf<{ packets: bigint } | undefined>();
      const trie = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 1 });
      expectTypeOf(trie.get("10.0.0.0/8")).toEqualTypeOf<number | undefined>();
      const array = new ArrayMap({ value: t.u32, length: 1 });
      expectTypeOf(array.at(0)).toEqualTypeOf<number | undefined>();
      // @ts-expect-error an array has no keys to delete
      array.delete(0);
      const ring = new RingBuf({ size: 4096, event: t.struct({ pid: t.u32 }) });
      ring.drain((event) => expectTypeOf(event).toEqualTypeOf<{ pid: number }>());
    };
    expectTypeOf(_calls).toEqualTypeOf<() => void>();
  });

  test("are inferred from the types with which a map is opened", () => {
    const types = { key: t.u32, value: t.u64 };
    const _calls = () => {
      expectTypeOf(HashMap.open("", types)).toEqualTypeOf<HashMap<typeof t.u32, typeof t.u64>>();
      expectTypeOf(HashMap.fromId(1, { key: t.ipv4, value: t.u32 })).toEqualTypeOf<
        HashMap<typeof t.ipv4, typeof t.u32>
      >();
      expectTypeOf(ArrayMap.fromFd(3, { value: t.u32 }).get(0)).toEqualTypeOf<number | undefined>();
      expectTypeOf(SockMap.open("")).toEqualTypeOf<SockMap>();
      expectTypeOf(StackTraceMap.open("").get(1)).toEqualTypeOf<
        (bigint | BuildIdFrame)[] | undefined
      >();
      const places = StackTraceMap.open("", { buildId: true });
      expectTypeOf(places.dup().get(1)).toEqualTypeOf<BuildIdFrame[] | undefined>();
      expectTypeOf(PerfBuffer.open("", { event: t.u32 }).dup()).toEqualTypeOf<PerfEventArray>();
      expectTypeOf(createMap({ type: "lru_hash", ...types, maxEntries: 1 })).toEqualTypeOf<
        LruHashMap<typeof t.u32, typeof t.u64>
      >();
      // @ts-expect-error the type of the values is missing
      HashMap.open("", { key: t.u32 });
      // @ts-expect-error a hash map cannot be opened without types
      HashMap.open("");
      // @ts-expect-error misspelt name
      PerfBuffer.open("", { event: t.u32, sise: 4096 });
    };
    expectTypeOf(_calls).toEqualTypeOf<() => void>();
  });

  test("determine the types for kernel code, including spin locks", () => {
    type Value = { lock: t.KernelField<"spin_lock">; packets: bigint };
    expectTypeOf<Inside["accounts"]["kind"]>().toEqualTypeOf<"hash">();
    expectTypeOf<ReturnType<Inside["accounts"]["get"]>>().toEqualTypeOf<
      Readonly<Value> | undefined
    >();
    expectTypeOf<Parameters<Inside["accounts"]["get"]>>().toEqualTypeOf<[key: number]>();
    expectTypeOf<Inside["recent"]["kind"]>().toEqualTypeOf<"lru">();
    expectTypeOf<Parameters<Inside["recent"]["set"]>[1]>().toEqualTypeOf<number>();
    expectTypeOf<ReturnType<Inside["totals"]["get"]>>().toEqualTypeOf<Value>();
    expectTypeOf<Parameters<Inside["events"]["output"]>>().toEqualTypeOf<[event: Value]>();
    expectTypeOf<Inside["jobs"]["kind"]>().toEqualTypeOf<"queue">();
    expectTypeOf<Inside["limit"]>().toEqualTypeOf<number>();
  });

  test("distinguish maps of the same shape, and keep the types of keys and values", () => {
    type Lru = LruHashMap<typeof t.u32, Account>;
    type IsHash<M> = M extends HashMap<AnyType, AnyType> ? true : false;
    expectTypeOf<IsHash<Lru>>().toEqualTypeOf<false>();
    expectTypeOf<IsHash<LpmTrie<typeof t.cidr4, Account>>>().toEqualTypeOf<false>();
    expectTypeOf<IsHash<PerCpuHashMap<typeof t.u32, Account>>>().toEqualTypeOf<false>();
    expectTypeOf<IsHash<HashMap<typeof t.u32, Account>>>().toEqualTypeOf<true>();
    type Types<M> = M extends { readonly types: infer T } ? T : never;
    expectTypeOf<Types<Lru>>().toEqualTypeOf<{
      readonly key: typeof t.u32;
      readonly value: Account;
    }>();
    expectTypeOf<Lru>().toExtend<BpfMap>();
  });
});
