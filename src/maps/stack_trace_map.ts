import { readFileSync } from "../ffi/files.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { MapHandle, MapInfo } from "./create.ts";
import { KeyedMap } from "./keyed_map.ts";
import { MapKind } from "./map_options.ts";
import { type CommonMapOptions, commonSpec } from "./map_spec.ts";
import type { ValueLayout } from "./value_layout.ts";
import { KernelSymbols, type SymbolizedFrame } from "../symbols/kernel_symbols.ts";
import { i32, u32, u64 } from "../types/integer.ts";
import { struct } from "../types/struct.ts";
import { bytes } from "../types/text.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_STACK_BUILD_ID } from "../uapi/bpf.ts";

/**
 * A frame of a stack in a map with build ids: a place in a file, which stays the same wherever the file is mapped; or the
 * bare address (`ip`), for the kernel's frames, code that is in no file, and files whose build id was not at hand.
 *
 * The build id is 40 hexadecimal digits, with zeros behind a shorter one; the offset is in bytes from the file's start.
 */
export type BuildIdFrame =
  { readonly buildId: string; readonly offset: bigint } | { readonly ip: bigint };

/** A frame of a stack: an address, or what {@link BuildIdFrame} says in a map with build ids. */
export type StackFrame<BuildId extends boolean> = BuildId extends true ? BuildIdFrame : bigint;

/** How a frame lies in memory. */
type FrameLayout<F> = Pick<Type<F>, "size" | "read">;

/** The kernel's `struct bpf_stack_build_id`, and of its `enum bpf_stack_build_id_status` the one with a build id. */
const buildIdStruct = struct({ status: i32, buildId: bytes(20), place: u64 });
const validStatus = 1;

const buildIdFrame: FrameLayout<BuildIdFrame> = {
  size: buildIdStruct.size,
  read(view, offset) {
    const { status, buildId, place } = buildIdStruct.read(view, offset);
    if (status !== validStatus) return { ip: place };
    return { buildId: Buffer.from(buildId).toString("hex"), offset: place };
  },
};

/** A stack as an array of its frames; behind them the kernel fills up with zeros. */
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

/** Whether frames of a map are places in files. */
export function hasBuildIds({ flags }: Pick<MapInfo, "flags">): boolean {
  return (flags & BPF_F_STACK_BUILD_ID) !== 0;
}

/** How the frames of a map lie in memory; which type they decode to is for the caller to know. */
export function frameOf<F>(map: Pick<MapInfo, "flags">): FrameLayout<F> {
  return (hasBuildIds(map) ? buildIdFrame : u64) as FrameLayout<unknown> as FrameLayout<F>;
}

/** Bytes of a frame. */
export function frameSize(hasBuildId: boolean): number {
  return (hasBuildId ? buildIdFrame : u64).size;
}

/** What the frames of a map are. */
export interface StackTraceMapTypes<BuildId extends boolean> {
  /**
   * Whether frames of user space are places in files rather than addresses (kernel 4.17).
   *
   * @default false for a new map; what the kernel says for one that is opened
   */
  readonly buildId?: BuildId;
}

/** Options of {@link StackTraceMap}. */
export interface StackTraceMapOptions<BuildId extends boolean>
  extends CommonMapOptions, StackTraceMapTypes<BuildId> {
  /** How many different stacks it holds at the most: 1 to 2^31. All are allocated at once. */
  readonly maxEntries: number;
  /**
   * How many frames of a stack are kept at the most, the innermost ones: from 1 to the sysctl
   * kernel.perf_event_max_stack, which is 127 unless somebody changed it. 8 bytes each, or 32 with build ids.
   *
   * @default 127
   */
  readonly depth?: number;
}

/** PERF_MAX_STACK_DEPTH of the kernel. */
const usualDepth = 127;

/** What the kernel has room for in its own buffers; the sysctl came with 4.8. */
function largestDepth(): number {
  try {
    return Number(readFileSync("/proc/sys/kernel/perf_event_max_stack", "utf8"));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return usualDepth;
  }
}

/** The kernel would answer a bare EINVAL. */
function checkDepth(depth: number): void {
  const largest = largestDepth();
  if (Number.isInteger(depth) && depth >= 1 && depth <= largest) return;
  throw new RangeError(
    `depth: expected an integer from 1 to ${largest} (the sysctl kernel.perf_event_max_stack), got ${describe(depth)}`,
  );
}

/** Checks what the frames of a map that is to be opened should be. */
function checkTypes<Types extends StackTraceMapTypes<boolean>>(types: Types): Types {
  checkOptions("StackTraceMap", types, ["buildId"]);
  return types;
}

/** Refuses a map, opened, whose frames are not what was expected. */
function checkFrames(handle: MapHandle, { buildId }: StackTraceMapTypes<boolean>): MapHandle {
  const found = hasBuildIds(handle.info);
  if (buildId === undefined || buildId === found) return handle;
  handle.descriptor[Symbol.dispose]();
  throw new TypeError(
    `the ${handle.descriptor.what} does not fit: its frames are ${found ? "build ids" : "addresses"}, and buildId is ${buildId}`,
  );
}

