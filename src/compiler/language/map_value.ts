/** @module Maps of the scope. */

import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../../uapi/bpf.ts";
import type { AnyType } from "../../maps/map_options.ts";
import type { Node } from "../ir/ir.ts";
import { copyOut, loadValue, storeValue } from "./memory.ts";
import { numberOf } from "./numbers.ts";
import { shortName } from "./type_value.ts";
import {
  type Argument,
  BigintValue,
  BooleanValue,
  FixedValue,
  MaybeValue,
  NumberValue,
  type Syntax,
  undefinedValue,
  type Value,
  argument,
  type Lowering,
} from "./value.ts";
import { newSlot, writablePlace, zeroBytes } from "./memory_place.ts";

/** The properties of a map that the compiler needs. */
export interface MapDescription {
  /** Name in the scope, which is also its name in the code. */
  readonly name: string;
  /** The kernel's type, such as `"hash"`. */
  readonly type: string;
  /** Type of the keys; `undefined` for maps without keys. */
  readonly key: AnyType | undefined;
  /** Type of the values; `undefined` for maps whose values programs cannot read. */
  readonly value: AnyType | undefined;
  readonly maxEntries: number;
}

/** Methods of maps by what they need of the map. */
const associative = [
  "get",
  "ref",
  "has",
  "take",
  "set",
  "add",
  "replace",
  "delete",
  "getOrInit",
  "increment",
];
const methods: Readonly<Record<string, readonly string[]>> = {
  hash: associative,
  lru_hash: associative,
  percpu_hash: associative,
  lru_percpu_hash: associative,
  lpm_trie: associative.filter((name) => name !== "increment" && name !== "getOrInit"),
  array: ["get", "ref", "set", "increment"],
  percpu_array: ["get", "ref", "set", "increment"],
  queue: ["push", "pop", "peek"],
  stack: ["push", "pop", "peek"],
  bloom_filter: ["add", "has"],
  cgroup_array: ["has"],
};

/** A map. */
export class MapValue extends FixedValue {
  readonly map: MapDescription;

  constructor(map: MapDescription) {
    super();
    this.map = map;
  }

