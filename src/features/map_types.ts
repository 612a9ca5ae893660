import { encodeBtf } from "../btf/encode.ts";
import { Btf } from "../btf/btf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { type Probed, type ProbedMap, probeMap } from "../ffi/bpf_probe.ts";
import { keyword, type Keyword } from "../check/names.ts";
import { u32, u64 } from "../types/integer.ts";
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC } from "../uapi/bpf.ts";
import type { bpfMapTypes } from "../uapi/enumerations.ts";
import { attempt, descriptorOf } from "./attempt.ts";
import { Feature } from "./feature.ts";
import { probeLoad } from "./trial_program.ts";

type KernelName = Exclude<
  keyof typeof bpfMapTypes,
  "UNSPEC" | "CGROUP_STORAGE_DEPRECATED" | "PERCPU_CGROUP_STORAGE_DEPRECATED"
>;

/** A kind of map that {@link Features.mapType} knows: the kernel's `BPF_MAP_TYPE_LRU_HASH` is `"lru_hash"`. */
export type MapTypeKeyword = Keyword<KernelName>;

/** What a smallest map of a kind is. */
interface Shape extends Omit<ProbedMap, "type" | "innerMapFd" | "btf" | "kernelTypeId"> {
  /** What it needs besides numbers. */
  readonly with?: "inner map" | "types" | "kernel type";
}

/** A kind of map: since when, on what it depends, and what the smallest one is. */
export interface MapTypeFacts extends Shape {
  readonly name: KernelName;
  readonly since: KernelVersion;
  readonly config?: readonly string[];
  readonly needs?: readonly Capability[];
}

/** With an index, or a hash, of 4 bytes. */
const small = { keySize: 4, valueSize: 4, maxEntries: 1 };
const keyless = { keySize: 0, valueSize: 4, maxEntries: 1 };
const storage = {
  keySize: 4,
  valueSize: 8,
  maxEntries: 0,
  flags: BPF_F_NO_PREALLOC,
  with: "types",
} as const;
/** `struct bpf_cgroup_storage_key`, with the padding behind its last member. */
const cgroupStorage = { keySize: 16, valueSize: 4, maxEntries: 0 };
/** The smallest that is a power of two and whole pages, whatever the size of a page. */
const pages = { keySize: 0, valueSize: 0, maxEntries: 65_536 };
/** The prefix's length and four bytes of an address. */
const trie = { keySize: 8, valueSize: 4, maxEntries: 1, flags: BPF_F_NO_PREALLOC };
const inet = ["CONFIG_INET"];
const networking = ["CAP_BPF", "CAP_NET_ADMIN"] as const;

/** The kernel's kinds of maps, by number. Versions: the tags that the enumeration's members first appear in. */
const facts: readonly MapTypeFacts[] = [
  { name: "HASH", since: "3.19", ...small },
  { name: "ARRAY", since: "3.19", ...small },
  { name: "PROG_ARRAY", since: "4.2", ...small },
  { name: "PERF_EVENT_ARRAY", since: "4.3", config: ["CONFIG_PERF_EVENTS"], ...small },
  { name: "PERCPU_HASH", since: "4.6", ...small },
  { name: "PERCPU_ARRAY", since: "4.6", ...small },
  { name: "STACK_TRACE", since: "4.6", config: ["CONFIG_PERF_EVENTS"], ...small, valueSize: 8 },
  { name: "CGROUP_ARRAY", since: "4.8", config: ["CONFIG_CGROUPS"], ...small },
  { name: "LRU_HASH", since: "4.10", ...small },
  { name: "LRU_PERCPU_HASH", since: "4.10", ...small },
  { name: "LPM_TRIE", since: "4.11", ...trie },
  { name: "ARRAY_OF_MAPS", since: "4.12", ...small, with: "inner map" },
  { name: "HASH_OF_MAPS", since: "4.12", ...small, with: "inner map" },
  { name: "DEVMAP", since: "4.14", config: ["CONFIG_NET"], needs: networking, ...small },
  { name: "SOCKMAP", since: "4.14", config: inet, needs: networking, ...small },
  { name: "CPUMAP", since: "4.15", config: ["CONFIG_NET"], ...small },
  { name: "XSKMAP", since: "4.18", config: ["CONFIG_XDP_SOCKETS"], needs: networking, ...small },
  { name: "SOCKHASH", since: "4.18", config: inet, needs: networking, ...small },
  { name: "CGROUP_STORAGE", since: "4.19", config: ["CONFIG_CGROUP_BPF"], ...cgroupStorage },
  { name: "REUSEPORT_SOCKARRAY", since: "4.19", config: inet, ...small },
  { name: "PERCPU_CGROUP_STORAGE", since: "4.20", config: ["CONFIG_CGROUP_BPF"], ...cgroupStorage },
  { name: "QUEUE", since: "4.20", ...keyless },
  { name: "STACK", since: "4.20", ...keyless },
  { name: "SK_STORAGE", since: "5.2", config: ["CONFIG_NET"], ...storage },
  { name: "DEVMAP_HASH", since: "5.4", config: ["CONFIG_NET"], needs: networking, ...small },
  {
    name: "STRUCT_OPS",
    since: "5.6",
    config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
    ...small,
    with: "kernel type",
  },
  { name: "RINGBUF", since: "5.8", ...pages },
  { name: "INODE_STORAGE", since: "5.10", config: ["CONFIG_BPF_LSM"], ...storage },
  { name: "TASK_STORAGE", since: "5.11", ...storage },
  { name: "BLOOM_FILTER", since: "5.16", ...keyless },
  { name: "USER_RINGBUF", since: "6.1", ...pages },
  { name: "CGRP_STORAGE", since: "6.2", config: ["CONFIG_CGROUPS"], ...storage },
  {
    name: "ARENA",
    since: "6.9",
    config: ["CONFIG_MMU", "CONFIG_64BIT"],
    keySize: 0,
    valueSize: 0,
    maxEntries: 1,
    flags: BPF_F_MMAPABLE,
  },
  { name: "INSN_ARRAY", since: "6.19", keySize: 4, valueSize: 16, maxEntries: 1 },
  { name: "RHASH", since: "7.2", ...small, flags: BPF_F_NO_PREALLOC },
];

