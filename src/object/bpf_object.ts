/** @module Loads objects (maps, programs and global variables) from specs, which are plain data. */

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
 * A map of a {@link BpfObject}. To access its entries, open it with a map class: `HashMap.fromFd(map.fd, ...)`.
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

  /**
   * Reads the kernel's information about the map.
   *
   * @throws {BpfError} if the kernel refuses.
   *
   * Requires Linux 4.13.
   */
  info(): MapInfo {
    return readMapInfo(this.fd, `${this}`);
  }
}

/** Options of {@link BpfObject.load}. */
export interface LoadObjectOptions {
  /** The level of detail of the verifier's log in the `log` of each program. @default "none" */
  readonly log?: VerifierLog;
}

/**
 * Maps, programs and global variables that were loaded together.
 *
 * They are closed when the object is disposed of or the process ends. Pins and links keep maps and programs in the kernel after
 * that; the object owns no links.
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
  /** The maps by their names in the spec. Each section of global variables is a map, too. */
  readonly maps: ReadonlyMap<string, ObjectMap>;
  /** The programs by their names in the spec. */
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
   * Creates the maps of a spec and loads its programs. If one of them fails, the others are closed.
   *
   * @throws {VerifierError} if the verifier rejects a program.
   * @throws {BpfError} if the kernel refuses a map, or refuses a program for another reason.
   * @throws {TypeError | RangeError} if the spec is invalid.
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
        throw new TypeError(
          `variables: ${describe(name)} is the name of a map, too: use another name`,
        );
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

  /** True if the object has been disposed of. */
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

/** Creates the map of a section of variables: an array with one entry (kernel 5.2; 5.5 if programs can write to it). */
function createVariables(name: string, spec: VariablesSpec): ObjectMap {
  const { isReadOnly = false } = spec;
  // The bytes are copied, because the length of a subclass of Uint8Array can change between calls.
  const contents =
    spec.contents instanceof Uint8Array ? new Uint8Array(spec.contents) : spec.contents;
  if (!(contents instanceof Uint8Array) || contents.length === 0) {
    throw new TypeError(
      `variables: ${name}: contents: expected a Uint8Array of at least 1 byte, got ${describe(contents)}`,
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
      throw new BpfError({
        errno,
        syscall: "bpf(BPF_MAP_UPDATE_ELEM)",
        doing: `set the initial values of the ${map}`,
      });
    }
    if (isReadOnly) freezeKernelMap(map.fd, `${map}`);
    return map;
  } catch (error) {
    map[Symbol.dispose]();
    throw error;
  }
}

/**
 * Checks that code refers to maps by name.
 *
 * @throws {TypeError} if the code refers to an open map.
 */
function checkReferences(name: string, code: Code | CodeItem): void {
  if (Array.isArray(code)) {
    for (const item of code) checkReferences(name, item);
  } else if (typeof code === "object" && code !== null && "reference" in code) {
    const { reference } = code;
    if (reference === undefined || !("map" in reference) || typeof reference.map === "string")
      return;
    throw new TypeError(
      `programs: ${name}: the code of a spec refers to maps by name, got ${describe(reference.map)}`,
    );
  }
}
