import * as asm from "../asm/asm.ts";
import type { Code } from "../asm/instruction.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { MappedMemory, roundUp8, roundUpToPage } from "../ffi/mapped_memory.ts";
import { createFromSpec } from "./create.ts";
import type { MapSpec } from "./map_spec.ts";
import type { MapTypeName } from "./map_types.ts";
import type { ValueLayout } from "./value_layout.ts";
import { Program, type TestRunOptions } from "../program/program.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";

/** Bytes of memory shared with the program, at the most. */
const largestRoom = 256 * 1024;
const largestCapacity = 1024;
/** Values up to this size are copied by loads and stores written out one by one; larger ones are not for this. */
const largestValue = 512;
/** In the shared memory: how many keys there are; then the keys; then for each its value behind 8 bytes that say whether there is one. */
const countSize = 8;
const foundSize = 8;
/** An Ethernet header, without which socket filters are not run. */
const smallestPacket = 14;

/** What is looked up in, and the sizes in which the kernel has it. */
export interface LookedUpMap {
  readonly type: MapTypeName;
  readonly fd: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly what: string;
}

/**
 * Look-ups of many chosen keys in one call, for which the kernel has no command: a program that is run there does them, with
 * keys and values in memory shared with it (kernel 5.17).
 *
 * A system call for each key costs more than ten times what the look-up itself does.
 */
export class LookupProgram implements Disposable {
  readonly #memory: MappedMemory;
  readonly #program: Program;
  readonly #input: TestRunOptions;
  readonly #capacity: number;
  readonly #keyStride: number;
  readonly #valueStride: number;
  readonly #valuesOffset: number;
  #view: DataView | undefined;

  /** Whether values are small enough for it. */
  static fits(valueSize: number): boolean {
    return valueSize <= largestValue;
  }

  /** @throws {BpfError | VerifierError} where kernel or privileges do not suffice, or programs may not read the map */
  constructor(map: LookedUpMap) {
    this.#keyStride = roundUp8(map.keySize);
    this.#valueStride = foundSize + roundUp8(map.valueSize);
    const stride = this.#keyStride + this.#valueStride;
    this.#capacity = Math.min(largestCapacity, Math.floor((largestRoom - countSize) / stride));
    this.#valuesOffset = countSize + this.#capacity * this.#keyStride;
    const room = this.#valuesOffset + this.#capacity * this.#valueStride;
    const what = `look-ups in ${map.what}`;
    // The mapping and the program keep the kernel's map alive.
    using shared = new Descriptor(createFromSpec(sharedMap(room)), what);
    this.#memory = MappedMemory.ofFile({
      fd: shared.fd,
      offset: 0,
      length: roundUpToPage(room),
      writable: true,
      what,
    });
    // Programs that may sleep hold up nobody, but the kernel does not let them use tries.
    const isSleepable = map.type !== "lpm_trie";
    this.#input = isSleepable ? {} : { data: new Uint8Array(smallestPacket) };
    try {
      this.#program = new Program({
        section: isSleepable ? "syscall" : "socket",
        license: "GPL",
        name: "lookup_many",
        maps: { map, shared },
        code: this.#code(map.valueSize),
      });
    } catch (error) {
      this.#memory[Symbol.dispose]();
      throw error;
    }
  }

  /** How many keys one run takes. */
  get capacity(): number {
    return this.#capacity;
  }

  /**
   * Looks up `count` keys, written before at {@link keyOffset} of {@link view}: their values are for {@link readValue}.
   *
   * @throws {BpfError}
   */
  run(count: number): void {
    this.view.setUint32(0, count, true);
    this.#program.testRun(this.#input);
  }

  get view(): DataView {
    this.#view ??= new DataView(this.#memory.buffer);
    return this.#view;
  }

  /** Where key `index` is in {@link view}. */
  keyOffset(index: number): number {
    return countSize + index * this.#keyStride;
  }

  /** The value of key `index`, or `undefined` where there is none. */
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

      asm.func("each"), // (index): whether to stop
      asm.mov(r6, r1),
      asm.jge(r6, this.#capacity, "stop"),
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

/**
 * Copies a value from where r0 points to behind what r8 points to, in pieces as large as they can be: an integer that is
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
function sharedMap(valueSize: number): MapSpec {
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

/** A program costs some milliseconds to load: as much as so many single look-ups. */
const worthwhile = 4096;
/** A run of the program costs as much as a few single look-ups. */
const fewest = 16;

/**
 * Look-ups of many chosen keys by a program in the kernel, once enough keys were asked for to be worth one.
 *
 * Where the kernel or this process's privileges do not suffice there is none, and look-ups stay single ones.
 */
export class ManyLookups implements Disposable {
  #program: LookupProgram | undefined;
  #isRefused = false;
  /** Types of keys and values are the user's code, which may look up in the same map. */
  #isBusy = false;
  #asked = 0;

  /** Whether a program is to look up so many keys: false until it is worth the loading. */
  isWorthwhile(count: number): boolean {
    if (this.#isRefused || this.#isBusy || count < fewest) return false;
    this.#asked += count;
    return this.#asked >= worthwhile;
  }

  /**
   * The values of these keys, in their order; `undefined` where single look-ups have to do it.
   *
   * @param write writes a key, the one at `index` of all, at an offset of the view
   */
  find<K, V>(
    map: LookedUpMap,
    keys: readonly K[],
    write: (view: DataView, offset: number, key: K, index: number) => void,
    layout: Pick<ValueLayout<V>, "read">,
  ): (V | undefined)[] | undefined {
    this.#isBusy = true;
    try {
      this.#program ??= new LookupProgram(map);
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