/** What is known of each kind of map, by its keyword, in the kernel's order. */
export const mapTypes: ReadonlyMap<MapTypeKeyword, MapTypeFacts> = new Map(
  facts.map((type) => [keyword(type.name), type]),
);

/** Capabilities that the kernel asks for to make a map of a kind, also of one that is not known here. */
export function mapTypeNeeds(type: string): readonly Capability[] {
  return mapTypes.get(type as MapTypeKeyword)?.needs ?? ["CAP_BPF"];
}

/** Whether the kernel makes no map of a kind without a description of keys and values. */
export function mapTypeNeedsTypes(type: string): boolean {
  return mapTypes.get(type as MapTypeKeyword)?.with === "types";
}

/** Makes the smallest map of a kind. @throws {BpfError} where what it needs besides cannot be made, or read */
export function probeMapOf({ name: type, with: needed, ...shape }: MapTypeFacts): Probed {
  switch (needed) {
    case "inner map": {
      const inner = probeMap({ type: "ARRAY", ...small });
      if (!(inner instanceof Descriptor)) return inner;
      using template = inner;
      return probeMap({ type, ...shape, innerMapFd: template.fd });
    }
    case "types":
    case "kernel type": {
      const { bytes, keyTypeId, valueTypeId } = encodeBtf({ key: u32, value: u64 });
      using btf = loadBtf(bytes, "types of a probed map");
      // Kernels before 6.9 read their own types when they check their first program, and know none of them until then.
      if (needed === "kernel type") probeLoad("socket_filter");
      // The kernel asks for types of the program's own also where it takes the value's from its own.
      return needed === "types"
        ? probeMap({ type, ...shape, btf: { fd: btf.fd, keyTypeId, valueTypeId } })
        : probeMap({ type, ...shape, ...structOpsShape(), btf: { fd: btf.fd } });
    }
    default:
      return probeMap({ type, ...shape });
  }
}

/** Values of congestion control algorithms, which every kernel with this kind of map takes; the types of others came later. */
function structOpsShape(): Pick<ProbedMap, "valueSize" | "kernelTypeId"> {
  const btf = Btf.kernel();
  const id = btf.find("struct", "bpf_struct_ops_tcp_congestion_ops");
  return id === undefined ? { valueSize: 4 } : { valueSize: btf.sizeOf(id), kernelTypeId: id };
}

/** Whether there are maps of a kind: the smallest is made. */
export function mapTypeFeature(type: MapTypeFacts): Feature {
  const name = `map type ${keyword(type.name)}`;
  const probe = () => attempt(() => descriptorOf(probeMapOf(type))[Symbol.dispose]());
  return new Feature({ ...type, needs: mapTypeNeeds(keyword(type.name)), name, probe });
}
