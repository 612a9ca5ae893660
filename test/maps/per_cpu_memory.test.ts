/** The kernel decides how many bytes of per-CPU values it copies: the library must have room for exactly these. */
import type { Pointer } from "bun:ffi";
import { describe, expect } from "bun:test";
import {
  allocateScratch,
  MappedMemory,
  pageSize,
  roundUp8,
  setUint64,
} from "../../src/ffi/mapped_memory.ts";
import { bpf } from "../../src/ffi/bpf.ts";
import { errnoName, lastErrno } from "../../src/ffi/error.ts";
import { libc } from "../../src/ffi/libc.ts";
import { elementKeyOffset, MapElement } from "../../src/ffi/bpf_map_element.ts";
import {
  LruPerCpuHashMap,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import type { ValueLayout } from "../../src/maps/value_layout.ts";
import type { Walk } from "../../src/maps/walk.ts";
import { BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM } from "../../src/uapi/commands.ts";
import { MAP_ELEM } from "../../src/uapi/layout.ts";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_NONE } from "../../src/uapi/system.ts";
import { bpfTest } from "../support/privilege.ts";
import type { Bytes } from "./random_bytes.ts";

type PerCpuMap = (
  | PerCpuHashMap<t.Type<number>, t.Type<Bytes>>
  | LruPerCpuHashMap<t.Type<number>, t.Type<Bytes>>
  | PerCpuArrayMap<t.Type<Bytes>>
) &
  Disposable;

/** Access to the protected members of a map: its memory. */
interface Inside {
  readonly elements: {
    readonly layout: { readonly value: ValueLayout<unknown> };
    use<T>(call: (element: MapElement) => T): T;
    walk(): Walk;
  };
}

const cpus = possibleCpus().length;
const maxEntries = 8;
const canary = 0xa5;
const stored = 0x3c;
/** Bytes after the library's memory that the kernel could overwrite without harm. */
const beyond = 256;

const kinds: Readonly<Record<string, (valueSize: number) => PerCpuMap>> = {
  "a per-CPU hash map": (size) =>
    new PerCpuHashMap({ key: t.u32, value: t.bytes(size), maxEntries }),
  "an LRU per-CPU hash map": (size) =>
    new LruPerCpuHashMap({ key: t.u32, value: t.bytes(size), maxEntries: 64 }),
  "a per-CPU array map": (size) => new PerCpuArrayMap({ value: t.bytes(size), length: maxEntries }),
};

const sizes = Array.from({ length: 64 }, (_, index) => index + 1);

