import { STACK_TRACE } from "./map_types.ts";
import { readFileSync } from "../ffi/files.ts";
import { checkBoolean, checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { MapInfo } from "./create.ts";
import { KeyedMap } from "./keyed_map.ts";
import { MapKind } from "./map_options.ts";
import { type CommonMapOptions, commonSpec, describeMap } from "./map_spec.ts";
import type { ValueLayout } from "./value_layout.ts";
import { KernelSymbols, type SymbolizedFrame } from "../symbols/kernel_symbols.ts";
import { i32, u32, u64 } from "../types/integer.ts";
import { struct } from "../types/struct.ts";
import { bytes } from "../types/text.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_STACK_BUILD_ID, BPF_STACK_BUILD_ID_VALID } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    StackTraceMap: StackTraceMap<BuildIdIn<T>>;
  }
}

/** The `buildId` of `T`: true for frames that are places in files. */
type BuildIdIn<T> = T extends { readonly buildId: infer B extends boolean } ? B : boolean;

/**
 * A frame of a stack in a map with build ids: a place in a file, which stays the same wherever the file is mapped; or the
 * bare address (`ip`), for the kernel's frames, code that is in no file, and files whose build id was not at hand.
 *
 * The build id is 40 hexadecimal digits, with zeros after a shorter one; the offset is in bytes from the file's start.
 */
export type BuildIdFrame =
  { readonly buildId: string; readonly offset: bigint } | { readonly ip: bigint };

/** A frame of a stack: an address, or what {@link BuildIdFrame} says in a map with build ids. */
export type StackFrame<BuildId extends boolean> = BuildId extends true ? BuildIdFrame : bigint;

/** The memory layout of a frame. */
type FrameLayout<F> = Pick<Type<F>, "size" | "read">;

/** The kernel's `struct bpf_stack_build_id`. */
const buildIdStruct = struct({ status: i32, buildId: bytes(20), place: u64 });

const buildIdFrame: FrameLayout<BuildIdFrame> = {
  size: buildIdStruct.size,
  read(view, offset) {
    const { status, buildId, place } = buildIdStruct.read(view, offset);
    if (status !== BPF_STACK_BUILD_ID_VALID) return { ip: place };
    return { buildId: Buffer.from(buildId).toString("hex"), offset: place };
  },
};

/** A stack as an array of its frames; after them the kernel fills up with zeros. */
export class StackLayout<F> implements ValueLayout<F[], never> {
  readonly size: number;
  readonly #frame: FrameLayout<F>;

  constructor(size: number, frame: FrameLayout<F>) {
    this.size = size;
    this.#frame = frame;
  }

  read(view: DataView, offset: number): F[] {
    const frame = this.#frame;
    let end = offset + this.size;
    // From the end: user space may have a frame with the address 0 between others.
    while (end > offset && view.getUint32(end - 4) === 0) end -= 4;
    const frames: F[] = [];
    for (let at = offset; at < end; at += frame.size) frames.push(frame.read(view, at));
    return frames;
  }

  /** The kernel alone makes stacks. */
  write(): void {}
}

/** Returns true where the frames of a map are places in files. */
function hasBuildIds({ flags }: Pick<MapInfo, "flags">): boolean {
  return (flags & BPF_F_STACK_BUILD_ID) !== 0;
}

/** The layout of the frames of a map; the caller knows which type they decode to. */
export function frameOf<F>(map: Pick<MapInfo, "flags">): FrameLayout<F> {
  return (hasBuildIds(map) ? buildIdFrame : u64) as FrameLayout<unknown> as FrameLayout<F>;
}

/** Bytes of a frame. */
function frameSize(hasBuildId: boolean): number {
  return (hasBuildId ? buildIdFrame : u64).size;
}

/** The form of the frames of a map. */
export interface StackTraceMapTypes<BuildId extends boolean> {
  /**
   * True for frames of user space that are places in files rather than addresses (kernel 4.17).
   *
   * @default false for a new map; what the kernel says for one that is opened
   */
  readonly buildId?: BuildId;
}

