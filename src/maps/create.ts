import { type EncodedBtf, encodeBtf } from "../btf/encode.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import { createKernelMap, type MapBtf, type MapCreation } from "../ffi/bpf_map.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { explainMapType } from "../features/explain.ts";
import { mapTypeNeeds, mapTypeNeedsTypes } from "../features/map_types.ts";
import { requireBpfSecurityModule } from "../ffi/security_modules.ts";
import { hasOpaqueField } from "../types/opaque.ts";
import { BPF_F_NUMA_NODE } from "../uapi/bpf.ts";
import { describeMap, type MapSpec, mapTypeNumber } from "./spec.ts";

/** Asks the kernel for a map; the descriptor is the caller's. @throws {Error} for inode storage without its module */
export function createFromSpec(spec: MapSpec): number {
  if (spec.type === "inode-storage") requireBpfSecurityModule();
  const { inner } = spec;
  if (inner === undefined) return createDescribed(spec, undefined);
  // The kernel takes from it what the maps inside are like, and does not keep it.
  using template = new Descriptor(createFromSpec(inner), `template of the ${describeMap(spec)}`);
  return createDescribed(spec, template.fd);
}

/**
 * The description of keys and values serves `bpftool map dump` alone for most kinds: a kernel that does not take it
 * (before 4.18) makes the map without.
 */
function createDescribed(spec: MapSpec, innerMapFd: number | undefined): number {
  const what = describeMap(spec);
  const { types } = spec;
  if (types === undefined) return createKernelMap(creation(spec, innerMapFd), what);
  const encoded = encodeBtf(types);
  const isNeeded =
    mapTypeNeedsTypes(spec.type) || (types.value !== undefined && hasOpaqueField(types.value));
  try {
    return createWithBtf(spec, innerMapFd, encoded, what);
  } catch (error) {
    if (isNeeded || !(error instanceof BpfError)) throw error;
    return createKernelMap(creation(spec, innerMapFd), what);
  }
}

function createWithBtf(
  spec: MapSpec,
  innerMapFd: number | undefined,
  { bytes, keyTypeId, valueTypeId }: EncodedBtf,
  what: string,
): number {
  using btf = loadBtf(bytes, `types of the ${what}`);
  return createKernelMap(creation(spec, innerMapFd, { fd: btf.fd, keyTypeId, valueTypeId }), what);
}

function creation(spec: MapSpec, innerMapFd: number | undefined, btf?: MapBtf): MapCreation {
  return {
    type: mapTypeNumber(spec.type),
    keySize: spec.keySize,
    valueSize: spec.valueSize,
    maxEntries: spec.maxEntries,
    flags: spec.numaNode === -1 ? spec.flags : spec.flags | BPF_F_NUMA_NODE,
    numaNode: Math.max(spec.numaNode, 0),
    name: spec.name,
    extra: spec.mapExtra,
    innerMapFd,
    btf,
    needs: mapTypeNeeds(spec.type),
    explain: () => explainMapType(spec.type),
  };
}
