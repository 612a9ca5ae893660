/** @module The loader of whole objects: it turns specs from any producer into maps and programs of the kernel. */

import type { Code, CodeItem } from "../asm/instruction.ts";
import { checkOptions } from "../check/arguments.ts";
import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { freezeKernelMap } from "../ffi/bpf_map.ts";
import { probeElement } from "../ffi/bpf_probe.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoNumber } from "../ffi/error.ts";
import { objectId } from "../ffi/bpf_object.ts";
import { checkName, KernelObject } from "../handle/kernel_object.ts";
import { createMapHandle, type MapInfo, readMapInfo } from "../maps/create.ts";
import { mapType } from "../maps/map_types.ts";
import type { MapSpec } from "../maps/map_spec.ts";
import { loadProgram, type VerifierLog } from "../program/load.ts";
import { Program } from "../program/program.ts";
import { programSpecNames } from "../program/program_spec.ts";
import { BPF_MAP_UPDATE_ELEM } from "../uapi/commands.ts";
import { BPF_F_MMAPABLE, BPF_F_RDONLY_PROG } from "../uapi/bpf.ts";
import type { ObjectSpec, VariablesSpec } from "./object_spec.ts";

/**
 * A map of an object. A class of maps opens it by its descriptor, and reads and writes its keys and values.
 *
 * @example
 * ```ts
 * import { ArrayMap, BpfObject, ObjectMap, t } from "bun-bpf";
 * using object = BpfObject.load({ variables: { ".data": { contents: Uint8Array.of(5, 0, 0, 0) } } });
 * const map = object.maps.get(".data");
 * if (map instanceof ObjectMap) {
 *   using data = ArrayMap.fromFd(map.fd, { value: t.u32 });
 *   console.log(data.get(0)); // 5
 * }
 * ```
 */
export class ObjectMap extends KernelObject {
  /** @internal */
  constructor(descriptor: Descriptor) {
    super(descriptor, () => objectId("map", descriptor));
  }

  protected shown(): readonly [className: string, properties: object] {
    return ["ObjectMap", { description: `${this}` }];
  }

  /** Asks the kernel about the map (kernel 4.13). @throws {BpfError} */
  info(): MapInfo {
    return readMapInfo(this.fd, `${this}`);
  }
}

/** Options of {@link BpfObject.load}. */
export interface LoadObjectOptions {
  /** The level of detail of the verifier's log of each program on success. @default "none" */
  readonly log?: VerifierLog;
}

/**
 * Maps, programs and global variables that were loaded together.
 *
 * They live until the object is disposed of or the process ends. Pinned objects and attached programs live on.
 *
 * @example
 * ```ts
 * import { ArrayMap, asm, BpfObject, t } from "bun-bpf";
 * using object = BpfObject.load({
 *   variables: { ".data": { contents: new Uint8Array(8) } },
 *   programs: {
 *     count: {
 *       section: "socket",
 *       license: "GPL",
 *       code: [
 *         asm.ldMapValue(asm.r1, ".data", 0),
 *         asm.mov(asm.r2, 1),
 *         asm.atomicAdd(asm.r1, 0, asm.r2),
 *         asm.mov(asm.r0, 0),
 *         asm.exit(),
 *       ],
 *     },
 *   },
 * });
 * object.programs.get("count")?.testRun({ data: new Uint8Array(14), repeat: 3 });
 * using data = ArrayMap.fromId(object.maps.get(".data")?.id ?? 0, { value: t.u64 });
 * console.log(data.get(0)); // 3n
 * ```
 */
export class BpfObject implements Disposable {
  /** The maps, those of variables included, by the names in the spec. */
  readonly maps: ReadonlyMap<string, ObjectMap>;
  /** The programs by the names in the spec. */
  readonly programs: ReadonlyMap<string, Program>;
  readonly #opened: DisposableStack;

  private constructor(
    maps: ReadonlyMap<string, ObjectMap>,
    programs: ReadonlyMap<string, Program>,
    opened: DisposableStack,
  ) {
    this.maps = maps;
    this.programs = programs;
    this.#opened = opened;
  }