/** Options of {@link StackTraceMap}. */
export interface StackTraceMapOptions<BuildId extends boolean>
  extends CommonMapOptions, StackTraceMapTypes<BuildId> {
  /** The largest number of different stacks: 1 to 2^31. All are allocated at once. */
  readonly maxEntries: number;
  /**
   * The largest number of frames of a stack that are kept, the innermost ones: from 1 to the sysctl
   * kernel.perf_event_max_stack, which is 127 unless somebody changed it. 8 bytes each, or 32 with build ids.
   *
   * @default 127
   */
  readonly depth?: number;
}

/** PERF_MAX_STACK_DEPTH of the kernel. */
const defaultDepth = 127;

/** The depth that the kernel has room for in its own buffers; the sysctl came with 4.8. */
function readMaxDepth(): number {
  try {
    return Number(readFileSync("/proc/sys/kernel/perf_event_max_stack", "utf8"));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return defaultDepth;
  }
}

/** The kernel would answer a bare EINVAL. */
function checkDepth(depth: number): void {
  const largest = readMaxDepth();
  if (Number.isInteger(depth) && depth >= 1 && depth <= largest) return;
  throw new RangeError(
    `depth: expected an integer from 1 to ${largest} (the sysctl kernel.perf_event_max_stack), got ${describe(depth)}`,
  );
}

/**
 * Stacks of the kernel or of user space, by the ids that programs get from the helper `get_stackid()`.
 *
 * Kernel 4.6; walks, and so `clear` and all that lists, 4.16. Only programs store stacks; a stack that is there already
 * keeps its id. Where the helper fails, it returns a negative error instead of an id: -17 (EEXIST) when another stack is at
 * its place, unless the flag BPF_F_REUSE_STACKID drops that one; -12 (ENOMEM) when there are `maxEntries`, with that flag
 * too; -14 (EFAULT) when there is no stack. So create it with room to spare, and delete stacks once they are read.
 *
 * `open` and its kin need no types: the kernel says how deep the map is and what its frames are. With `{ buildId: true }` or
 * `{ buildId: false }` the compiler knows them, too, and a map of the other sort is refused.
 *
 * Ids are hashes and go beyond `maxEntries`, up to the next power of two. The kernel takes a stack out of its place while
 * it copies it: of two who read the same one at the same moment, one may find it absent.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all stacks
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, formatKernelSymbol, KernelSymbols, Program, StackTraceMap } from "bun-bpf";
 * using stacks = new StackTraceMap({ maxEntries: 1024 });
 * using program = new Program({
 *   section: "raw_tp/sched_process_exec",
 *   license: "GPL",
 *   maps: { stacks },
 *   code: [
 *     asm.ldMap(asm.r2, "stacks"), // r1 is the context already
 *     asm.mov(asm.r3, 0), // or BPF_F_USER_STACK, 256
 *     asm.call("get_stackid"),
 *     asm.mov(asm.r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * using link = program.attach();
 * Bun.spawnSync(["true"]);
 * const symbols = KernelSymbols.read();
 * for (const id of stacks.keys()) {
 *   for (const { address, symbol } of stacks.symbolize(id, symbols) ?? []) {
 *     console.log(id, symbol === undefined ? `0x${address.toString(16)}` : formatKernelSymbol(symbol));
 *   }
 * }
 * ```
 */
export class StackTraceMap<BuildId extends boolean = false> extends KeyedMap<
  number,
  StackFrame<BuildId>[],
  never,
  "stack_trace"
