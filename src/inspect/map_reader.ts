import { Btf, visibleBtf } from "../btf/btf.ts";
import type { BtfValue } from "../btf/decode.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import { openById } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { roundUp8 } from "../ffi/mapped_memory.ts";
import { copiedValueSize, type MapProperties, readMapProperties } from "../maps/create.ts";
import type { Walk, WalkedMap } from "../maps/walk.ts";
import { bytesAt } from "../types/memory.ts";
import { describeMap } from "../maps/map_spec.ts";
import { type EntryAccess, mapTypes } from "../maps/map_types.ts";
import { type BuildIdFrame, frameLayout, StackLayout } from "../maps/stack_trace_map.ts";
import {
  formatKernelSymbol,
  KernelSymbols,
  type SymbolizedFrame,
} from "../symbols/kernel_symbols.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";
import { openPin } from "./objects.ts";

/** Bytes of a socket's cookie, which look-ups in maps of sockets return. */
const cookieSize = 8;

/**
 * Returns the order in which the entries of a map are read.
 *
 * @throws {Error} if the entries cannot be read; the message has the reason.
 */
function entryOrderOf(map: MapProperties): EntryAccess {
  const row = mapTypes.get(map.type);
  if (row === undefined) {
    throw unreadable(map, "its type is newer than this version of bun-bpf");
  }
  if (typeof row.entries === "object") throw unreadable(map, row.entries.unreadable);
  if (row.value === "socket" && map.valueSize < cookieSize) {
    throw unreadable(
      map,
      `its values have ${map.valueSize} bytes, less than the 8 bytes of a socket's cookie`,
    );
  }
  return row.entries;
}

function unreadable(map: MapProperties, reason: string): Error {
  return new Error(`cannot read the entries of the ${describeMap(map)}: ${reason}`);
}

/** A decoded key or value. Parts without a known type are bytes. */
export type EntryValue = BtfValue | Uint8Array | EntryValue[];

/** An entry of a map, decoded. */
export interface Entry {
  /** The key; `undefined` for map types without keys. */
  readonly key: EntryValue | undefined;
  /** The value; for a per-CPU map an array of values, in the order of `possibleCpus()`. */
  readonly value: EntryValue;
}

/** Decodes a key or a value. */
type PartDecoder = (bytes: Uint8Array) => EntryValue;

/** Decodes the entries of a map by its BTF, or if it has none by its map type. */
export class EntryDecoder {
  readonly #keySize: number;
  readonly #decodeKey: PartDecoder;
  readonly #decodeValue: PartDecoder;
  /** Notes about values that could not be decoded. */
  readonly notes: string[] = [];
  /** The kernel's symbols, which are read for the first kernel stack; false if that failed. */
  #symbols: KernelSymbols | false | undefined;

  constructor(map: MapProperties) {
    const btf = this.#types(map);
    this.#keySize = map.keySize;
    this.#decodeKey = this.#typed("keys", btf, map.btfKeyTypeId) ?? keyDecoderOf(map);
    this.#decodeValue = perCpuDecoder(map, this.#valueDecoder(map, btf));
  }

  decode({ key, value }: EntryBytes): Entry {
    return {
      key: this.#keySize === 0 ? undefined : this.#decodeKey(key),
      value: this.#decodeValue(value),
    };
  }

  #types(map: MapProperties): Btf | undefined {
    try {
      return mapBtf(map);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.notes.push(`keys and values are shown as bytes: ${error.message}`);
      return undefined;
    }
  }

  #valueDecoder(map: MapProperties, btf: Btf | undefined): PartDecoder {
    const { kernelValueTypeId } = map;
    return (
      // The value of a struct_ops map has a type in the kernel's BTF.
      (kernelValueTypeId === 0
        ? undefined
        : this.#typed("values", Btf.kernel(), kernelValueTypeId)) ??
      this.#typed("values", btf, map.btfValueTypeId) ??
      (mapTypes.get(map.type)?.value === "stack" ? this.#stack(map) : valueDecoderOf(map)) ??
      copy
    );
  }

  /** Decodes by a type. Falls back to bytes if the type does not fit: the creator of a map can pass any type. */
  #typed(part: string, btf: Btf | undefined, typeId: number): PartDecoder | undefined {
    if (btf === undefined || typeId === 0) return undefined;
    let isUsable = true;
    return (bytes) => {
      if (!isUsable) return copy(bytes);
      try {
        return btf.decode(typeId, bytes, { pointers: "hex" });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        isUsable = false;
        this.notes.push(`${part} are shown as bytes: ${error.message}`);
        return copy(bytes);
      }
    };
  }

  #stack(map: MapProperties): PartDecoder {
    const layout = new StackLayout(map.valueSize, frameLayout<bigint | BuildIdFrame>(map));
    return (bytes) => {
      const frames = layout.read(viewOf(bytes), 0);
      // An offset in a file is not looked up in the kernel's symbols.
      const addresses = frames.map((frame) =>
        typeof frame === "bigint" ? frame : "ip" in frame ? frame.ip : 0n,
      );
      const named = this.#symbolize(addresses);
      return frames.map((frame, index) => {
        if (typeof frame !== "bigint" && "buildId" in frame) {
          return { buildId: frame.buildId, offset: hex(frame.offset) };
        }
        const ip = hex(addresses[index] as bigint);
        const symbol = named[index]?.symbol;
        return symbol === undefined ? { ip } : { ip, symbol: formatKernelSymbol(symbol) };
      });
    };
  }

  /** Looks up the functions of a kernel stack, if this process may read the kernel's symbols. */
  #symbolize(addresses: readonly bigint[]): SymbolizedFrame[] {
    if (!addresses.some((address) => address >= firstKernelAddress)) return [];
    this.#symbols ??= this.#readSymbols();
    return this.#symbols === false ? [] : this.#symbols.lookupStack(addresses);
  }

  #readSymbols(): KernelSymbols | false {
    try {
      return KernelSymbols.read();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.notes.push(`stacks are shown without function names: ${error.message}`);
      return false;
    }
  }
}