  override describe(): string {
    return `the map ${JSON.stringify(this.map.name)}`;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const { type, maxEntries } = this.map;
    if (name === "length" && type.endsWith("array")) return new NumberValue(maxEntries);
    const names = methods[type] ?? [];
    return l.refuse(
      at,
      `${this.describe()} has no property ${JSON.stringify(name)} in kernel code`,
      names.length === 0 ? undefined : `It has the methods ${names.join(", ")}`,
    );
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    const { type } = this.map;
    const names = methods[type] ?? [];
    if (!names.includes(name)) {
      l.refuse(
        at,
        `${this.describe()} of the type ${type} has no method ${JSON.stringify(name)} in kernel code`,
        names.length === 0 ? undefined : `It has ${names.join(", ")}`,
      );
    }
    if (type === "queue" || type === "stack" || type === "bloom_filter") {
      return this.#callKeyless(l, name, args, at);
    }
    const key = argument(l, args, 0, at);
    if (type === "cgroup_array") {
      const index = numberOf(l, key, at).node(l.b);
      const result = l.b.callHelper("current_task_under_cgroup", this.node(l), index);
      return new BooleanValue(l.b.compare("eq", l.b.extend(result, 32, true), 1));
    }
    switch (name) {
      case "get":
        return this.#get(l, this.#lookUp(l, key, args[0] ?? at), at);
      case "has":
        return new BooleanValue(l.b.compare("ne", this.#lookUp(l, key, args[0] ?? at), 0));
      case "ref":
        return this.#ref(l, this.#lookUp(l, key, args[0] ?? at), at);
      case "set":
      case "add":
      case "replace": {
        const value = argument(l, args, 1, at);
        const flags = { set: BPF_ANY, add: BPF_NOEXIST, replace: BPF_EXIST }[name];
        const place = this.#storeKey(l, key, args[0] ?? at);
        const result = this.#update(l, place, value, flags, args[1] ?? at);
        return new BooleanValue(l.b.compare("eq", result, 0));
      }
      case "delete": {
        const result = l.b.callHelper("map_delete_elem", this.node(l), this.#storeKey(l, key, at));
        return new BooleanValue(l.b.compare("eq", result, 0));
      }
      case "take": {
        const place = this.#storeKey(l, key, at);
        const found = l.b.callHelper("map_lookup_elem", this.node(l), place);
        return l.choose(
          l.test(l.b.compare("ne", found, 0)),
          () => {
            const value = copyOut(l, this.#valueType(l, at), writablePlace(found), at);
            l.b.callHelper("map_delete_elem", this.node(l), place);
            return value;
          },
          () => undefinedValue,
        );
      }
      case "getOrInit":
        return this.#getOrInit(l, key, argument(l, args, 1, at), at);
      default:
        return this.#increment(l, key, args[1] && argument(l, args, 1, at), at);
    }
  }

  /** Returns the address of the map. */
  node(l: Lowering): Node {
    return l.b.add({ kind: "map", map: this.map.name });
  }

  #valueType(l: Lowering, at: Syntax): AnyType {
    return (
      this.map.value ?? l.refuse(at, `${this.describe()} has no values that programs can read`)
    );
  }

  /** Writes a key to the stack, and returns its address. */
  #storeKey(l: Lowering, key: Value, at: Syntax): Node {
    const type = this.map.key;
    if (type === undefined) return l.refuse(at, `${this.describe()} has no keys`);
    return storeOnStack(l, type, key, `key of ${this.map.name}`, at);
  }

  #lookUp(l: Lowering, key: Value, at: Syntax): Node {
    return l.b.callHelper("map_lookup_elem", this.node(l), this.#storeKey(l, key, at));
  }

  #get(l: Lowering, found: Node, at: Syntax): Value {
    const type = this.#valueType(l, at);
    return l.choose(
      l.test(l.b.compare("ne", found, 0)),
      () => copyOut(l, type, writablePlace(found), at),
      () => undefinedValue,
    );
  }

  #ref(l: Lowering, found: Node, at: Syntax): Value {
    const type = this.#valueType(l, at);
    if (type.kind !== "struct" && type.kind !== "array" && type.kind !== "union") {
      l.refuse(
        at,
        `ref() returns memory, and ${shortName(type)} values have no parts to change`,
        "Use get() and set(), or increment(); or a struct with one field",
      );
    }
    return new MaybeValue(
      "undefined",
      found,
      (at2) => loadValue(at2, type, writablePlace(found), at),
      `a value of the type ${shortName(type)}`,
    );
  }