> {
  static readonly kind = /*@__PURE__*/ new MapKind<
    "StackTraceMap",
    StackTraceMapTypes<boolean>,
    StackTraceMapOptions<boolean>
  >({
    row: STACK_TRACE,
    className: "StackTraceMap",
    types: ["buildId"],
    defaultTypes: {},
    options: ["maxEntries", "depth"],
    sizes({ buildId }) {
      if (buildId !== undefined) checkBoolean("buildId", buildId);
      // That of values follows from the depth, which only new maps are given.
      return { keySize: u32.size };
    },
    complete(options) {
      const { maxEntries, depth = defaultDepth, buildId = false } = options;
      // One more, and rounding up to a power of two does not fit the kernel's 32 bits.
      checkCount("maxEntries", maxEntries, 1, 2 ** 31);
      checkDepth(depth);
      if (!buildId && hasBuildIds(commonSpec(options))) {
        throw new TypeError('flags: for build ids say "buildId: true", as values are larger then');
      }
      const valueSize = depth * frameSize(buildId);
      return { maxEntries, valueSize, flags: buildId ? BPF_F_STACK_BUILD_ID : 0 };
    },
    checkFit({ buildId }, info) {
      const found = hasBuildIds(info);
      if (buildId === undefined || buildId === found) return;
      throw new TypeError(
        `the ${describeMap(info)} does not fit: its frames are ${found ? "build ids" : "addresses"}, and buildId is ${buildId}`,
      );
    },
  });
  /** The form of the frames. */
  declare readonly types: Required<StackTraceMapTypes<BuildId>>;

  constructor(options: StackTraceMapOptions<BuildId>) {
    const handle = StackTraceMap.kind.handle(options);
    const { info } = handle;
    const frame = frameOf<StackFrame<BuildId>>(info);
    super(handle, { key: u32, value: new StackLayout(info.valueSize, frame) });
    // Of a map that is opened, the kernel says what its frames are.
    this.types = { buildId: hasBuildIds(info) as BuildId };
  }

  /** The largest number of frames of a stack that are kept. */
  get depth(): number {
    return this.valueSize / frameOf(this).size;
  }

  /** The number of ids: the kernel's hash table has a power of two of places. */
  get #idCount(): number {
    return 2 ** Math.ceil(Math.log2(this.maxEntries));
  }

  /** Deletes a stack, which makes room for another; whether it was there. */
  delete(id: number): boolean {
    // The kernel refuses an id that cannot be, where for all others it says that they are absent.
    return id < this.#idCount ? this.elements.delete(id) : this.has(id);
  }

  /**
   * Fetches a stack and deletes it: in one step since kernel 6.18. Before, a program that puts the same stack in between
   * the look-up and the deletion is left with an id of nothing.
   */
  take(id: number): StackFrame<BuildId>[] | undefined {
    return this.elements.take(id);
  }

  /** Deletes all stacks that are there when it begins. */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }

  /**
   * The frames of a kernel stack with their functions, the innermost first, as {@link KernelSymbols.lookupStack} finds them;
   * `undefined` when there is no such stack.
   *
   * @param symbols to look up in, by default read anew at each call: that takes 50 to 200 ms, so pass them for more than one
   *   stack. They have the program itself if they were read while it was loaded.
   * @throws {TypeError} for a stack with places in files, which is one of user space
   * @throws {Error} as {@link KernelSymbols.read}
   *
   * @example
   * ```ts
   * import { KernelSymbols, StackTraceMap } from "bun-bpf";
   * using stacks = new StackTraceMap({ maxEntries: 1024 });
   * const symbols = KernelSymbols.read();
   * for (const id of stacks.keys()) {
   *   console.log(stacks.symbolize(id, symbols)?.map(({ symbol }) => symbol?.name).join(" < "));
   * }
   * ```
   */
  symbolize(id: number, symbols?: KernelSymbols): SymbolizedFrame[] | undefined {
    if (symbols !== undefined && !(symbols instanceof KernelSymbols)) {
      throw new TypeError(`symbols: expected KernelSymbols, got ${describe(symbols)}`);
    }
    const frames: readonly (bigint | BuildIdFrame)[] | undefined = this.get(id);
    if (frames === undefined) return undefined;
    const addresses = frames.map((frame) => this.#addressOf(frame, id));
    return (symbols ?? KernelSymbols.read()).lookupStack(addresses);
  }

  /** The kernel's frames are addresses in either kind of map. */
  #addressOf(frame: bigint | BuildIdFrame, id: number): bigint {
    if (typeof frame === "bigint") return frame;
    if ("ip" in frame) return frame.ip;
    throw new TypeError(
      `stack ${id} of ${this} is one of user space, which the kernel's symbols do not name: it has frames in files`,
    );
  }
}