/** The lowest address of the kernel: its half of the address space has the highest bit set. */
const firstKernelAddress = 1n << 63n;

/**
 * Returns the BTF of a map; `undefined` if it has none, or this process may not read it.
 *
 * @throws {RangeError} if the BTF has kinds of types that are newer than this library.
 */
export function mapBtf({ btfId }: MapProperties): Btf | undefined {
  return btfId === 0 ? undefined : visibleBtf(btfId);
}

/** Returns a decoder for the values of all CPUs, if the map is per-CPU. */
function perCpuDecoder({ type, valueSize }: MapProperties, decode: PartDecoder): PartDecoder {
  if (mapTypes.get(type)?.isPerCpu !== true) return decode;
  const stride = roundUp8(valueSize);
  return (bytes) => {
    const values: EntryValue[] = [];
    for (let at = 0; at < bytes.length; at += stride) {
      values.push(decode(bytes.subarray(at, at + valueSize)));
    }
    return values;
  };
}

function keyDecoderOf({ type, keySize }: MapProperties): PartDecoder {
  return mapTypes.get(type)?.key === "index" && keySize === 4 ? (bytes) => u32At(bytes, 0) : copy;
}

/** Returns the decoder of values that refer to kernel objects, by map type. */
function valueDecoderOf({ type }: MapProperties): PartDecoder | undefined {
  switch (mapTypes.get(type)?.value) {
    case "program":
      return (bytes) => ({ programId: u32At(bytes, 0) });
    case "map":
      return (bytes) => ({ mapId: u32At(bytes, 0) });
    case "interface":
      return numberWithProgram("ifindex");
    case "CPU queue":
      return numberWithProgram("queueSize");
    case "socket":
      return (bytes) => ({ cookie: viewOf(bytes).getBigUint64(0, true) });
    default:
      return undefined;
  }
}

/** Returns a decoder for a number, followed by the id of a program in values of 8 bytes. */
function numberWithProgram(name: string): PartDecoder {
  return (bytes) => ({
    [name]: u32At(bytes, 0),
    ...(bytes.length >= 8 && u32At(bytes, 4) !== 0 ? { programId: u32At(bytes, 4) } : {}),
  });
}

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

/** An entry of a map as the kernel copies it. The bytes are valid until the next entry is read. */
export interface EntryBytes {
  /** The key; empty for map types without keys. */
  readonly key: Uint8Array;
  /** The value; for a per-CPU map the values of all CPUs, each padded to a multiple of 8 bytes. */
  readonly value: Uint8Array;
}

/** The id of a map, or the path at which it is pinned. */
export type MapOrigin = { readonly id: number } | { readonly path: string };

/** An open map. The caller closes its descriptor. */
export interface OpenedMap {
  readonly descriptor: Descriptor;
  readonly properties: MapProperties;
}

/**
 * Opens a map by its id (CAP_SYS_ADMIN) or by the path of a pin, and reads its properties.
 *
 * @param access `"read"` opens a read-only descriptor
 * @throws {Error} if nothing is pinned at the path, or the pinned object is not a map.
 * @throws {BpfError} if the kernel refuses.
 */
export function openMap(origin: MapOrigin, access: "read" | "write"): OpenedMap {
  const descriptor =
    "path" in origin
      ? openPin("map", origin.path, access)
      : new Descriptor(
          openById("map", origin.id, access === "read" ? BPF_F_RDONLY : 0),
          `map ${origin.id}`,
        );
  try {
    const properties = readMapProperties(descriptor.fd, descriptor.what);
    descriptor.what = describeMap(properties);
    return { descriptor, properties };
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** An open map whose descriptor is read-only, so that the kernel rejects changes. */
export class MapReader implements Disposable {
  readonly #descriptor: Descriptor;
  readonly properties: MapProperties;

  private constructor({ descriptor, properties }: OpenedMap) {
    this.#descriptor = descriptor;
    this.properties = properties;
  }

  /**
   * Opens a map by its id (CAP_SYS_ADMIN) or by the path of a pin.
   *
   * @throws {Error} if nothing is pinned at the path, or the pinned object is not a map.
   */
  static open(origin: MapOrigin): MapReader {
    return new MapReader(openMap(origin, "read"));
  }

  /**
   * Iterates the entries lazily. For a queue or stack it yields only the next value, because reading others removes values.
   *
   * @throws {Error} if maps of this type cannot be read, with the reason.
   */
  *entries(): Generator<EntryBytes, undefined, undefined> {
    const EntryWalk = entryOrderOf(this.properties);
    if (EntryWalk === "next") {
      const next = this.#peek();
      if (next !== undefined) yield { key: new Uint8Array(0), value: next };
      return undefined;
    }
    const map = this.#walked();
    const { valueSize } = map;
    using walk: Walk = new EntryWalk(map);
    while (walk.next()) {
      for (let index = 0; walk.has(index); index++) {
        const value = bytesAt(walk.view, walk.valueOffset(index), valueSize);
        yield { key: walk.keyBytes(index), value };
      }
    }
    return undefined;
  }

  #walked(): WalkedMap {
    const { type, keySize, maxEntries } = this.properties;
    const valueSize = copiedValueSize(mapTypes.get(type) ?? {}, this.properties.valueSize);
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
    return bytesAt(element.view, element.valueOffset, valueSize).slice();
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
