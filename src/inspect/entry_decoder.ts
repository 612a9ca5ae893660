import { roundUp8 } from "../ffi/align.ts";
import { BpfError } from "../ffi/error.ts";
import { Btf } from "../btf/btf.ts";
import type { BtfValue } from "../btf/value.ts";
import { isPerCpu, type MapProperties } from "../maps/handle.ts";
import { frameOf, StackLayout } from "../maps/stack_layout.ts";
import type { RawEntry } from "./map_reader.ts";

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
  "percpu-array",
  "prog-array",
  "array-of-maps",
  "devmap",
  "cpumap",
  "sockmap",
  "reuseport-sockarray",
  "stack-trace",
  "struct-ops",
  "insn-array",
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
  if (btfId === 0) return undefined;
  try {
    return Btf.fromId(btfId);
  } catch (error) {
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "ENOENT")) {
      return undefined;
    }
    throw error;
  }
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
    case "prog-array":
      return (bytes) => ({ programId: u32At(bytes, 0) });
    case "array-of-maps":
    case "hash-of-maps":
      return (bytes) => ({ mapId: u32At(bytes, 0) });
    case "devmap":
    case "devmap-hash":
      return programmed("ifindex");
    case "cpumap":
      return programmed("queueSize");
    case "sockmap":
    case "sockhash":
    case "reuseport-sockarray":
      return (bytes) => ({ cookie: viewOf(bytes).getBigUint64(0, true) });
    case "stack-trace":
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
