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

/**
 * The result of a batch call: `"more"` if entries may be left, `"end"` if none is left, `"unsupported"` if the map or the
 * kernel lacks the call.
 */
export type BatchResult = "more" | "end" | "unsupported";

const attrSize = 64;

/**
 * A buffer for many keys and values, and the batch commands of bpf(2) that use it (kernel 5.6).
 *
 * Keys are packed from `keyOffset(0)` of `view` on, values from `valueOffset(0)` on. When the buffer grows, `view` and `bytes`
 * are replaced and the values are at another offset. The memory is a separate mapping, so that the memory of an abandoned
 * iteration is freed with its views.
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
  /** The index of the cursor that the kernel wrote last: 0 or 1. */
  #cursor = 0;
  #started = false;
  #lastCommand!: BpfCommand;
  /** The errno of the last call that failed. */
  #errno = 0;
  /** The memory of keys and values; replaced when it grows. */
  view!: DataView;
  /** The same memory as bytes. */
  bytes!: Uint8Array;
  /** The number of entries that fit into the buffer. */
  capacity!: number;
  /**
   * The number of entries that the next call of {@link lookup} requests, at most `capacity`. Unused capacity costs nothing,
   * because the kernel allocates the memory of a mapping page by page.
   */
  limit!: number;
  /** True if methods throw where a batch command is missing, instead of returning `"unsupported"`. */
  isRequired = false;
  /** The number of entries that the last call processed. */
  count = 0;

  /**
   * @param valueSize bytes that the kernel copies for each value
   * @param capacity number of entries
   */
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
    // The cursor is opaque: the number of a bucket for hash maps, a key for others.
    this.#cursorSize = roundUp8(Math.max(keySize, 4));
    this.#keysOffset = attrSize + 2 * this.#cursorSize;
    this.#allocate(capacity);
  }

  /** Returns the offset of key `index` in `view`. */
  keyOffset(index: number): number {
    return this.#keysOffset + index * this.#keySize;
  }

  /** Returns the offset of value `index` in `view`. */
  valueOffset(index: number): number {
    return this.#valuesOffset + index * this.#valueSize;
  }

  /** Returns the bytes of key `index`. */
  keyBytes(index: number): Uint8Array {
    return this.bytes.subarray(this.keyOffset(index), this.keyOffset(index + 1));
  }

  /** Returns the bytes of value `index`. */
  valueBytes(index: number): Uint8Array {
    return this.bytes.subarray(this.valueOffset(index), this.valueOffset(index + 1));
  }

  /**
   * Reads the next entries of the map, at most `limit`, and sets `count`. The first call starts at the beginning. The buffer grows
   * if a bucket of the map has more entries than fit.
   */
  lookup(elementFlags: number): BatchResult {
    return this.#advance(BPF_MAP_LOOKUP_BATCH, elementFlags, readHints);
  }

  /** Reads the next entries of the map as {@link lookup} does, and deletes them. */
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
        // Before kernel 6.15, EINTR means that entries were deleted repeatedly while they were being copied. The cursor is still
        // valid.
        if (this.count === 0) continue;
      } else if (code !== undefined && code !== "ENOENT") {
        if (!this.#started && this.#isUnsupported(code)) return "unsupported";
        throw this.#error("iterate over", {
          ENOTSUPP: "The map has no batch operations, like maps offloaded to a network device",
          ...hints,
          ...flagHints(elementFlags),
        });
      }
      this.#started = true;
      this.#cursor = 1 - this.#cursor;
      return code === "ENOENT" ? "end" : "more";
    }
  }

  /**
   * Stores the `count` entries from `start` on, and returns `"end"`. If an entry is rejected, this method throws, and
   * `this.count` is the number of entries stored before that entry.
   */
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
      throw this.#error("store values in", updateHints(this.#kind));
    }
  }

  /**
   * Deletes the `count` keys from `start` on, and returns `"end"`. At an absent key this method stops and returns `"more"`;
   * `this.count` is then the number of keys deleted before that key.
   */
  delete(start: number, count: number): BatchResult {
    const code = this.#call(BPF_MAP_DELETE_BATCH, start, count, 0);
    if (code === undefined) return "end";
    if (code === "ENOENT") return "more";
    if (this.count === 0 && this.#isUnsupported(code)) return "unsupported";
    throw this.#error("delete keys of", { ...deleteHints, ...this.#kind.keyHints });
  }

  /** Doubles the capacity. Keys and values are lost; the position of the iteration is kept. */
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

  /** Makes a call and sets `count`. Returns the errno name, or `undefined` on success. */
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
    // The descriptor is read for each call: after the map is disposed of, its number may belong to another file.
    view.setUint32(MAP_BATCH.map_fd, this.#descriptor.fd, true);
    setUint64(view, MAP_BATCH.elem_flags, elementFlags);
    this.#lastCommand = command;
    const isDone = bpf(command, address, MAP_BATCH.sizeof) === 0;
    if (!isDone) this.#errno = lastErrno();
    const code = isDone ? undefined : errnoName(this.#errno);
    const moved = view.getUint32(MAP_BATCH.count, true);
    // If the kernel fails before the first entry, it does not write the count. After a later error the count is lower than
    // requested, except for ENOENT at the end of an iteration.
    const isUntouched = !isDone && code !== "ENOENT" && moved === count;
    // After EFAULT the count is not reliable.
    this.count = isUntouched || code === "EFAULT" ? 0 : moved;
    return code;
  }

  #isUnsupported(code: string): boolean {
    return !this.isRequired && isUnsupported(code);
  }

  /** Returns the error of the last call. */
  #error(doing: string, hints: Hints) {
    return bpfError(this.#lastCommand, this.#errno, { doing: `${doing} ${this.#what}`, hints });
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}
