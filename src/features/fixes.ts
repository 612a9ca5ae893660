/** @module Kernel bugs that affect this library, and the versions that fixed them. */

import type { Capability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { type ElementCommand, probeElement, probeMap } from "../ffi/bpf_probe.ts";
import { BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST } from "../uapi/bpf.ts";
import { Feature, FeatureGroup, type ProbeAnswer } from "./feature.ts";

/** A fix: the version that has it, and a probe of the bug. */
interface FixFacts {
  readonly since: KernelVersion;
  readonly needs: readonly Capability[];
  /** Says what is still wrong; `undefined` for nothing. */
  readonly mistake: (trie: ProbedTrie) => string | undefined;
}

/** A trie to try things on, with room for a few networks of 24 bits. */
class ProbedTrie {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The name of the error of a call for 10.0.`third`.0/24, or `undefined` for none. */
  call(command: ElementCommand, third: number, flags = 0, room = new Uint8Array(8)) {
    return probeElement(command, this.#fd, network(third), room, flags);
  }
}

/** The key of 10.0.`third`.0/24: the length of the prefix, and the address in network order. */
function network(third: number): Uint8Array {
  return Uint8Array.of(24, 0, 0, 0, 10, 0, third, 0);
}

/** Number of networks that {@link ProbedTrie} has room for. */
const room = 3;

const facts = {
  /** Before, a trie stored whatever the flags said, and a full one refused to replace what it had. */
  lpm_trie_update: {
    since: "6.13",
    needs: ["CAP_BPF"],
    mistake(trie) {
      if (trie.call("BPF_MAP_UPDATE_ELEM", 0, BPF_EXIST) === undefined) {
        return "it replaces what is not there";
      }
      for (let third = 0; third < room; third++) trie.call("BPF_MAP_UPDATE_ELEM", third);
      if (trie.call("BPF_MAP_UPDATE_ELEM", 0, BPF_NOEXIST) !== "EEXIST") {
        return "it adds what is there";
      }
      const error = trie.call("BPF_MAP_UPDATE_ELEM", 0);
      return error && `where it is full it refuses to replace a value (${error})`;
    },
  },
  /** Before, the next key of one that was deleted meanwhile could be any: walks passed entries over. */
  lpm_trie_next_key: {
    since: "6.13",
    needs: ["CAP_BPF"],
    mistake(trie) {
      for (const third of [2, 4]) trie.call("BPF_MAP_UPDATE_ELEM", third);
      const next = new Uint8Array(8);
      trie.call("BPF_MAP_GET_NEXT_KEY", 3, 0, next);
      return next[6] === 2 ? undefined : "it takes a network for another one of the same length";
    },
  },
} as const satisfies Readonly<Record<string, FixFacts>>;

/** A kernel bug that was fixed, by what is right since: `"lpm_trie_update"`. */
export type Fix = keyof typeof facts;

/** The fixes that the running kernel has. Stable kernels of earlier versions may have them. */
export const fixes: FeatureGroup<Fix> = new FeatureGroup(
  "fix",
  Object.keys(facts) as Fix[],
  (fix) => {
    const { since, needs, mistake } = facts[fix];
    const probe = () => probeTrie(mistake);
    return new Feature({ name: `fix ${fix}`, since, isBackported: true, needs, probe });
  },
);

function probeTrie(mistakeOf: FixFacts["mistake"]): ProbeAnswer {
  const map = probeMap({
    type: "LPM_TRIE",
    keySize: 8,
    valueSize: 8,
    maxEntries: room,
    flags: BPF_F_NO_PREALLOC,
  });
  if (!(map instanceof Descriptor)) return map;
  using trie = map;
  const mistake = mistakeOf(new ProbedTrie(trie.fd));
  return mistake === undefined ? "available" : { missing: mistake };
}
