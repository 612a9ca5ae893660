/** @module Kernel bugs in LPM tries that change what a trie can do, the versions that fixed them, and probes for them. */

import { type ElementCommand, probeElement, probeMap } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { isKernelSince, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { explainPermission } from "../ffi/permission.ts";
import { BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST } from "../uapi/bpf.ts";

/** A fixed bug: the first kernel without it, and how it shows. */
interface TrieFix {
  readonly since: KernelVersion;
  /** Tries it out: what is still wrong, in words; `undefined` for nothing. */
  readonly mistake: (call: TrieCall) => string | undefined;
}

/** Calls for 10.0.`third`.0/24 on a trie with room for a few networks. Returns the name of the error, or `undefined` for none. */
type TrieCall = (
  command: ElementCommand,
  third: number,
  flags?: number,
  room?: Uint8Array,
) => string | undefined;

/** The key of 10.0.`third`.0/24: the length of the prefix, and the address in network order. */
function network(third: number): Uint8Array {
  return Uint8Array.of(24, 0, 0, 0, 10, 0, third, 0);
}

/** The number of networks that the probed trie has room for. */
const room = 3;

/** The fixed bugs, by what is right since. Stable kernels of earlier versions may have the fixes, too. */
export const trieFixes = {
  /** Before, a trie stored whatever the flags said, and a full one refused to replace what it had. */
  lpm_trie_update: {
    since: "6.13",
    mistake(call) {
      if (call("BPF_MAP_UPDATE_ELEM", 0, BPF_EXIST) === undefined) {
        return "it replaces what is not there";
      }
      for (let third = 0; third < room; third++) call("BPF_MAP_UPDATE_ELEM", third);
      if (call("BPF_MAP_UPDATE_ELEM", 0, BPF_NOEXIST) !== "EEXIST") {
        return "it adds what is there";
      }
      const error = call("BPF_MAP_UPDATE_ELEM", 0);
      return error && `where it is full it refuses to replace a value (${error})`;
    },
  },
  /** Before, the next key of one that was deleted meanwhile could be any: walks passed entries over. */
  lpm_trie_next_key: {
    since: "6.13",
    mistake(call) {
      for (const third of [2, 4]) call("BPF_MAP_UPDATE_ELEM", third);
      const next = new Uint8Array(8);
      call("BPF_MAP_GET_NEXT_KEY", 3, 0, next);
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
    maxEntries: room,
    flags: BPF_F_NO_PREALLOC,
  });
  if (!(map instanceof Descriptor)) return map;
  using trie = map;
  const mistake = trieFixes[fix].mistake((command, third, flags = 0, value = new Uint8Array(8)) =>
    probeElement(command, trie.fd, network(third), value, flags),
  );
  return mistake === undefined ? "available" : { missing: mistake };
}

let updateAnswer: ReturnType<typeof probeTrieFix> | undefined;

/**
 * The reason why tries of this kernel do not heed BPF_NOEXIST and BPF_EXIST, or why that cannot be known; `undefined` where
 * they do. Probed once.
 *
 * @throws {Error} where the probe gets no answer: the next call probes again
 */
export function unconditionalUpdateReason(): string | undefined {
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
