import type { BpfCommand } from "../ffi/bpf.ts";
import { LPM_TRIE } from "./map_types.ts";
import { probeElement, probeMap } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { explainPermission } from "../ffi/permission.ts";
import { hasOpaqueField } from "../types/opaque.ts";
import { describe } from "../check/describe.ts";
import { BPF_MAP_GET_NEXT_KEY, BPF_MAP_UPDATE_ELEM } from "../uapi/commands.ts";
import { BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST } from "../uapi/bpf.ts";
import { EOPNOTSUPP } from "../uapi/errno.ts";
import type { Infer } from "../types/type.ts";
import { SingleTakeMap } from "./keyed_map.ts";
import type { ElementOptions } from "./elements.ts";
import {
  type AnyType,
  checkTypes,
  type KeyedMapOptions,
  type KeyedMapTypes,
  MapKind,
  type TypeIn,
} from "./map_options.ts";
import { checkMaxEntries } from "./map_spec.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    LpmTrie: LpmTrie<TypeIn<T, "key">, TypeIn<T, "value">>;
  }
}

/** Kernel bug in LPM tries that was fixed. */
interface TrieFix {
  /** First kernel version with the fix. */
  readonly since: KernelVersion;
  /** Reproduces the bug on an empty trie. Returns its description, or `undefined` if the kernel has the fix. */
  readonly reproduce: (call: TrieCall) => string | undefined;
}

/** Makes a call of bpf(2) for 10.0.`thirdByte`.0/24. Returns the name of the error, or `undefined` if the call succeeded. */
type TrieCall = (
  command: BpfCommand,
  thirdByte: number,
  flags?: number,
  valueOrNextKey?: Uint8Array,
) => string | undefined;

/** Returns the key of 10.0.`thirdByte`.0/24: the prefix length, and the address in network byte order. */
function network(thirdByte: number): Uint8Array {
  return Uint8Array.of(24, 0, 0, 0, 10, 0, thirdByte, 0);
}

/** `max_entries` of the probed trie. */
const maxNetworks = 3;

/** Fixed bugs, by name of the fix. Stable kernels of earlier versions can have the fixes too. */
export const trieFixes = {
  /** Updates obey BPF_NOEXIST and BPF_EXIST, and a full trie accepts replacing a value. */
  lpm_trie_update: {
    since: "6.13",
    reproduce(call) {
      if (call(BPF_MAP_UPDATE_ELEM, 0, BPF_EXIST) === undefined) {
        return "it stores an absent prefix although BPF_EXIST is set";
      }
      for (let thirdByte = 0; thirdByte < maxNetworks; thirdByte++)
        call(BPF_MAP_UPDATE_ELEM, thirdByte);
      if (call(BPF_MAP_UPDATE_ELEM, 0, BPF_NOEXIST) !== "EEXIST") {
        return "it replaces a present prefix although BPF_NOEXIST is set";
      }
      const error = call(BPF_MAP_UPDATE_ELEM, 0);
      return error && `it rejects replacing a value in a full trie (${error})`;
    },
  },
  /**
   * BPF_MAP_GET_NEXT_KEY continues after a deleted key in order. Before the fix, it could return any key, and iterations
   * skipped entries.
   */
  lpm_trie_next_key: {
    since: "6.13",
    reproduce(call) {
      for (const thirdByte of [2, 4]) call(BPF_MAP_UPDATE_ELEM, thirdByte);
      const next = new Uint8Array(8);
      call(BPF_MAP_GET_NEXT_KEY, 3, 0, next);
      return next[6] === 2
        ? undefined
        : "it confuses a network with another one of the same prefix length";
    },
  },
} as const satisfies Readonly<Record<string, TrieFix>>;

/** Probes a fix. Returns `"available"`, the name of the error that made the probe fail, or the description of the bug. */
export function probeTrieFix(fix: keyof typeof trieFixes): string | { readonly missing: string } {
  const map = probeMap({
    type: "LPM_TRIE",
    keySize: 8,
    valueSize: 8,
    maxEntries: maxNetworks,
    flags: BPF_F_NO_PREALLOC,
  });
  if (!(map instanceof Descriptor)) return map;
  using trie = map;
  const problem = trieFixes[fix].reproduce(
    (command, thirdByte, flags = 0, value = new Uint8Array(8)) =>
      probeElement(command, trie.fd, network(thirdByte), value, flags),
  );
  return problem === undefined ? "available" : { missing: problem };
}

let updateAnswer: ReturnType<typeof probeTrieFix> | undefined;

/**
 * Returns the reason why tries of this kernel ignore BPF_NOEXIST and BPF_EXIST, or why that is unknown. Returns `undefined`
 * if the kernel has the fix. The result of the probe is cached.
 *
 * @throws {Error} if the probe fails: the next call probes again.
 */
function unconditionalUpdateReason(): string | undefined {
  const answer = updateAnswer ?? probeTrieFix("lpm_trie_update");
  if (answer === "available") {
    updateAnswer = answer;
    return undefined;
  }
  if (answer === "EPERM" || answer === "EACCES") return explainPermission(["CAP_BPF"], true);
  if (typeof answer === "string") {
    throw new Error(
      `cannot probe whether tries of this kernel support add() and replace(): ${answer}`,
    );
  }
  updateAnswer = answer;
  const { since } = trieFixes.lpm_trie_update;
  if (isKernelSince(since)) return answer.missing;
  return `they need Linux ${since} or an update of an earlier stable kernel, and this is ${kernelRelease()}`;
}

