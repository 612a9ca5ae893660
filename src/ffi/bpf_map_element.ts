import { bpf, type BpfCommand, bpfError } from "./bpf.ts";
import {
  deleteHints,
  flagHints,
  isUnsupported,
  type Hints,
  type KindHints,
  readHints,
  storeHints,
  retryAfterEnomem,
} from "./bpf_map.ts";
import { errnoName, lastErrno } from "./error.ts";
import { allocateScratch, roundUp8, type Scratch, setUint64 } from "./mapped_memory.ts";
import {
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_GET_NEXT_KEY,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_ELEM,
} from "../uapi/commands.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import { MAP_ELEM } from "../uapi/layout.ts";

/** The offset of the key in {@link MapElement.view}: after two attrs, one for elements and one for the walk over keys. */
export const elementKeyOffset = 64;

/**
 * A key and a value at fixed addresses, and the calls of bpf(2) on one element of a map.
 *
 * The attr is filled in once: a call writes the key, changes the flags and asks the kernel. The owner writes the key at
 * {@link elementKeyOffset} and the value at `valueOffset` of `view` before the call, and reads the value there after it.
 */
export class MapElement implements Disposable {
  readonly view: DataView;
  /** The offset of the value in `view`. */
  readonly valueOffset: number;
  /** The offset in `view` of the key that {@link nextKey} finds. */
  readonly nextKeyOffset: number;
  readonly #memory: Scratch;
  readonly #bytes: Uint8Array;
  readonly #address: number;
  readonly #keySize: number;
  readonly #valueSize: number;
  readonly #what: string;
  readonly #kind: KindHints;

