import { Btf } from "../btf/btf.ts";
import type { BtfValue } from "../btf/decode.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import { openById, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { roundUp8 } from "../ffi/mapped_memory.ts";
import {
  copiedValueSize,
  isPerCpu,
  type MapProperties,
  readMapProperties,
} from "../maps/create.ts";
import { IndexWalk, MapWalk, TrieWalk, type Walk, type WalkedMap } from "../maps/walk.ts";
import { describeMap, type MapTypeName } from "../maps/map_spec.ts";
import { frameOf, StackLayout } from "../maps/stack_trace_map.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";
import { visibleBtf } from "./objects.ts";

/** How the entries of a map are read: from key to key, by all indexes, as networks, or only the one that comes next. */
export type Reading = "keys" | "indexes" | "networks" | "next";

const readings: Readonly<Partial<Record<MapTypeName, Reading>>> = {
  hash: "keys",
  lru_hash: "keys",
  percpu_hash: "keys",
  lru_percpu_hash: "keys",
  array: "keys",
  percpu_array: "keys",
  hash_of_maps: "keys",
  stack_trace: "keys",
  devmap_hash: "keys",
  sockhash: "keys",
  cgroup_storage: "keys",
  percpu_cgroup_storage: "keys",
  struct_ops: "keys",
  insn_array: "keys",
  rhash: "keys",
  array_of_maps: "indexes",
  prog_array: "indexes",
  devmap: "indexes",
  cpumap: "indexes",
  sockmap: "indexes",
  reuseport_sockarray: "indexes",
  lpm_trie: "networks",
  queue: "next",
  stack: "next",
};

const ofAnObject =
  "its values belong to objects, and the kernel gives them only by a descriptor of";

/** Why nothing of a kind can be read. */
const refusals: Readonly<Partial<Record<MapTypeName, string>>> = {
  perf_event_array: "the kernel does not say which perf events are in it",
  cgroup_array: "the kernel does not say which cgroups are in it",
  xskmap: "the kernel does not say which sockets are in it",
  bloom_filter: "it knows whether a value was added, not which ones were",
  ringbuf: "reading its records would take them from their consumer",
  user_ringbuf: "its records are for programs to read",
  arena: "it is memory that programs give a form to, without entries",
  sk_storage: `${ofAnObject} a socket`,
  inode_storage: `${ofAnObject} a file`,
  task_storage: `${ofAnObject} a thread`,
  cgrp_storage: `${ofAnObject} a cgroup`,
};

/** Kinds whose values the kernel gives only where there is room for a socket's cookie. */
const socketKinds: ReadonlySet<MapTypeName> = new Set([
  "sockmap",
  "sockhash",
  "reuseport_sockarray",
]);
const cookieSize = 8;

/** How a map is read. @throws {Error} when it cannot be, with the reason */
export function readingOf(map: MapProperties): Reading {
  const { type, valueSize } = map;
  const reading = readings[type];
  if (reading === undefined) {
    throw unreadable(map, refusals[type] ?? "its kind is newer than this version of bun-bpf");
  }
  if (socketKinds.has(type) && valueSize < cookieSize) {
    throw unreadable(map, "its values have no room for the cookies of sockets, which take 8 bytes");
  }
  return reading;
}

function unreadable(map: MapProperties, reason: string): Error {
  return new Error(`the entries of the ${describeMap(map)} cannot be read: ${reason}`);
}

/** A key or value, decoded as far as its type is known: bytes are what nothing is known of. */
export type EntryValue = BtfValue | Uint8Array | EntryValue[];

/** An entry of a map, decoded. */
export interface Entry {
  /** `undefined` for kinds without keys. */
  readonly key: EntryValue | undefined;
  /** For a map with a value for each CPU, an array of them in the order of `possibleCpus()`. */
  readonly value: EntryValue;
}

/** Decodes one part of an entry. */
type PartDecoder = (bytes: Uint8Array) => EntryValue;

/** Kinds whose keys are indexes, whether or not their types say so. */
const indexedKinds: ReadonlySet<string> = new Set([
  "array",
  "percpu_array",
  "prog_array",
  "array_of_maps",
  "devmap",
  "cpumap",
  "sockmap",
  "reuseport_sockarray",
  "stack_trace",
  "struct_ops",
  "insn_array",
]);

/** What decodes the entries of a map: by its types, where it has them, or else by what its kind says of them. */
export function entryDecoder(map: MapProperties): (entry: RawEntry) => Entry {
  const { keySize } = map;
  const btf = mapBtf(map);
  const decodeKey = (btf && typed(btf, map.btfKeyTypeId)) ?? keyOfKind(map);
  const decodeValue = valueDecoder(map, btf);
  return ({ key, value }) => ({
    key: keySize === 0 ? undefined : decodeKey(key),
    value: decodeValue(value),
  });
}

/** The types of a map, or `undefined` where it has none, or this process may not read them. */
export function mapBtf({ btfId }: MapProperties): Btf | undefined {
  return btfId === 0 ? undefined : visibleBtf(btfId);
}

function valueDecoder(map: MapProperties, btf: Btf | undefined): PartDecoder {
  const decode =
    valueOfKernel(map) ?? (btf && typed(btf, map.btfValueTypeId)) ?? valueOfKind(map) ?? copy;
  if (!isPerCpu(map)) return decode;
  const { valueSize } = map;
  const stride = roundUp8(valueSize);
  return (bytes) => {
    const values: EntryValue[] = [];
    for (let at = 0; at < bytes.length; at += stride) {
      values.push(decode(bytes.subarray(at, at + valueSize)));
    }
    return values;
  };
}

