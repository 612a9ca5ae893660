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

/** A kernel bug in tries that was fixed: the first kernel without it, and how it shows. */
interface TrieFix {
  readonly since: KernelVersion;
  /** Tries it out: what is still wrong, in words; `undefined` for nothing. */
  readonly reproduce: (call: TrieCall) => string | undefined;
}

/** Calls for 10.0.`third`.0/24 on a trie with room for a few networks. Returns the name of the error, or `undefined` for none. */
type TrieCall = (
  command: BpfCommand,
  thirdByte: number,
  flags?: number,
  valueOrNextKey?: Uint8Array,
) => string | undefined;

/** The key of 10.0.`third`.0/24: the length of the prefix, and the address in network order. */
function network(thirdByte: number): Uint8Array {
  return Uint8Array.of(24, 0, 0, 0, 10, 0, thirdByte, 0);
}

/** The number of networks that the probed trie has room for. */
const maxNetworks = 3;

/** The fixed bugs, by what is right since. Stable kernels of earlier versions may have the fixes, too. */
export const trieFixes = {
  /** Before, a trie stored whatever the flags said, and a full one refused to replace what it had. */
  lpm_trie_update: {
    since: "6.13",
    reproduce(call) {
      if (call(BPF_MAP_UPDATE_ELEM, 0, BPF_EXIST) === undefined) {
        return "it replaces what is not there";
      }
      for (let thirdByte = 0; thirdByte < maxNetworks; thirdByte++)
        call(BPF_MAP_UPDATE_ELEM, thirdByte);
      if (call(BPF_MAP_UPDATE_ELEM, 0, BPF_NOEXIST) !== "EEXIST") {
        return "it adds what is there";
      }
      const error = call(BPF_MAP_UPDATE_ELEM, 0);
      return error && `where it is full it refuses to replace a value (${error})`;
    },
  },
  /** Before, the next key of one that was deleted meanwhile could be any: walks passed entries over. */
  lpm_trie_next_key: {
    since: "6.13",
    reproduce(call) {
      for (const thirdByte of [2, 4]) call(BPF_MAP_UPDATE_ELEM, thirdByte);
      const next = new Uint8Array(8);
      call(BPF_MAP_GET_NEXT_KEY, 3, 0, next);
      return next[6] === 2 ? undefined : "it takes a network for another one of the same length";
    },
  },
} as const satisfies Readonly<Record<string, TrieFix>>;

/** Probes a fix: `"available"`, the name of the error that kept the probe from an answer, or what is still wrong. */
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
 * The reason why tries of this kernel do not heed BPF_NOEXIST and BPF_EXIST, or why that cannot be known; `undefined` where
 * they do. Probed once.
 *
 * @throws {Error} where the probe gets no answer: the next call probes again
 */
function unconditionalUpdateReason(): string | undefined {
  const answer = updateAnswer ?? probeTrieFix("lpm_trie_update");
  if (answer === "available") {
    updateAnswer = answer;
    return undefined;
  }
  if (answer === "EPERM" || answer === "EACCES") return explainPermission(["CAP_BPF"], true);
  if (typeof answer === "string") {
    throw new Error(`cannot find out whether tries heed conditions: the kernel answers ${answer}`);
  }
  updateAnswer = answer;
  const { since } = trieFixes.lpm_trie_update;
  if (isKernelSince(since)) return answer.missing;
  return `it came with kernel ${since} and stable kernels of its time, and this is ${kernelRelease()}`;
}

/** Options of {@link LpmTrie}. Entries are allocated as they come. */
export type LpmTrieOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/** Bytes of a key: 4 for the prefix length, and 1 to 256 for the address (kernel/bpf/lpm_trie.c). */
const [minKeySize, maxKeySize] = [5, 260];

/**
 * A trie for longest-prefix matches: networks to values, looked up by address.
 *
 * Kernel 4.11; walks, and so `clear` and all that lists, 4.16. The key is `t.cidr4` or `t.cidr6`, text such as
 * `"10.0.0.0/8"`; or any struct of a `t.u32` prefix length followed by 1 to 256 bytes with the first bit first.
 *
 * `get`, `getMany` and `has` find the entry with the longest prefix that covers the key: `get("10.1.2.3/32")` is the value
 * of `"10.0.0.0/8"` where nothing closer is stored. All else means exactly the prefix that is given. Before kernel 6.13, but
 * for later updates of stable kernels, `add` and `replace` are refused, a full trie replaces nothing, and a walk passes over
 * entries beside those that are deleted during it.
 *
 * Walks give longer prefixes before those that cover them. While others delete, every kernel may pass an entry over
 * that stays (once or so in a million), and a key that is deleted at the moment of its fetch may come with the value of a
 * shorter prefix.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { LpmTrie, t } from "bun-bpf";
 * using routes = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 1024 });
 * routes.set("10.0.0.0/8", 1).set("10.1.0.0/16", 2);
 * console.log(routes.get("10.1.2.3/32"), routes.get("10.9.9.9/32"), routes.get("192.0.2.1/32")); // 2 1 undefined
 * ```
 */
export class LpmTrie<K extends AnyType, V extends AnyType> extends SingleTakeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "lpm_trie"
> {
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
  /** The types that keys and values are written and read with. */
  declare readonly types: KeyedMapTypes<K, V>;

  constructor(options: LpmTrieOptions<K, V>) {
    const handle = LpmTrie.kind.handle(options);
    const { key, value } = handle.types;
    super(handle, {
      key,
      value,
      isReadByPrograms: !hasOpaqueField(value),
      keyHints: {
        EINVAL: `The prefix is longer than the ${(key.size - 4) * 8} bits of the address, or a trie does not take these options`,
      },
    });
  }

  /**
   * Stores a value only if this very prefix is absent; whether it did.
   *
   * @throws {BpfError} `EOPNOTSUPP` on kernels that store it in any case (before 6.13, but for later updates of stable kernels)
   */
  override add(key: Infer<K>, value: Infer<V>, options?: ElementOptions): boolean {
    this.#requireConditions("add to");
    return super.add(key, value, options);
  }

  /** Stores a value only if this very prefix is present; whether it did. @throws as {@link add} */
  override replace(key: Infer<K>, value: Infer<V>, options?: ElementOptions): boolean {
    this.#requireConditions("replace in");
    return super.replace(key, value, options);
  }

  /** The one refusal that is the library's: the kernel would do it, and more than was asked. */
  #requireConditions(doing: string): void {
    // A map that is disposed of says so, on every kernel.
    const reason = this.disposed ? undefined : unconditionalUpdateReason();
    if (reason === undefined) return;
    throw new BpfError({
      errno: EOPNOTSUPP,
      syscall: "bpf(BPF_MAP_UPDATE_ELEM)",
      doing: `${doing} the ${this}`,
      hint: `This kernel stores in tries whether the prefix is there or not: ${reason}. Use set()`,
    });
  }
}
