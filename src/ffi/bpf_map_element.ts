import { bpf, type BpfCommand, bpfError } from "./bpf.ts";
import {
  deleteHints,
  flagHints,
  isUnsupported,
  type Hints,
  type KindHints,
  readHints,
  updateHints,
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

/**
 * The offset of the key in {@link MapElement.view}: after two attrs, one for look-ups, updates and deletions, and one for
 * BPF_MAP_GET_NEXT_KEY.
 */
export const elementKeyOffset = 64;

/**
 * A key and a value at fixed addresses, and the commands of bpf(2) for one entry of a map.
 *
 * The attr is filled in once; a call only sets the flags. Before a call, the owner writes the key at {@link elementKeyOffset}
 * and the value at `valueOffset` of `view`; after it, the owner reads the value there.
 */
export class MapElement implements Disposable {
  /** The memory of the attrs, the key and the value. */
  readonly view: DataView;
  /** The offset of the value in `view`. */
  readonly valueOffset: number;
  /** The offset in `view` of the key that {@link nextKey} returns. */
  readonly nextKeyOffset: number;
  readonly #memory: Scratch;
  readonly #bytes: Uint8Array;
  readonly #address: number;
  readonly #keySize: number;
  readonly #valueSize: number;
  readonly #what: string;
  readonly #kind: KindHints;

  /**
   * @param allocate `allocateScratch`, which is fast, but whose memory is freed by disposal only; or `mapScratch`, whose memory
   *   is freed with its views, for an owner that may be abandoned
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
      // For a map without keys, the kernel rejects a pointer to a key.
      setUint64(view, attr + MAP_ELEM.key, keySize === 0 ? 0 : this.#address + elementKeyOffset);
    }
    setUint64(view, MAP_ELEM.value, this.#address + this.valueOffset);
    setUint64(view, MAP_ELEM.sizeof + MAP_ELEM.next_key, this.#address + this.nextKeyOffset);
  }

  /** Looks up the value of the key. Returns false if the key is absent. */
  lookup(flags: number): boolean {
    this.view.setUint32(MAP_ELEM.flags, flags, true);
    if (bpf(BPF_MAP_LOOKUP_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return true;
    return this.#refused(BPF_MAP_LOOKUP_ELEM, "look up a value in", readHints, flags);
  }

  /**
   * Stores the value. Returns false if BPF_NOEXIST or BPF_EXIST forbids it.
   *
   * @param stored the noun for the value in errors
   * @param hints additional hints of this call
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
      hints: { ...flagHints(flags), ...updateHints(this.#kind), ...hints },
    });
  }

  /** Sets the CPU for calls on one CPU's value: the upper half of the flags, which must be 0 in all other calls (kernel 7.0). */
  setCpu(cpu: number): void {
    this.view.setUint32(MAP_ELEM.flags + 4, cpu, true);
  }

  /** Stores the value, with retries. Returns the errno, or 0. */
  #tryUpdate(): number {
    for (let waited = 0; ; waited++) {
      if (bpf(BPF_MAP_UPDATE_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return 0;
      const errno = lastErrno();
      if (!retryAfterEnomem(this.#kind, errno, waited)) return errno;
    }
  }

  /** Deletes the key. Returns false if the key is absent. */
  delete(): boolean {
    // The attr ends after the key: the kernel rejects this command if a later field is not zero.
    if (bpf(BPF_MAP_DELETE_ELEM, this.#address, MAP_ELEM.value) === 0) return true;
    return this.#refused(BPF_MAP_DELETE_ELEM, "delete a value of", deleteHints);
  }

  /**
   * Looks up the value and deletes the key in one step. Returns false if the key is absent, `undefined` if the map or the kernel
   * lacks the operation (hash maps have it since kernel 5.14).
   */
  lookupAndDelete(flags: number): boolean | undefined {
    this.view.setUint32(MAP_ELEM.flags, flags, true);
    if (bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, this.#address, MAP_ELEM.sizeof) === 0) return true;
    if (isUnsupported(errnoName(lastErrno()))) return undefined;
    return this.#refused(BPF_MAP_LOOKUP_AND_DELETE_ELEM, "take a value from", deleteHints);
  }

  /**
   * Replaces the key at `nextKeyOffset` by the next key of the map. Returns false after the last key.
   *
   * The result is the map's first key if `first` is true, or if the key at `nextKeyOffset` is not in the map any more.
   */
  nextKey(first: boolean): boolean {
    const { view } = this;
    const attr = MAP_ELEM.sizeof;
    setUint64(view, attr + MAP_ELEM.key, first ? 0 : this.#address + this.nextKeyOffset);
    if (bpf(BPF_MAP_GET_NEXT_KEY, this.#address + attr, MAP_ELEM.flags) === 0) return true;
    return this.#refused(BPF_MAP_GET_NEXT_KEY, "iterate over the keys of", readHints);
  }

  /** Sets the key for look-ups, updates and deletions. */
  setKey(key: Uint8Array): void {
    this.#bytes.set(key, elementKeyOffset);
  }

  /** Sets the key of an array map. */
  setIndex(index: number): void {
    this.view.setUint32(elementKeyOffset, index, true);
  }

  /** Sets the value. */
  setValue(value: Uint8Array): void {
    this.#bytes.set(value, this.valueOffset);
  }

  /** Makes the result of {@link nextKey} the key for look-ups, updates and deletions. */
  useNextKey(): void {
    const { nextKeyOffset } = this;
    this.#bytes.copyWithin(elementKeyOffset, nextKeyOffset, nextKeyOffset + this.#keySize);
  }

  /** Makes {@link nextKey} continue after the key for look-ups, updates and deletions. */
  seek(): void {
    const end = elementKeyOffset + this.#keySize;
    this.#bytes.copyWithin(this.nextKeyOffset, elementKeyOffset, end);
  }

  /** Copies the key to `target`. */
  copyKeyTo(target: Uint8Array, offset: number): void {
    const key = this.#bytes.subarray(elementKeyOffset, elementKeyOffset + this.#keySize);
    target.set(key, offset);
  }

  /** Copies key and value to `target`. */
  copyTo(target: Uint8Array, keyOffset: number, valueOffset: number): void {
    this.copyKeyTo(target, keyOffset);
    const end = this.valueOffset + this.#valueSize;
    target.set(this.#bytes.subarray(this.valueOffset, end), valueOffset);
  }

  /** Handles a failed call: returns false if the key is absent, and throws any other error. */
  #refused(command: BpfCommand, doing: string, hints: Hints, flags = 0): false {
    const errno = lastErrno();
    // An absent key is a frequent result, so the errno is compared by number, which is faster than by name.
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