/**
 * Stacks, each with the id that programs get for it from `get_stackid()`, of the kernel or of user space.
 *
 * Kernel 4.6; walks, and so `clear` and all that lists, 4.16. Programs alone put stacks in; a stack that is there already
 * keeps its id. What a program gets when it fails is negative and no id: -17 (EEXIST) when another stack is at its place,
 * unless the flag BPF_F_REUSE_STACKID drops that one; -12 (ENOMEM) when there are `maxEntries`, with that flag too; -14
 * (EFAULT) when there is no stack. So make it larger than it has to be, and delete what was read.
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
  never
> {
  /** @internal */
  static readonly kind = new MapKind<StackTraceMapTypes<boolean>, StackTraceMapOptions<boolean>>({
    type: "stack_trace",
    className: "StackTraceMap",
    options: ["maxEntries", "depth", "buildId"],
    sizes({ buildId }) {
      if (buildId !== undefined && typeof buildId !== "boolean") {
        throw new TypeError(`buildId: expected true or false, got ${describe(buildId)}`);
      }
      // That of values follows from the depth, which only new maps are given.
      return { keySize: u32.size };
    },
    complete(options) {
      const { maxEntries, depth = usualDepth, buildId = false } = options;
      // One more, and rounding up to a power of two does not fit the kernel's 32 bits.
      checkCount("maxEntries", maxEntries, 1, 2 ** 31);
      checkDepth(depth);
      if (!buildId && hasBuildIds(commonSpec(options))) {
        throw new TypeError('flags: for build ids say "buildId: true", as values are larger then');
      }
      const valueSize = depth * frameSize(buildId);
      return { maxEntries, valueSize, flags: buildId ? BPF_F_STACK_BUILD_ID : 0 };
    },
  });
  /** What the frames are. */
  readonly types: Required<StackTraceMapTypes<BuildId>>;

  constructor(options: StackTraceMapOptions<BuildId>);
  /** @internal */
  constructor(types: StackTraceMapTypes<BuildId>, existing: MapHandle);
  constructor(options: StackTraceMapTypes<BuildId>, existing = StackTraceMap.kind.create(options)) {
    const { info } = existing;
    const frame = frameOf<StackFrame<BuildId>>(info);
    super(existing, { key: u32, value: new StackLayout(info.valueSize, frame) });
    this.types = { buildId: hasBuildIds(info) as BuildId };
  }

  /**
   * Opens the map pinned at a path on a BPF file system (kernel 4.4). The kernel says how deep it is and what its frames are.
   *
   * @param types for the compiler to know what the frames are, and to be refused if they are not
   * @throws as {@link HashMap.open}
   *
   * @example
   * ```ts
   * import { StackTraceMap } from "bun-bpf";
   * try {
   *   using stacks = StackTraceMap.open("/sys/fs/bpf/stacks", { buildId: true });
   *   for (const frames of stacks.values()) {
   *     for (const frame of frames) console.log("ip" in frame ? frame.ip : frame.buildId);
   *   }
   * } catch (error) {
   *   console.error(String(error)); // nothing is pinned at /sys/fs/bpf/stacks: no such file
   * }
   * ```
   */
  static open<BuildId extends boolean = boolean>(
    path: string,
    types: StackTraceMapTypes<BuildId> = {},
  ): StackTraceMap<BuildId> {
    const handle = StackTraceMap.kind.open(path, checkTypes(types));
    return new StackTraceMap(types, checkFrames(handle, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<BuildId extends boolean = boolean>(
    id: number,
    types: StackTraceMapTypes<BuildId> = {},
  ): StackTraceMap<BuildId> {
    const handle = StackTraceMap.kind.byId(id, checkTypes(types));
    return new StackTraceMap(types, checkFrames(handle, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<BuildId extends boolean = boolean>(
    fd: number,
    types: StackTraceMapTypes<BuildId> = {},
  ): StackTraceMap<BuildId> {
    const handle = StackTraceMap.kind.byFd(fd, checkTypes(types));
    return new StackTraceMap(types, checkFrames(handle, types));
  }

  /** How many frames of a stack are kept at the most. */
  get depth(): number {
    return this.valueSize / frameOf(this).size;
  }

  /** How many ids there are: the kernel's hash table has a power of two of places. */
  get #places(): number {
    return 2 ** Math.ceil(Math.log2(this.maxEntries));
  }

  /** Deletes a stack, which makes room for another; whether it was there. */
  delete(id: number): boolean {
    // The kernel refuses an id that cannot be, where for all others it says that they are absent.
    return id < this.#places ? this.remove(id) : this.has(id);
  }

  /**
   * Fetches a stack and deletes it: in one step since kernel 6.18. Before, a program that puts the same stack in between
   * the look-up and the deletion is left with an id of nothing.
   */
  take(id: number): StackFrame<BuildId>[] | undefined {
    return this.takeOut(id);
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

  override dup(): StackTraceMap<BuildId> {
    return new StackTraceMap(this.types, this.duplicateHandle());
  }
}