  /**
   * Creates the maps of a spec and loads its programs. Where one fails, none is left.
   *
   * @throws {VerifierError} when the verifier rejects a program
   * @throws {BpfError} when the kernel refuses something else
   * @throws {TypeError | RangeError} for an invalid spec
   */
  static load(spec: ObjectSpec, options: LoadObjectOptions = {}): BpfObject {
    checkOptions("BpfObject.load", options, ["log"]);
    checkOptions("BpfObject.load", spec, ["maps", "programs", "variables"]);
    const { log = "none" } = options;
    using opened = new DisposableStack();
    const maps = new Map<string, ObjectMap>();
    for (const [name, map] of Object.entries(spec.maps ?? {})) {
      checkOptions(`maps: ${name}`, map, mapSpecNames);
      checkName(map.name);
      maps.set(name, opened.use(createMap(map)));
    }
    for (const [name, variables] of Object.entries(spec.variables ?? {})) {
      if (maps.has(name))
        throw new TypeError(`variables: there is a map ${describe(name)} already`);
      checkOptions(`variables: ${name}`, variables, ["contents", "isReadOnly", "places"]);
      maps.set(name, opened.use(createVariables(name, variables)));
    }
    const programs = new Map<string, Program>();
    for (const [name, program] of Object.entries(spec.programs ?? {})) {
      checkOptions(`programs: ${name}`, program, programSpecNames);
      checkReferences(name, program.code);
      const live = loadProgram(program, { maps: Object.fromEntries(maps), log });
      programs.set(name, opened.use(new Program(undefined, live)));
    }
    return new BpfObject(maps, programs, opened.move());
  }

  /** True after {@link Symbol.dispose}. */
  get disposed(): boolean {
    return this.#opened.disposed;
  }

  /** @internal Shows its maps and programs in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { maps, programs, disposed } = this;
    return show("BpfObject", { maps, programs, ...(disposed && { disposed }) }, inspection);
  }

  /** Closes the programs and the maps. A second call does nothing. */
  [Symbol.dispose](): void {
    this.#opened[Symbol.dispose]();
  }
}

const mapSpecNames = [
  "type",
  "keySize",
  "valueSize",
  "maxEntries",
  "flags",
  "name",
  "numaNode",
  "mapExtra",
  "types",
  "inner",
] as const satisfies readonly (keyof MapSpec)[];

function createMap(spec: MapSpec): ObjectMap {
  const innerRow = spec.inner && mapType(spec.inner.type);
  const handle = createMapHandle(mapType(spec.type), spec, {}, undefined, innerRow);
  return new ObjectMap(handle.descriptor);
}

/** Creates the map of a section of variables, which has one value (kernel 5.2; mapped since 5.5). */
function createVariables(name: string, spec: VariablesSpec): ObjectMap {
  const { isReadOnly = false } = spec;
  // A copy: a subclass can return another length at each call.
  const contents =
    spec.contents instanceof Uint8Array ? new Uint8Array(spec.contents) : spec.contents;
  if (!(contents instanceof Uint8Array) || contents.length === 0) {
    throw new TypeError(
      `variables: ${name}: contents: expected a Uint8Array of at least a byte, got ${describe(contents)}`,
    );
  }
  const map = createMap({
    type: "array",
    keySize: 4,
    valueSize: contents.length,
    maxEntries: 1,
    flags: isReadOnly ? BPF_F_RDONLY_PROG : BPF_F_MMAPABLE,
    name: name.replace(/[^A-Za-z0-9_.]/g, "_").slice(0, 15),
    numaNode: -1,
    mapExtra: 0,
  });
  try {
    const code = probeElement(BPF_MAP_UPDATE_ELEM, map.fd, new Uint8Array(4), contents);
    if (code !== undefined) {
      const errno = errnoNumber(code);
      throw new BpfError({ errno, syscall: "bpf(BPF_MAP_UPDATE_ELEM)", doing: `fill the ${map}` });
    }
    if (isReadOnly) freezeKernelMap(map.fd, `${map}`);
    return map;
  } catch (error) {
    map[Symbol.dispose]();
    throw error;
  }
}

/** @throws {TypeError} when code refers to an open map: a spec names its maps */
function checkReferences(name: string, code: Code | CodeItem): void {
  if (Array.isArray(code)) {
    for (const item of code) checkReferences(name, item);
  } else if (typeof code === "object" && code !== null && "reference" in code) {
    const { reference } = code;
    if (reference === undefined || !("map" in reference) || typeof reference.map === "string")
      return;
    throw new TypeError(
      `programs: ${name}: the code refers to an open map: a spec names its maps, got ${describe(reference.map)}`,
    );
  }
}