  #update(l: Lowering, key: Node, value: Value, flags: number, at: Syntax): Node {
    const type = this.#valueType(l, at);
    const stored = storeOnStack(l, type, value, `value of ${this.map.name}`, at);
    return l.b.callHelper("map_update_elem", this.node(l), key, stored, flags);
  }

  #getOrInit(l: Lowering, key: Value, initial: Value, at: Syntax): Value {
    const { b } = l;
    const place = this.#storeKey(l, key, at);
    const first = b.callHelper("map_lookup_elem", this.node(l), place);
    const isMissing = l.test(b.compare("eq", first, 0));
    l.enter(isMissing.yes);
    this.#update(l, place, initial, BPF_NOEXIST, at);
    const second = b.callHelper("map_lookup_elem", this.node(l), place);
    const [missing] = l.leave();
    const [present] = isMissing.no;
    if (missing === undefined || present === undefined) throw new Error("both ways are open");
    const [found] = l.joinNodes([
      { edge: present, nodes: [first] },
      { edge: missing, nodes: [second] },
    ]);
    return this.#ref(l, found as Node, at);
  }

  /** Adds to a number, atomically unless each CPU has its own. A missing entry starts at 0. */
  #increment(l: Lowering, key: Value, by: Value | undefined, at: Syntax): Value {
    const { b } = l;
    const type = this.#valueType(l, at);
    const isBigint = type.kind === "u64" || type.kind === "i64";
    if (!isBigint && !["u32", "i32", "u64Number", "i64Number"].includes(type.kind)) {
      l.refuse(
        at,
        `increment() needs values of 32 or 64 bits, not ${shortName(type)}`,
        "Use getOrInit() and k.atomic.add()",
      );
    }
    const amount = by ?? (isBigint ? new BigintValue(1n) : new NumberValue(1));
    if (isBigint !== amount instanceof BigintValue) {
      l.refuse(
        at,
        `${this.describe()} has values of the type ${type.name}, not ${amount.describe()}`,
        isBigint ? "Convert it: BigInt(x)" : "Convert it: Number(x)",
      );
    }
    const node = isBigint ? (amount as BigintValue).node(b) : numberOf(l, amount, at).node(b);
    const size = type.size as 4 | 8;
    const add = (found: Node): void => {
      if (this.map.type.startsWith("percpu") || this.map.type === "lru_percpu_hash") {
        b.store(found, 0, size, b.binary("add", b.load(found, 0, size), node));
      } else {
        b.writes++;
        b.add({ kind: "atomic", operator: "add", size, offset: 0 }, [found, node]);
      }
    };
    const place = this.#storeKey(l, key, at);
    const first = b.callHelper("map_lookup_elem", this.node(l), place);
    const present = l.test(b.compare("ne", first, 0));
    const after = [];
    l.enter(present.yes);
    add(first);
    after.push(...l.leave());
    l.enter(present.no);
    if (!this.map.type.endsWith("array")) {
      const result = this.#update(l, place, amount, BPF_NOEXIST, at);
      // Another CPU may have added the entry meanwhile.
      const isAdded = l.test(b.compare("eq", result, 0));
      after.push(...isAdded.yes);
      l.enter(isAdded.no);
      const second = b.callHelper("map_lookup_elem", this.node(l), place);
      const isThere = l.test(b.compare("ne", second, 0));
      after.push(...isThere.no);
      l.enter(isThere.yes);
      add(second);
    }
    after.push(...l.leave());
    l.enter(after);
    return undefinedValue;
  }

  #callKeyless(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    const { b } = l;
    const type = this.#valueType(l, at);
    const isFilter = this.map.type === "bloom_filter";
    if (name === "push" || isFilter) {
      const stored = storeOnStack(
        l,
        type,
        argument(l, args, 0, at),
        `value of ${this.map.name}`,
        at,
      );
      if (name === "has") {
        return new BooleanValue(
          b.compare("eq", b.callHelper("map_peek_elem", this.node(l), stored), 0),
        );
      }
      const options = args[1] && argument(l, args, 1, at).property(l, "evict", at).known?.value;
      const flags = options === true ? BPF_EXIST : 0;
      const result = b.callHelper("map_push_elem", this.node(l), stored, flags);
      return new BooleanValue(b.compare("eq", result, 0));
    }
    const room = newSlot(l, type);
    // Linux 5.10 has no helper that writes to memory without a value.
    zeroBytes(l, room, type.size);
    const helper = name === "pop" ? "map_pop_elem" : "map_peek_elem";
    const result = b.callHelper(helper, this.node(l), room.pointer);
    return l.choose(
      l.test(b.compare("eq", result, 0)),
      () => copyOut(l, type, { ...room, isStable: true }, at),
      () => undefinedValue,
    );
  }
}

/** Writes a value to the stack, and returns its address. */
function storeOnStack(l: Lowering, type: AnyType, value: Value, what: string, at: Syntax): Node {
  if (type.size > 256) {
    l.refuse(at, `${what}: ${type.size} bytes do not fit on the stack`, "Use a smaller type");
  }
  const place = newSlot(l, type);
  storeValue(l, type, place, value, what, at);
  return place.pointer;
}
