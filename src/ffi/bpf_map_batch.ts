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
import type { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./error.ts";
import { MappedMemory, roundUp8, setUint64 } from "./mapped_memory.ts";
import {
  BPF_MAP_DELETE_BATCH,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  BPF_MAP_LOOKUP_BATCH,
  BPF_MAP_UPDATE_BATCH,
} from "../uapi/commands.ts";
import { MAP_BATCH } from "../uapi/layout.ts";

/** The end of a batch call. `"unsupported"`: this map or kernel has no such call. */
export type BatchResult = "more" | "end" | "unsupported";

const attrSize = 64;

/**
 * Room for many keys and values, and the calls of bpf(2) that move them at once (kernel 5.6).
 *
 * Keys lie densely from `keyOffset(0)` of `view` on, values from `valueOffset(0)` on, as the kernel packs them. When the
 * room grows, `view` and `bytes` are new ones, and the values lie elsewhere in them. The memory is a mapping of its own,
 * so that an abandoned walk gives it back with its views.
 */
export class MapBatch implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #keySize: number;
  readonly #valueSize: number;
  readonly #what: string;
  readonly #kind: KindHints;
  readonly #cursorSize: number;
  readonly #keysOffset: number;
  #valuesOffset!: number;
  #memory!: MappedMemory;
  /** The index of the cursor that the kernel wrote last, of two. */
  #cursor = 0;
  #started = false;
  #lastCommand!: BpfCommand;
  /** The errno of the last call that failed. */
  #errno = 0;
  view!: DataView;
  bytes!: Uint8Array;
  /** The number of entries that there is room for. */
  capacity!: number;
  /**
   * The number of entries that the next call of {@link lookup} asks for, where that is fewer than there is room for: room that is not
   * used yet costs nothing, as the kernel gives a mapping its memory page by page.
   */
  limit!: number;
  /** True where a map without the call is an error, and not `"unsupported"`. */
  isRequired = false;
  /** Entries that the last call moved. */
  count = 0;

  /** @param capacity entries; @param valueSize bytes that the kernel copies for each value */
  constructor(
    descriptor: Descriptor,
    keySize: number,
    valueSize: number,
    capacity: number,
    what: string,
    kind: KindHints = {},
  ) {
    this.#descriptor = descriptor;
    this.#keySize = keySize;
    this.#valueSize = valueSize;
    this.#what = what;
    this.#kind = kind;
    // Opaque: a bucket's number for hash maps, a key for others.
    this.#cursorSize = roundUp8(Math.max(keySize, 4));
    this.#keysOffset = attrSize + 2 * this.#cursorSize;
    this.#allocate(capacity);
  }

  /** The offset of key `index` in `view`. */
  keyOffset(index: number): number {
    return this.#keysOffset + index * this.#keySize;
  }

  /** The offset of value `index` in `view`. */
  valueOffset(index: number): number {
    return this.#valuesOffset + index * this.#valueSize;
  }

  /** The bytes of key `index`. */
  keyBytes(index: number): Uint8Array {
    return this.bytes.subarray(this.keyOffset(index), this.keyOffset(index + 1));
  }

  /** The bytes of value `index`. */
  valueBytes(index: number): Uint8Array {
    return this.bytes.subarray(this.valueOffset(index), this.valueOffset(index + 1));
  }

  /**
   * Fetches the next entries of the map, from its beginning at the first call.
   * Grows where a bucket of the map holds more entries than there is room for.
   */
  lookup(elementFlags: number): BatchResult {
    return this.#advance(BPF_MAP_LOOKUP_BATCH, elementFlags, readHints);
  }

  /** Fetches the next entries of the map and deletes them: as {@link lookup}. */
  lookupAndDelete(elementFlags: number): BatchResult {
    return this.#advance(BPF_MAP_LOOKUP_AND_DELETE_BATCH, elementFlags, deleteHints);
  }

  #advance(command: BpfCommand, elementFlags: number, hints: Hints): BatchResult {
    let retries = 1000;
    for (;;) {
      const { view } = this;
      const inBatch = attrSize + this.#cursor * this.#cursorSize;
      const outBatch = attrSize + (1 - this.#cursor) * this.#cursorSize;
      const { address } = this.#memory;
      setUint64(view, MAP_BATCH.in_batch, this.#started ? address + inBatch : 0);
      setUint64(view, MAP_BATCH.out_batch, address + outBatch);
      const code = this.#call(command, 0, this.limit, elementFlags);
      if (code === "ENOSPC") {
        if (this.limit === this.capacity) this.#grow();
        else this.limit = Math.min(this.capacity, this.limit * 2);
        continue;
      }
      if (code === "EINTR" && (this.count > 0 || retries-- > 0)) {
        // An entry was deleted between the two steps of its copying, again and again (before 6.15): go on from there.
        if (this.count === 0) continue;
      } else if (code !== undefined && code !== "ENOENT") {
        if (!this.#started && this.#isUnsupported(code)) return "unsupported";
        throw this.#error("walk over", {
          ENOTSUPP: "The map has no batches, as those in a network device",
          ...hints,
          ...flagHints(elementFlags),
        });
      }
      this.#started = true;
      this.#cursor = 1 - this.#cursor;
      return code === "ENOENT" ? "end" : "more";
    }
  }

  /** Stores entries `start` to `start + count`; `this.count` says how many were before the first refusal. */
  update(start: number, count: number, elementFlags: number): BatchResult {
    let stored = 0;
    for (let waited = 0; ; waited++) {
      const code = this.#call(BPF_MAP_UPDATE_BATCH, start + stored, count - stored, elementFlags);
      if (this.count > 0) waited = 0;
      stored += this.count;
      this.count = stored;
      if (code === undefined) return "end";
      if (stored === 0 && this.#isUnsupported(code)) return "unsupported";
      if (retryAfterEnomem(this.#kind, this.#errno, waited)) continue;
      throw this.#error("store values in", storeHints(this.#kind));
    }
  }

  /** Deletes the keys from `start` on; stops at the first absent one with `"more"`, `this.count` being those before it. */
  delete(start: number, count: number): BatchResult {
    const code = this.#call(BPF_MAP_DELETE_BATCH, start, count, 0);
    if (code === undefined) return "end";
    if (code === "ENOENT") return "more";
    if (this.count === 0 && this.#isUnsupported(code)) return "unsupported";
    throw this.#error("delete keys of", { ...deleteHints, ...this.#kind.keyHints });
  }

  /** Makes room for twice as many entries. Keys and values are lost, the place in the walk stays. */
  #grow(): void {
    const smaller = this.#memory;
    const { bytes } = this;
    this.#allocate(this.capacity * 2);
    this.bytes.set(bytes.subarray(0, this.#keysOffset));
    smaller[Symbol.dispose]();
  }

  #allocate(capacity: number): void {
    const valuesOffset = this.#keysOffset + roundUp8(capacity * this.#keySize);
    const length = valuesOffset + capacity * this.#valueSize;
    this.#memory = MappedMemory.anonymous(length, `batch of ${this.#what}`);
    this.#valuesOffset = valuesOffset;
    this.capacity = capacity;
    this.limit = capacity;
    this.view = new DataView(this.#memory.buffer);
    this.bytes = new Uint8Array(this.#memory.buffer);
  }

  /** The name of the error, or `undefined`; sets `count`. */
  #call(
    command: BpfCommand,
    start: number,
    count: number,
    elementFlags: number,
  ): string | undefined {
    const { view } = this;
    const { address } = this.#memory;
    setUint64(view, MAP_BATCH.keys, address + this.keyOffset(start));
    setUint64(view, MAP_BATCH.values, address + this.valueOffset(start));
    view.setUint32(MAP_BATCH.count, count, true);
    // Asked for at each call: once the map is disposed of, its number may be another file's.
    view.setUint32(MAP_BATCH.map_fd, this.#descriptor.fd, true);
    setUint64(view, MAP_BATCH.elem_flags, elementFlags);
    this.#lastCommand = command;
    const isDone = bpf(command, address, MAP_BATCH.sizeof) === 0;
    if (!isDone) this.#errno = lastErrno();
    const code = isDone ? undefined : errnoName(this.#errno);
    const moved = view.getUint32(MAP_BATCH.count, true);
    // An early refusal leaves the count as it was asked for; a later one lowers it, except at the end of a walk.
    const isUntouched = !isDone && code !== "ENOENT" && moved === count;
    // After EFAULT the count means nothing.
    this.count = isUntouched || code === "EFAULT" ? 0 : moved;
    return code;
  }

  #isUnsupported(code: string): boolean {
    return !this.isRequired && isUnsupported(code);
  }

  /** The error of the last call. */
  #error(doing: string, hints: Hints) {
    return bpfError(this.#lastCommand, this.#errno, { doing: `${doing} ${this.#what}`, hints });
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}
