/**
 * @module Look-ups of many chosen keys by a program in the kernel. Loaded on first use: most scripts need neither this nor the
 * assembler.
 */

import { assemble } from "../asm/assembler.ts";
import * as asm from "../asm/asm.ts";
import type { Code } from "../asm/instruction.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import { loadError, testRunProgram, type TestRunInput, tryLoadProgram } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { MappedMemory, roundUp8, roundUpToPage } from "../ffi/mapped_memory.ts";
import { BPF_F_MMAPABLE, BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { BTF_FUNC_STATIC, BTF_INT_SIGNED } from "../uapi/btf.ts";
import { bpfProgTypes } from "../uapi/enumerations.ts";
import { createFromSpec, type MapProperties } from "./create.ts";
import type { MapSpec } from "./map_spec.ts";
import { mapTypes } from "./map_types.ts";
import type { ValueLayout } from "./value_layout.ts";

/** Bytes of the memory shared with the program, at most. */
const maxSharedBytes = 256 * 1024;
const maxCapacity = 1024;
/**
 * The shared memory: how many keys there are; then the keys; then for each its value after 8 bytes that say whether there is
 * one.
 */
const countSize = 8;
const foundSize = 8;
/** An Ethernet header, without which socket filters are not run. */
const smallestPacket = 14;

/** A loaded program that looks keys up, and the memory that it shares with this process. */
class LookupProgram implements Disposable {
  readonly #memory: MappedMemory;
  readonly #program: Descriptor;
  readonly #input: TestRunInput;
  readonly #keyStride: number;
  readonly #valueStride: number;
  readonly #valuesOffset: number;
  /** The number of keys that one run takes. */
  readonly capacity: number;
  readonly view: DataView;

  /** @throws {BpfError} where kernel or privileges do not suffice, or programs may not read the map */
  constructor(map: Descriptor, { type, keySize }: MapProperties, valueSize: number) {
    this.#keyStride = roundUp8(keySize);
    this.#valueStride = foundSize + roundUp8(valueSize);
    const stride = this.#keyStride + this.#valueStride;
    this.capacity = Math.min(maxCapacity, Math.floor((maxSharedBytes - countSize) / stride));
    this.#valuesOffset = countSize + this.capacity * this.#keyStride;
    const length = this.#valuesOffset + this.capacity * this.#valueStride;
    const what = `look-ups in ${map.what}`;
    // The mapping and the program keep the kernel's map alive.
    using shared = new Descriptor(createFromSpec(sharedArray(length)), what);
    this.#memory = MappedMemory.ofFile({
      fd: shared.fd,
      offset: 0,
      length: roundUpToPage(length),
      writable: true,
      what,
    });
    this.view = new DataView(this.#memory.buffer);
    // Programs that may sleep hold up nobody.
    const isSleepable = mapTypes.get(type)?.refusesSleepable !== true;
    const data = isSleepable ? undefined : new Uint8Array(smallestPacket);
    this.#input = { data, context: undefined, contextComesBack: undefined, repeat: 0 };
    try {
      this.#program = loadLookup(this.#code(valueSize), { map, shared }, isSleepable, what);
    } catch (error) {
      this.#memory[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Looks up `count` keys, written before at {@link keyOffset} of {@link view}: their values are for {@link readValue}.
   *
   * @throws {BpfError}
   */
  run(count: number): void {
    this.view.setUint32(0, count, true);
    testRunProgram(this.#program.fd, this.#input, this.#program.what);
  }

  /** The offset of key `index` in {@link view}. */
  keyOffset(index: number): number {
    return countSize + index * this.#keyStride;
  }

  /** Decodes the value of key `index`; `undefined` where there is none. */
  readValue<V>(layout: Pick<ValueLayout<V>, "read">, index: number): V | undefined {
    const offset = this.#valuesOffset + index * this.#valueStride;
    const { view } = this;
    if (view.getUint32(offset, true) === 0) return undefined;
    return layout.read(view, offset + foundSize);
  }

  #code(valueSize: number): Code {
    const { r0, r1, r2, r3, r4, r6, r7, r8 } = asm;
    return [
      asm.ldMapValue(r1, "shared", 0),
      asm.ldxw(r1, r1, 0),
      asm.ldFunc(r2, "each"),
      asm.mov(r3, 0),
      asm.mov(r4, 0),
      asm.call("loop"),
      asm.mov(r0, 0),
      asm.exit(),

      asm.func("each"), // (index): 1 to stop
      asm.mov(r6, r1),
      asm.jge(r6, this.capacity, "stop"),
      asm.ldMapValue(r7, "shared", countSize),
      asm.mov(r2, r6),
      asm.mul(r2, this.#keyStride),
      asm.add(r2, r7), // the key
      asm.mul(r6, this.#valueStride),
      asm.ldMapValue(r8, "shared", this.#valuesOffset),
      asm.add(r8, r6), // where its value goes
      asm.ldMap(r1, "map"),
      asm.call("map_lookup_elem"),
      asm.jeq(r0, 0, "absent"),
      copy(valueSize),
      asm.stdw(r8, 0, 1),
      asm.mov(r0, 0),
      asm.exit(),
      asm.label("absent"),
      asm.stdw(r8, 0, 0),
      asm.mov(r0, 0),
      asm.exit(),
      asm.label("stop"),
      asm.mov(r0, 1),
      asm.exit(),
    ];
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}

/** Loads the program, with the types that the verifier asks for when the address of a function is taken. */
function loadLookup(
  code: Code,
  maps: Readonly<Record<string, Descriptor>>,
  isSleepable: boolean,
  what: string,
): Descriptor {
  const { bytes, functions } = assemble(code, {
    map: (reference) => (maps[reference as string] as Descriptor).fd,
  });
  const types = new BtfBuilder();
  const prototype = types.functionPrototype(types.int("int", 4, BTF_INT_SIGNED));
  const records = functions.flatMap(({ name, slot }) => [
    slot,
    types.func(name === "" ? "main" : name, prototype, BTF_FUNC_STATIC),
  ]);
  using btf = loadBtf(types.encode(), `types of the ${what}`);
  const result = tryLoadProgram(
    {
      type: isSleepable ? bpfProgTypes.SYSCALL : bpfProgTypes.SOCKET_FILTER,
      expectedAttachType: 0,
      attachBtfId: 0,
      flags: isSleepable ? BPF_F_SLEEPABLE : 0,
      instructions: bytes,
      license: "GPL",
      name: "lookup_many",
      functionInfo: {
        btfFd: btf.fd,
        records: new Uint8Array(Uint32Array.from(records).buffer),
      },
    },
    0,
  );
  if ("fd" in result) return new Descriptor(result.fd, what);
  throw loadError(result.errno, what, ["CAP_BPF"], undefined);
}

/**
 * Copies a value from where r0 points to after what r8 points to, in pieces as large as they can be: an integer that is
 * changed meanwhile is never half old and half new, as all of them lie at multiples of their size.
 */
function copy(size: number): Code {
  const { r0, r1, r8 } = asm;
  const pieces = [
    [8, asm.ldxdw, asm.stxdw],
    [4, asm.ldxw, asm.stxw],
    [2, asm.ldxh, asm.stxh],
    [1, asm.ldxb, asm.stxb],
  ] as const;
  const code: Code[] = [];
  let offset = 0;
  for (const [length, load, store] of pieces) {
    for (; size - offset >= length; offset += length) {
      code.push([load(r1, r0, offset), store(r8, foundSize + offset, r1)]);
    }
  }
  return code;
}

/** The memory shared with the program: an array of one value. */
function sharedArray(valueSize: number): MapSpec {
  return {
    type: "array",
    keySize: 4,
    valueSize,
    maxEntries: 1,
    flags: BPF_F_MMAPABLE,
    numaNode: -1,
    name: "lookup_many",
    mapExtra: 0,
  };
}

/**
 * Look-ups of many chosen keys in one call, for which the kernel has no command: a program that is run there does them, with
 * keys and values in memory shared with it (kernel 5.17).
 *
 * A system call for each key costs more than ten times what the look-up itself does. Where the kernel or this process's
 * privileges do not suffice there is no program, and look-ups stay single ones.
 */
export class ManyLookups implements Disposable {
  readonly #map: Descriptor;
  readonly #info: MapProperties;
  readonly #valueSize: number;
  #program: LookupProgram | undefined;
  #isRefused = false;
  /** Types of keys and values are the user's code, which may look up in the same map. */
  #isBusy = false;

  constructor(map: Descriptor, info: MapProperties, valueSize: number) {
    this.#map = map;
    this.#info = info;
    this.#valueSize = valueSize;
  }

  /** True where {@link get} can be called now. */
  get isUsable(): boolean {
    return !this.#isRefused && !this.#isBusy;
  }

  /**
   * Looks up these keys. Returns their values in their order; `undefined` where single look-ups have to do it.
   *
   * @param write writes a key, the one at `index` of all, at an offset of the view
   */
  get<K, V>(
    keys: readonly K[],
    write: (view: DataView, offset: number, key: K, index: number) => void,
    layout: Pick<ValueLayout<V>, "read">,
  ): (V | undefined)[] | undefined {
    this.#isBusy = true;
    try {
      this.#program ??= new LookupProgram(this.#map, this.#info, this.#valueSize);
      const program = this.#program;
      const values = new Array<V | undefined>(keys.length);
      for (let start = 0; start < keys.length; start += program.capacity) {
        const count = Math.min(program.capacity, keys.length - start);
        for (let i = 0; i < count; i++) {
          write(program.view, program.keyOffset(i), keys[start + i] as K, start + i);
        }
        program.run(count);
        for (let i = 0; i < count; i++) values[start + i] = program.readValue(layout, i);
      }
      return values;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      this.#isRefused = true;
      return undefined;
    } finally {
      this.#isBusy = false;
      if (this.#isRefused) this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#isRefused = true;
    // The user's code may dispose of the map in the midst: the look-ups under way still have the memory then.
    if (this.#isBusy) return;
    this.#program?.[Symbol.dispose]();
    this.#program = undefined;
  }
}