/** Of a struct of functions: the kernel's own type. */
function valueOfKernel({ kernelValueTypeId }: MapProperties): PartDecoder | undefined {
  return kernelValueTypeId === 0 ? undefined : typed(Btf.kernel(), kernelValueTypeId);
}

function typed(btf: Btf, typeId: number): PartDecoder | undefined {
  if (typeId === 0) return undefined;
  return (bytes) => btf.decode(typeId, bytes, { pointers: "hex" });
}

function keyOfKind({ type, keySize }: MapProperties): PartDecoder {
  return indexedKinds.has(type) && keySize === 4 ? (bytes) => u32At(bytes, 0) : copy;
}

/** Of kinds whose values the kernel makes itself. */
function valueOfKind(map: MapProperties): PartDecoder | undefined {
  switch (map.type) {
    case "prog_array":
      return (bytes) => ({ programId: u32At(bytes, 0) });
    case "array_of_maps":
    case "hash_of_maps":
      return (bytes) => ({ mapId: u32At(bytes, 0) });
    case "devmap":
    case "devmap_hash":
      return programmed("ifindex");
    case "cpumap":
      return programmed("queueSize");
    case "sockmap":
    case "sockhash":
    case "reuseport_sockarray":
      return (bytes) => ({ cookie: viewOf(bytes).getBigUint64(0, true) });
    case "stack_trace":
      return stackOf(map);
    default:
      return undefined;
  }
}

/** A number, and where there is room for it the id of a program. */
function programmed(name: string): PartDecoder {
  return (bytes) => ({
    [name]: u32At(bytes, 0),
    ...(bytes.length >= 8 && u32At(bytes, 4) !== 0 ? { programId: u32At(bytes, 4) } : {}),
  });
}

function stackOf(map: MapProperties): PartDecoder {
  const layout = new StackLayout(map.valueSize, frameOf<StackFrame>(map));
  return (bytes) =>
    layout
      .read(viewOf(bytes), 0)
      .map((frame) =>
        typeof frame === "bigint"
          ? hex(frame)
          : "ip" in frame
            ? { ip: hex(frame.ip) }
            : { buildId: frame.buildId, offset: hex(frame.offset) },
      );
}

type StackFrame =
  bigint | { readonly ip: bigint } | { readonly buildId: string; readonly offset: bigint };

function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

function u32At(bytes: Uint8Array, at: number): number {
  return viewOf(bytes).getUint32(at, true);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function copy(bytes: Uint8Array): Uint8Array {
  return bytes.slice();
}

/** An entry of a map as the kernel copies it. The bytes are those of the next entry, after it was asked for. */
export interface RawEntry {
  /** Empty for kinds without keys. */
  readonly key: Uint8Array;
  /** For a map with a value for each CPU, all of them, each rounded up to 8 bytes. */
  readonly value: Uint8Array;
}

/** A map that is only read: the kernel refuses all else through its descriptor. */
export class MapReader implements Disposable {
  readonly #descriptor: Descriptor;
  readonly properties: MapProperties;

  private constructor(fd: number, what: string) {
    this.#descriptor = new Descriptor(fd, what);
    try {
      this.properties = readMapProperties(this.#descriptor.fd, what);
      this.#descriptor.what = describeMap(this.properties);
    } catch (error) {
      this.#descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). */
  static byId(id: number): MapReader {
    return new MapReader(openById("map", id, BPF_F_RDONLY), `map ${id}`);
  }

  /** Opens the map pinned at a path. @throws {Error} where nothing is pinned */
  static byPath(path: string): MapReader {
    const fd = openPinned(path, "map", BPF_F_RDONLY);
    if (fd === undefined) throw new Error(`nothing is pinned at ${path}: no such file`);
    return new MapReader(fd, `map pinned at ${path}`);
  }

  /**
   * The entries, lazily: of a queue or a stack the next value alone, as reading the others would take it out.
   *
   * @throws {Error} for a kind of map that cannot be read, with the reason
   */
  *entries(): Generator<RawEntry, undefined, undefined> {
    const reading = readingOf(this.properties);
    if (reading === "next") {
      const next = this.#peek();
      if (next !== undefined) yield { key: new Uint8Array(0), value: next };
      return undefined;
    }
    const { keySize, valueSize, ...map } = this.#walked();
    const Walks = { keys: MapWalk, indexes: IndexWalk, networks: TrieWalk };
    using walk: Walk = new Walks[reading]({ keySize, valueSize, ...map });
    while (walk.next()) {
      for (let index = 0; walk.has(index); index++) {
        const { buffer, byteOffset } = walk.view;
        const value = new Uint8Array(buffer, byteOffset + walk.valueOffset(index), valueSize);
        yield { key: walk.keyBytes(index), value };
      }
    }
    return undefined;
  }

  #walked(): WalkedMap {
    const { keySize, maxEntries } = this.properties;
    const valueSize = copiedValueSize(this.properties);
    const what = describeMap(this.properties);
    return {
      descriptor: this.#descriptor,
      keySize,
      valueSize,
      maxEntries,
      flags: 0,
      what,
      kind: {},
    };
  }

  #peek(): Uint8Array | undefined {
    const { valueSize } = this.properties;
    const { fd, what } = this.#descriptor;
    using element = new MapElement(fd, 0, valueSize, what);
    if (!element.lookup(0)) return undefined;
    const { buffer, byteOffset } = element.view;
    return new Uint8Array(buffer, byteOffset + element.valueOffset, valueSize).slice();
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