/** Options of {@link LpmTrie}. The kernel allocates entries when they are stored. */
export type LpmTrieOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/** Bytes of a key: 4 for the prefix length, and 1 to 256 for the address (kernel/bpf/lpm_trie.c). */
const [minKeySize, maxKeySize] = [5, 260];

/**
 * Trie for longest-prefix matches: maps networks to values, and looks them up by address.
 *
 * The key type is `t.cidr4` or `t.cidr6`, texts such as `"10.0.0.0/8"`; or a struct of a `t.u32` prefix length followed by
 * 1 to 256 bytes of data with the most significant bit first.
 *
 * `get`, `getMany` and `has` find the entry with the longest prefix that covers the key: `get("10.1.2.3/32")` returns the
 * value of `"10.0.0.0/8"` if no longer prefix that covers the address is stored. All other methods use exactly the given
 * prefix.
 *
 * Iteration returns longer prefixes before those that cover them. While other processes or programs delete entries, every
 * kernel can skip an entry that stays in the map (about once in a million). A key that is deleted at the moment of its
 * look-up can then be returned with the value of a shorter prefix.
 *
 * Kernels before 6.13 have bugs, unless they are stable kernels with the fixes: `add` and `replace` throw, a full trie does
 * not replace values, and an iteration skips more entries next to deleted ones.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { LpmTrie, t } from "bun-bpf";
 * using routes = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 1024 });
 * routes.set("10.0.0.0/8", 1).set("10.1.0.0/16", 2);
 * console.log(routes.get("10.1.2.3/32"), routes.get("10.9.9.9/32"), routes.get("192.0.2.1/32")); // 2 1 undefined
 * ```
 *
 * Requires Linux 4.13; 4.16 for iteration and `clear`.
 */
export class LpmTrie<K extends AnyType, V extends AnyType> extends SingleTakeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "lpm_trie"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<
    "LpmTrie",
    KeyedMapTypes<AnyType, AnyType>,
    LpmTrieOptions<AnyType, AnyType>
  >({
    row: LPM_TRIE,
    className: "LpmTrie",
    types: ["key", "value"],
    options: ["maxEntries"],
    sizes(types) {
      checkTypes(types);
      const { key, value } = types;
      if (key.size < minKeySize || key.size > maxKeySize) {
        throw new RangeError(
          `key: expected t.cidr4, t.cidr6 or a struct of ${minKeySize} to ${maxKeySize} bytes that begins with the prefix length, got ${describe(key.name)} of ${key.size}`,
        );
      }
      return { keySize: key.size, valueSize: value.size };
    },
    complete({ key, value, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, types: { key, value } };
    },
  });
  /** Types of the keys and values. */
  declare readonly types: KeyedMapTypes<K, V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: LpmTrieOptions<K, V>) {
    const handle = LpmTrie.kind.handle(options);
    const { key, value } = handle.types;
    super(handle, {
      key,
      value,
      isReadByPrograms: !hasOpaqueField(value),
      keyHints: {
        EINVAL: `The prefix is longer than the ${(key.size - 4) * 8} bits of the address, or tries do not support the options of this call`,
      },
    });
  }

  /**
   * Stores a value only if exactly this prefix is absent. Returns true if it was stored. The kernel checks and stores in
   * one step.
   *
   * @throws {BpfError} EOPNOTSUPP if the kernel would ignore the condition (before 6.13, and stable kernels without the
   *   fix).
   * @throws {BpfError} ENOSPC if the trie is full.
   * @throws {TypeError | RangeError} if the key or value type rejects the key or value.
   */
  override add(key: Infer<K>, value: Infer<V>, options?: ElementOptions): boolean {
    this.#requireConditions("add to");
    return super.add(key, value, options);
  }

  /**
   * Stores a value only if exactly this prefix is present. Returns true if it was stored. The kernel checks and stores in
   * one step.
   *
   * @throws {BpfError} EOPNOTSUPP if the kernel would ignore the condition (before 6.13, and stable kernels without the
   *   fix).
   * @throws {TypeError | RangeError} if the key or value type rejects the key or value.
   */
  override replace(key: Infer<K>, value: Infer<V>, options?: ElementOptions): boolean {
    this.#requireConditions("replace in");
    return super.replace(key, value, options);
  }

  /** Throws if the kernel would ignore the condition of an update and store in any case. */
  #requireConditions(doing: string): void {
    // After disposal the call itself throws a DisposedError, on every kernel.
    const reason = this.disposed ? undefined : unconditionalUpdateReason();
    if (reason === undefined) return;
    throw new BpfError({
      errno: EOPNOTSUPP,
      syscall: "bpf(BPF_MAP_UPDATE_ELEM)",
      doing: `${doing} the ${this}`,
      hint: `add() and replace() of tries are not available here: ${reason}. Use set()`,
    });
  }
}
