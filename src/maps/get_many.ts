/**
 * @module Look-ups of many keys by a program in the kernel. This module does not use the assembler and the program loader,
 * because every bundle of a script with a map would then contain them.
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

/** Largest size of the memory that is shared with the program. */
const maxSharedBytes = 256 * 1024;
const maxCapacity = 1024;
/**
 * Layout of the shared memory: the number of keys; the keys; then for each key 8 bytes that are 1 if it was found, and its
 * value.
 */
const countSize = 8;
const foundSize = 8;
/** Size of an Ethernet header: BPF_PROG_TEST_RUN rejects shorter packets for socket filters. */
const minPacketSize = 14;

/** Instruction with the fields of `struct bpf_insn` (include/uapi/linux/bpf.h). */
type Instruction = readonly [
  operation: number,
  destination: number,
  source: number,
  offset: number,
  immediate: number,
];
type Instructions = readonly Instruction[];

const [r0, r1, r2, r3, r4, r6, r7, r8] = [0, 1, 2, 3, 4, 6, 7, 8] as const;
/**
 * Numbers of helpers, from `enum bpf_func_id` (include/uapi/linux/bpf.h). The table of all helpers would add 5 kB to a
 * bundle.
 */
const [mapLookupElem, loop] = [1, 181] as const;
/** Numbers of program types, from `enum bpf_prog_type`. */
const [socketFilter, syscall] = [1, 31] as const;
/** Source registers of an instruction that loads an address: BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE and BPF_PSEUDO_FUNC. */
const [mapDescriptor, mapValue, localFunction] = [1, 2, 4] as const;
/** Index of the first instruction of the function that looks up one key. */
const eachSlot = 10;

/** Returns the instruction that loads an address into a register. It takes two slots. */
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

/** Loaded program that looks up keys, and the memory that it shares with this process. */
class LookupProgram implements Disposable {
  readonly #memory: MappedMemory;
  readonly #program: Descriptor;
  /** Packet that a socket filter runs on. */
  readonly #packet: Uint8Array | undefined;
  readonly #keyStride: number;
  readonly #valueStride: number;
  readonly #valuesOffset: number;
  /** Largest number of keys in one run. */
  readonly capacity: number;
  readonly view: DataView;

  /** @throws {BpfError} if the kernel or the capabilities do not suffice, or if programs may not read the map. */
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
    // A sleepable program can be preempted: it does not delay other work on its CPU.
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
   * Looks up `count` keys, which the caller has written at {@link keyOffset} of {@link view}. {@link readValue} then
   * returns their values.
   *
   * @throws {BpfError} if the kernel rejects the run.
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

  /** Returns the offset of key `index` in {@link view}. */
  keyOffset(index: number): number {
    return countSize + index * this.#keyStride;
  }

  /** Decodes the value of key `index`. Returns `undefined` if the key is absent. */
  readValue<V>(layout: Pick<ValueLayout<V>, "read">, index: number): V | undefined {
    const offset = this.#valuesOffset + index * this.#valueStride;
    const { view } = this;
    if (view.getUint32(offset, true) === 0) return undefined;
    return layout.read(view, offset + foundSize);
  }

  #code(valueSize: number, map: number, shared: number): Instructions {
    const copyCode = copyValue(valueSize);
    // Distance of the jump to `absent`: the number of instructions in between.
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

      // each(index): returns 1 to stop the loop
      [0xbf, r6, r1, 0, 0], // r6 = r1
      [0x35, r6, 0, found + 16, this.capacity], // if r6 >= capacity goto stop
      ...loadAddress(r7, mapValue, shared, countSize),
      [0xbf, r2, r6, 0, 0], // r2 = r6
      [0x27, r2, 0, 0, this.#keyStride], // r2 *= stride
      [0x0f, r2, r7, 0, 0], // r2 += r7: the key
      [0x27, r6, 0, 0, this.#valueStride], // r6 *= stride
      ...loadAddress(r8, mapValue, shared, this.#valuesOffset),
      [0x0f, r8, r6, 0, 0], // r8 += r6: the memory for its value
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

/** Loads the program with BTF for its functions, which the verifier requires when the address of a function is taken. */
function loadLookup(code: Instructions, isSleepable: boolean, what: string): Descriptor {
  // Array of struct bpf_func_info: the first instruction of each function, and the id of its type.
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

/** Returns the BTF of `static int main()` and `static int each()`. The BTF encoder would add 1 kB to a bundle. */
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
 * Returns instructions that copy a value from the address in r0 to the address r8 + 8, in the largest possible pieces. All
 * integers are aligned to their size: a copied integer is never half old and half new.
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

/** Returns the attributes of the map whose memory is shared with the program: an array with one value. */
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
 * Look-ups of many keys in one system call. The kernel has no command that looks up several chosen keys, so a program does
 * it, with keys and values in shared memory.
 *
 * A system call costs more than ten times as much as the look-up itself. If the kernel or the capabilities do not suffice
 * for the program, {@link isUsable} becomes false and callers look up key by key. Requires Linux 5.17.
 */
export class ManyLookups implements Disposable {
  readonly #map: MapHandle;
  readonly #valueSize: number;
  #program: LookupProgram | undefined;
  #isRefused = false;
  /** True during {@link get}: types of keys and values are the user's code, which may call `getMany` of the same map. */
  #isBusy = false;

  constructor(map: MapHandle, valueSize: number) {
    this.#map = map;
    this.#valueSize = valueSize;
  }

  /** True if {@link get} can be called now. */
  get isUsable(): boolean {
    return !this.#isRefused && !this.#isBusy;
  }

  /**
   * Looks up keys. Returns their values in their order, or `undefined` if the caller has to look up key by key.
   *
   * @param write encodes the key at an index of `keys` at an offset of the view
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
          // The caller then looks up key by key, and so finds the entry that cannot be decoded.
          return undefined;
        }
      }
      return values;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      // A pending signal, such as the wake-up of a consumer, makes the verifier fail with EAGAIN: a later call can succeed.
      this.#isRefused = error.code !== "EAGAIN";
      return undefined;
    } finally {
      this.#isBusy = false;
      if (this.#isRefused) this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#isRefused = true;
    // The user's code may dispose of the map during get(). The memory is still in use then: get() disposes of it at its end.
    if (this.#isBusy) return;
    this.#program?.[Symbol.dispose]();
    this.#program = undefined;
  }
}