  /**
   * @param allocate scratch memory is quick to take and given back by disposal only; that of `mapScratch` is collected with its
   *   views, for an owner that may be abandoned
   */
  constructor(
    fd: number,
    keySize: number,
    valueSize: number,
    what: string,
    kind: KindHints = {},
    allocate: (length: number, what: string) => Scratch = allocateScratch,
  ) {
    this.nextKeyOffset = elementKeyOffset + roundUp8(keySize);
    this.valueOffset = this.nextKeyOffset + roundUp8(keySize);
    this.#keySize = keySize;
    this.#valueSize = valueSize;
    this.#what = what;
    this.#kind = kind;
    const length = this.valueOffset + valueSize;
    this.#memory = allocate(length, `element of ${what}`);
    const { address, bytes, view } = this.#memory;
    this.#address = address;
    this.#bytes = bytes;
    this.view = view;
    for (const attr of [0, MAP_ELEM.sizeof]) {
      view.setUint32(attr + MAP_ELEM.map_fd, fd, true);
      // Maps without keys want no pointer to one either.
      setUint64(view, attr + MAP_ELEM.key, keySize === 0 ? 0 : this.#address + elementKeyOffset);
    }
    setUint64(view, MAP_ELEM.value, this.#address + this.valueOffset);
    setUint64(view, MAP_ELEM.sizeof + MAP_ELEM.next_key, this.#address + this.nextKeyOffset);
  }

  /** Fetches the value of the key; false when there is none. */
  lookup(flags: number): boolean {
    this.view.setUint32(MAP_ELEM.flags, flags, true);
    if (bpf(BPF_MAP_LOOKUP_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return true;
    return this.#refused(BPF_MAP_LOOKUP_ELEM, "look up a value in", readHints, flags);
  }

  /**
   * Stores the value, which errors call `stored`; false when BPF_NOEXIST or BPF_EXIST forbids it.
   *
   * @param hints those of this call, by the name of the error
   */
  update(flags: number, stored = "a value", hints?: Hints): boolean {
    this.view.setUint32(MAP_ELEM.flags, flags, true);
    const errno = this.#tryUpdate();
    if (errno === 0) return true;
    const code = errnoName(errno);
    if (code === "EEXIST" && (flags & BPF_NOEXIST) !== 0) return false;
    if (code === "ENOENT" && (flags & BPF_EXIST) !== 0) return false;
    throw bpfError(BPF_MAP_UPDATE_ELEM, errno, {
      doing: `store ${stored} in ${this.#what}`,
      hints: { ...flagHints(flags), ...storeHints(this.#kind), ...hints },
    });
  }

  /** Sets the CPU that a call is for: the upper half of the flags, which is 0 in all other calls (kernel 7.0). */
  setCpu(cpu: number): void {
    this.view.setUint32(MAP_ELEM.flags + 4, cpu, true);
  }

  /** The number of the error, 0 for none. */
  #tryUpdate(): number {
    for (let waited = 0; ; waited++) {
      if (bpf(BPF_MAP_UPDATE_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return 0;
      const errno = lastErrno();
      if (!retryAfterEnomem(this.#kind, errno, waited)) return errno;
    }
  }

  /** Deletes the key; false when it is absent. */
  delete(): boolean {
    // The attr ends after the key: the kernel refuses this command when a later field is not zero.
    if (bpf(BPF_MAP_DELETE_ELEM, this.#address, MAP_ELEM.value) === 0) return true;
    return this.#refused(BPF_MAP_DELETE_ELEM, "delete a value of", deleteHints);
  }

  /** Fetches the value and deletes the key in one step; `undefined` where map or kernel cannot (hash maps: 5.14). */
  lookupAndDelete(flags: number): boolean | undefined {
    this.view.setUint32(MAP_ELEM.flags, flags, true);
    if (bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return true;
    if (isUnsupported(errnoName(lastErrno()))) return undefined;
    return this.#refused(BPF_MAP_LOOKUP_AND_DELETE_ELEM, "take a value out of", deleteHints);
  }

  /**
   * Puts the key after the one at `nextKeyOffset` there; false after the last.
   * With `first`, or when that key was deleted meanwhile, the walk starts from the first key.
   */
  nextKey(first: boolean): boolean {
    const { view } = this;
    const attr = MAP_ELEM.sizeof;
    setUint64(view, attr + MAP_ELEM.key, first ? 0 : this.#address + this.nextKeyOffset);
    if (bpf(BPF_MAP_GET_NEXT_KEY, this.#address + attr, MAP_ELEM.flags) === 0) return true;
    return this.#refused(BPF_MAP_GET_NEXT_KEY, "walk over the keys of", readHints);
  }

  /** Writes the key from bytes. */
  setKey(key: Uint8Array): void {
    this.#bytes.set(key, elementKeyOffset);
  }

  /** Writes the key of an array. */
  setIndex(index: number): void {
    this.view.setUint32(elementKeyOffset, index, true);
  }

  /** Writes the value from bytes. */
  setValue(value: Uint8Array): void {
    this.#bytes.set(value, this.valueOffset);
  }

  /** Makes the key that {@link nextKey} found the key of the next call. */
  useNextKey(): void {
    const { nextKeyOffset } = this;
    this.#bytes.copyWithin(elementKeyOffset, nextKeyOffset, nextKeyOffset + this.#keySize);
  }

  /** Makes the key of this element the one that {@link nextKey} goes on from. */
  seek(): void {
    const end = elementKeyOffset + this.#keySize;
    this.#bytes.copyWithin(this.nextKeyOffset, elementKeyOffset, end);
  }

  /** Copies the key out. */
  copyKeyTo(target: Uint8Array, offset: number): void {
    const key = this.#bytes.subarray(elementKeyOffset, elementKeyOffset + this.#keySize);
    target.set(key, offset);
  }

  /** Copies key and value out. */
  copyTo(target: Uint8Array, keyOffset: number, valueOffset: number): void {
    this.copyKeyTo(target, keyOffset);
    const end = this.valueOffset + this.#valueSize;
    target.set(this.#bytes.subarray(this.valueOffset, end), valueOffset);
  }

  /** False for "no such key", an error for all else. */
  #refused(command: BpfCommand, doing: string, hints: Hints, flags = 0): false {
    const errno = lastErrno();
    // By number, as an absent key is an ordinary answer.
    if (errno === ENOENT) return false;
    throw bpfError(command, errno, {
      doing: `${doing} ${this.#what}`,
      hints: { ...hints, ...flagHints(flags), ...this.#kind.keyHints },
    });
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}