function bytesOf(view: DataView): Bytes {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Returns the range of bytes that no longer have the canary value, from the first to after the last, or `undefined`. */
function writtenPart(bytes: Bytes): { from: number; to: number } | undefined {
  const from = bytes.findIndex((byte) => byte !== canary);
  const to = bytes.findLastIndex((byte) => byte !== canary) + 1;
  return to === 0 ? undefined : { from, to };
}

/** Map with three keys, and an element with more memory than the map's own. */
function prepare(make: (valueSize: number) => PerCpuMap, valueSize: number) {
  const map = make(valueSize);
  const value = new Uint8Array(valueSize).fill(stored);
  for (const key of [0, 1, 2]) map.set(key, Array<Bytes>(cpus).fill(value));
  const inside = (map as unknown as Inside).elements;
  const room = inside.layout.value.size;
  const element = new MapElement(map.fd, 4, room + beyond, "canary");
  element.view.setUint32(elementKeyOffset, 1, true);
  const values = bytesOf(element.view).subarray(element.valueOffset);
  values.fill(canary);
  return { map, inside, room, element, values };
}

/** Least end of the bytes that the kernel writes: that of the last CPU's value, without its padding. */
function leastWritten(valueSize: number): number {
  return (cpus - 1) * roundUp8(valueSize) + valueSize;
}

function expectInside(values: Bytes, room: number, valueSize: number): void {
  const written = writtenPart(values);
  expect(written?.from).toBe(0);
  expect(written?.to).toBeWithin(leastWritten(valueSize), room + 1);
}

for (const [name, make] of Object.entries(kinds)) {
  describe(`${name} with values of 1 to 64 bytes`, () => {
    bpfTest("a look-up writes all of the memory for the values, and nothing after it", () => {
      for (const size of sizes) {
        const { map, room, element, values } = prepare(make, size);
        using _map = map;
        using _element = element;
        expect(element.lookup(0)).toBe(true);
        expectInside(values, room, size);
        // A look-up of an absent key writes nothing.
        values.fill(canary);
        element.view.setUint32(elementKeyOffset, 77, true);
        expect(element.lookup(0)).toBe(false);
        expect(writtenPart(values)).toBeUndefined();
      }
    });

    bpfTest("a take writes all of the memory for the values, and nothing after it", () => {
      for (const size of sizes) {
        const { map, room, element, values } = prepare(make, size);
        using _map = map;
        using _element = element;
        const isTaken = element.lookupAndDelete(0);
        // Arrays, and kernels before 5.14, lack the call.
        if (isTaken === undefined) expect(writtenPart(values)).toBeUndefined();
        else expectInside(values, room, size);
      }
    });

    bpfTest("a batch writes as many values as it reports, and nothing after them", () => {
      for (const size of sizes) {
        const { map, inside, room, element } = prepare(make, size);
        using _map = map;
        using _element = element;
        using walk = inside.walk();
        bytesOf(walk.view).subarray(walk.valueOffset(0)).fill(canary);
        expect(walk.next()).toBe(true);
        expect(walk.count).toBe(map instanceof PerCpuArrayMap ? maxEntries : 3);
        expect(walk.valueOffset(1) - walk.valueOffset(0)).toBe(room);
        const last = bytesOf(walk.view).subarray(walk.valueOffset(walk.count - 1));
        // There is memory after the values: otherwise this test could not fail.
        expect(last.length).toBeGreaterThan(room);
        expectInside(last, room, size);
      }
    });

    bpfTest("the map's own memory is large enough for its look-ups", () => {
      for (const size of sizes) {
        const { map, inside, room, element } = prepare(make, size);
        using _map = map;
        using _element = element;
        expect(room).toBe(cpus * roundUp8(size));
        const own = inside.use((lent) => lent);
        expect(own.view.byteLength - own.valueOffset).toBeGreaterThanOrEqual(room);
        const values = bytesOf(own.view).subarray(own.valueOffset);
        values.fill(canary);
        expect(map.get(1)).toEqual(Array<Bytes>(cpus).fill(new Uint8Array(size).fill(stored)));
        // The same memory, because it was returned.
        expect(inside.use((lent) => lent)).toBe(own);
        expectInside(values, room, size);
      }
    });
  });
}

/** Memory before an inaccessible page: a system call that reads or writes past its end fails with EFAULT. */
class GuardedMemory implements Disposable {
  readonly #memory = MappedMemory.anonymous(2 * pageSize(), "guarded memory");
  readonly end = this.#memory.address + pageSize();

  constructor() {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    const address = libc.mmap(this.end as Pointer, pageSize(), PROT_NONE, flags, -1, 0);
    expect(address).toBe(this.end);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** Returns the name of the error of a bpf(2) call on one element with its value at an address, or "". */
function callAt(value: number, fd: number, command: number): string {
  using scratch = allocateScratch(128);
  const { address, view } = scratch;
  view.setUint32(elementKeyOffset, 1, true);
  view.setUint32(MAP_ELEM.map_fd, fd, true);
  setUint64(view, MAP_ELEM.key, address + elementKeyOffset);
  setUint64(view, MAP_ELEM.value, value);
  return bpf(command, address, MAP_ELEM.sizeof) === 0 ? "" : errnoName(lastErrno());
}

describe("the memory for the values of a key", () => {
  for (const [name, make] of Object.entries(kinds)) {
    bpfTest(`of ${name} suffices before an inaccessible page, and 8 bytes less do not`, () => {
      using guarded = new GuardedMemory();
      for (const size of sizes) {
        using map = make(size);
        const room = (map as unknown as Inside).elements.layout.value.size;
        for (const command of [BPF_MAP_UPDATE_ELEM, BPF_MAP_LOOKUP_ELEM]) {
          expect(callAt(guarded.end - room, map.fd, command)).toBe("");
          expect(callAt(guarded.end - room + 8, map.fd, command)).toBe("EFAULT");
        }
      }
    });
  }
});
