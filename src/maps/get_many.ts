/**
 * @module Look-ups of many chosen keys by a program in the kernel. Written without the assembler and the loader of programs, which
 * most scripts do not need: every bundle of a script with a map would hold them.
 */

import { BpfAttr } from "../ffi/bpf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import { createKernelMap, type MapCreation } from "../ffi/bpf_map.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { MappedMemory, roundUp8, roundUpToPage } from "../ffi/mapped_memory.ts";
import { BPF_PROG_LOAD, BPF_PROG_TEST_RUN } from "../uapi/commands.ts";
import { BPF_F_MMAPABLE, BPF_F_SLEEPABLE, BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";
import { PROG_LOAD, PROG_TEST_RUN } from "../uapi/layout.ts";
import type { MapHandle } from "./create.ts";
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
const minPacketSize = 14;

/** An instruction: operation, destination, source, offset and immediate, as in `struct bpf_insn` (include/uapi/linux/bpf.h). */
type Instruction = readonly [
  operation: number,
  destination: number,
  source: number,
  offset: number,
  immediate: number,
];
type Instructions = readonly Instruction[];

const [r0, r1, r2, r3, r4, r6, r7, r8] = [0, 1, 2, 3, 4, 6, 7, 8] as const;
/** Helpers, by `enum bpf_func_id` (include/uapi/linux/bpf.h): the table of all of them would be 5 kB of a bundle. */
const [mapLookupElem, loop] = [1, 181] as const;
/** Types of programs, by `enum bpf_prog_type`. */
const [socketFilter, syscall] = [1, 31] as const;
/** Sources of an instruction that loads an address: BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE and BPF_PSEUDO_FUNC. */
const [mapDescriptor, mapValue, localFunction] = [1, 2, 4] as const;
/** The slot of the function that looks one key up. */
const eachSlot = 10;

/** The two slots of an instruction that loads an address. */
function loadAddress(register: number, source: number, low: number, high: number): Instructions {
  return [
    [0x18, register, source, 0, low],
    [0, 0, 0, 0, high],
  ];
}

function encode(code: Instructions): Uint8Array {
  const bytes = new Uint8Array(code.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [slot, [operation, destination, source, offset, immediate]] of code.entries()) {
    view.setUint8(slot * 8, operation);
    view.setUint8(slot * 8 + 1, (source << 4) | destination);
    view.setInt16(slot * 8 + 2, offset, true);
    view.setInt32(slot * 8 + 4, immediate, true);
  }
  return bytes;
}

/** A loaded program that looks keys up, and the memory that it shares with this process. */
class LookupProgram implements Disposable {
  readonly #memory: MappedMemory;
  readonly #program: Descriptor;
  /** The packet that a socket filter is run for. */
  readonly #packet: Uint8Array | undefined;
  readonly #keyStride: number;
  readonly #valueStride: number;
  readonly #valuesOffset: number;
  /** The number of keys that one run takes. */
  readonly capacity: number;
  readonly view: DataView;

  /** @throws {BpfError} where kernel or privileges do not suffice, or programs may not read the map */
  constructor({ descriptor: map, info, row }: MapHandle, valueSize: number) {
    this.#keyStride = roundUp8(info.keySize);
    this.#valueStride = foundSize + roundUp8(valueSize);
    const stride = this.#keyStride + this.#valueStride;
    this.capacity = Math.min(maxCapacity, Math.floor((maxSharedBytes - countSize) / stride));
    this.#valuesOffset = countSize + this.capacity * this.#keyStride;
    const length = this.#valuesOffset + this.capacity * this.#valueStride;
    const what = `look-ups in ${map.what}`;
    // The mapping and the program keep the kernel's map alive.
    using shared = new Descriptor(createKernelMap(sharedArray(length), what), what);
    this.#memory = MappedMemory.ofFile({
      fd: shared.fd,
      offset: 0,
      length: roundUpToPage(length),
      writable: true,
      what,
    });
    this.view = new DataView(this.#memory.buffer);
    // Programs that may sleep hold up nobody.
    const isSleepable = row.refusesSleepable !== true;
    this.#packet = isSleepable ? undefined : new Uint8Array(minPacketSize);
    try {
      const code = this.#code(valueSize, map.fd, shared.fd);
      this.#program = loadLookup(code, isSleepable, what);
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
    const { fd, what } = this.#program;
    using attr = new BpfAttr(PROG_TEST_RUN.flags);
    attr.u32(PROG_TEST_RUN.prog_fd, fd);
    if (this.#packet !== undefined) {
      attr.u32(PROG_TEST_RUN.data_size_in, minPacketSize);
      attr.memory(PROG_TEST_RUN.data_in, this.#packet);
    }
    attr.call(BPF_PROG_TEST_RUN, { doing: `run the ${what}` });
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

  #code(valueSize: number, map: number, shared: number): Instructions {
    const copyCode = copyValue(valueSize);
    // Slots from a jump to its target: those of what lies between.
    const found = copyCode.length + 3;
    return [
      ...loadAddress(r1, mapValue, shared, 0),
      [0x61, r1, r1, 0, 0], // r1 = *(u32 *)r1: the number of keys
      ...loadAddress(r2, localFunction, 6, 0), // each
      [0xb7, r3, 0, 0, 0], // r3 = 0
      [0xb7, r4, 0, 0, 0], // r4 = 0
      [0x85, 0, 0, 0, loop],
      [0xb7, r0, 0, 0, 0], // r0 = 0
      [0x95, 0, 0, 0, 0], // exit

      // each (index): 1 to stop
      [0xbf, r6, r1, 0, 0], // r6 = r1
      [0x35, r6, 0, found + 16, this.capacity], // if r6 >= capacity goto stop
      ...loadAddress(r7, mapValue, shared, countSize),
      [0xbf, r2, r6, 0, 0], // r2 = r6
      [0x27, r2, 0, 0, this.#keyStride], // r2 *= stride
      [0x0f, r2, r7, 0, 0], // r2 += r7: the key
      [0x27, r6, 0, 0, this.#valueStride], // r6 *= stride
      ...loadAddress(r8, mapValue, shared, this.#valuesOffset),
      [0x0f, r8, r6, 0, 0], // r8 += r6: the place for its value
      ...loadAddress(r1, mapDescriptor, map, 0),
      [0x85, 0, 0, 0, mapLookupElem],
      [0x15, r0, 0, found, 0], // if r0 == 0 goto absent
      ...copyCode,
      [0x7a, r8, 0, 0, 1], // *(u64 *)r8 = 1
      [0xb7, r0, 0, 0, 0], // r0 = 0
      [0x95, 0, 0, 0, 0], // exit
      // absent
      [0x7a, r8, 0, 0, 0], // *(u64 *)r8 = 0
      [0xb7, r0, 0, 0, 0], // r0 = 0
      [0x95, 0, 0, 0, 0], // exit
      // stop
      [0xb7, r0, 0, 0, 1], // r0 = 1
      [0x95, 0, 0, 0, 0], // exit
    ];
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}

/** Loads the program, with the types that the verifier asks for when the address of a function is taken. */
function loadLookup(code: Instructions, isSleepable: boolean, what: string): Descriptor {
  // The slot of each function, and the id of its type.
  const records = [0, mainType, eachSlot, eachType];
  using btf = loadBtf(functionTypes(), `types of the ${what}`);
  using attr = new BpfAttr(PROG_LOAD.line_info_rec_size);
  attr
    .u32(PROG_LOAD.prog_type, isSleepable ? syscall : socketFilter)
    .u32(PROG_LOAD.prog_flags, isSleepable ? BPF_F_SLEEPABLE : 0)
    .u32(PROG_LOAD.insn_cnt, code.length)
    .string(PROG_LOAD.license, "GPL")
    .text(PROG_LOAD.prog_name, "lookup_many", BPF_OBJ_NAME_LEN)
    .u32(PROG_LOAD.prog_btf_fd, btf.fd)
    .u32(PROG_LOAD.func_info_rec_size, 8)
    .u32(PROG_LOAD.func_info_cnt, records.length / 2);
  attr.memory(PROG_LOAD.insns, encode(code));
  attr.memory(PROG_LOAD.func_info, new Uint8Array(Uint32Array.from(records).buffer));
  return new Descriptor(attr.call(BPF_PROG_LOAD, { doing: `load the ${what}` }), what);
}

const [mainType, eachType] = [3, 4] as const;

/** The BTF of `static int main()` and `static int each()`: a builder of such types would be 1 kB of a bundle. */
function functionTypes(): Uint8Array {
  const names = "\0int\0main\0each\0";
  const types = [
    [1, 0x0100_0000, 4, 0x0100_0020], // int: 4 bytes, signed, 32 bits
    [0, 0x0d00_0000, 1], // int ()
    [5, 0x0c00_0000, 2], // main, static
    [10, 0x0c00_0000, 2], // each, static
  ].flat();
  const size = types.length * 4;
  // struct btf_header: magic number and version, its own size, offset and size of the types, and of the names.
  const header = [0x0001_eb9f, 24, 0, size, size, names.length];
  const words = Uint32Array.from([...header, ...types]);
  return Buffer.concat([new Uint8Array(words.buffer), Buffer.from(names)]);
}

/**
 * Copies a value from where r0 points to after what r8 points to, in pieces as large as they can be: an integer that is
 * changed meanwhile is never half old and half new, as all of them lie at multiples of their size.
 */
function copyValue(size: number): Instructions {
  // Loads and stores of 8, 4, 2 and 1 bytes.
  const pieces = [
    [8, 0x79, 0x7b],
    [4, 0x61, 0x63],
    [2, 0x69, 0x6b],
    [1, 0x71, 0x73],
  ] as const;
  const code: Instruction[] = [];
  let offset = 0;
  for (const [length, load, store] of pieces) {
    for (; size - offset >= length; offset += length) {
      code.push([load, r1, r0, offset, 0], [store, r8, r1, foundSize + offset, 0]);
    }
  }
  return code;
}

/** The memory shared with the program: an array of one value. */
function sharedArray(valueSize: number): MapCreation {
  return {
    type: bpfMapTypes.ARRAY,
    keySize: 4,
    valueSize,
    maxEntries: 1,
    flags: BPF_F_MMAPABLE,
    numaNode: 0,
    name: "lookup_many",
    extra: 0,
    isPerCpu: false,
    needs: ["CAP_BPF"],
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
  readonly #map: MapHandle;
  readonly #valueSize: number;
  #program: LookupProgram | undefined;
  #isRefused = false;
  /** Types of keys and values are the user's code, which may look up in the same map. */
  #isBusy = false;

  constructor(map: MapHandle, valueSize: number) {
    this.#map = map;
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
      this.#program ??= new LookupProgram(this.#map, this.#valueSize);
      const program = this.#program;
      const values = new Array<V | undefined>(keys.length);
      for (let start = 0; start < keys.length; start += program.capacity) {
        const count = Math.min(program.capacity, keys.length - start);
        for (let i = 0; i < count; i++) {
          write(program.view, program.keyOffset(i), keys[start + i] as K, start + i);
        }
        program.run(count);
        try {
          for (let i = 0; i < count; i++) values[start + i] = program.readValue(layout, i);
        } catch {
          // Single look-ups find the entry that cannot be decoded.
          return undefined;
        }
      }
      return values;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      // The verifier gives up when a signal comes, such as the wake-up of a consumer: that is no reason to do so here.
      this.#isRefused = error.code !== "EAGAIN";
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
