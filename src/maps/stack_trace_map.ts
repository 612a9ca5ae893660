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

/** The `buildId` of `T`: true for frames as build ids and offsets. */
type BuildIdIn<T> = T extends { readonly buildId: infer B extends boolean } ? B : boolean;

/**
 * Frame of a stack in a map with build ids: an offset in a file, which is the same wherever the file is mapped. The frame is
 * an address (`ip`) for frames of the kernel, for code that is in no file, and for files whose build id the kernel could not
 * read.
 *
 * The build id has 40 hexadecimal digits; a shorter build id is followed by zeros. The offset is in bytes from the start of
 * the file.
 */
export type BuildIdFrame =
  | {
      /** Build id of the file: 40 hexadecimal digits. */
      readonly buildId: string;
      /** Offset in the file, in bytes. */
      readonly offset: bigint;
    }
  | {
      /** Address. */
      readonly ip: bigint;
    };

/** Frame of a stack: an address, or a {@link BuildIdFrame} in a map with build ids. */
export type StackFrame<BuildId extends boolean> = BuildId extends true ? BuildIdFrame : bigint;

/** Memory layout of a frame. */
type FrameLayout<F> = Pick<Type<F>, "size" | "read">;

/** `struct bpf_stack_build_id` of the kernel. */
const buildIdStruct = struct({ status: i32, buildId: bytes(20), place: u64 });

const buildIdFrame: FrameLayout<BuildIdFrame> = {
  size: buildIdStruct.size,
  read(view, offset) {
    const { status, buildId, place } = buildIdStruct.read(view, offset);
    if (status !== BPF_STACK_BUILD_ID_VALID) return { ip: place };
    return { buildId: Buffer.from(buildId).toString("hex"), offset: place };
  },
};

/** Layout of a stack: an array of frames, which the kernel fills up with zeros. */
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
    // Searches from the end, because a user stack can have a frame with the address 0 between other frames.
    while (end > offset && view.getUint32(end - 4) === 0) end -= 4;
    const frames: F[] = [];
    for (let at = offset; at < end; at += frame.size) frames.push(frame.read(view, at));
    return frames;
  }

  /** Does nothing: only the kernel stores stacks. */
  write(): void {}
}

/** Returns true if the frames of a map have build ids. */
function hasBuildIds({ flags }: Pick<MapInfo, "flags">): boolean {
  return (flags & BPF_F_STACK_BUILD_ID) !== 0;
}

/** Returns the layout of the frames of a map. The caller chooses the type `F` that they decode to. */
export function frameLayout<F>(map: Pick<MapInfo, "flags">): FrameLayout<F> {
  return (hasBuildIds(map) ? buildIdFrame : u64) as FrameLayout<unknown> as FrameLayout<F>;
}

/** Returns the size of a frame in bytes. */
function frameSize(hasBuildId: boolean): number {
  return (hasBuildId ? buildIdFrame : u64).size;
}

/** Form of the frames of a {@link StackTraceMap}. */
export interface StackTraceMapTypes<BuildId extends boolean> {
  /**
   * Stores user-space frames as build ids and file offsets instead of addresses. Requires Linux 4.17.
   *
   * @default false for a new map; the form that the kernel reports for an opened map
   */
  readonly buildId?: BuildId;
}

/** Options of {@link StackTraceMap}. */
export interface StackTraceMapOptions<BuildId extends boolean>
  extends CommonMapOptions, StackTraceMapTypes<BuildId> {
  /** Largest number of different stacks: 1 to 2^31. The kernel allocates room for all stacks at creation. */
  readonly maxEntries: number;
  /**
   * Largest number of frames that are kept of a stack, from the innermost: 1 to the sysctl kernel.perf_event_max_stack,
   * which is 127 by default. A frame takes 8 bytes, or 32 with build ids.
   *
   * @default 127
   */
  readonly depth?: number;
}

/** PERF_MAX_STACK_DEPTH of the kernel. */
const defaultDepth = 127;

/** Returns the largest depth that the kernel's buffers have room for. Kernels before 4.8 lack the sysctl. */
function readMaxDepth(): number {
  try {
    return Number(readFileSync("/proc/sys/kernel/perf_event_max_stack", "utf8"));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return defaultDepth;
  }
}

/**
 * Checks the depth, for which the kernel would return EINVAL without a reason.
 *
 * @throws {RangeError} if it is larger than the kernel allows.
 */
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
 * Only programs store stacks. Values are arrays of frames, the innermost first. A stack that is in the map already keeps
 * its id. If the helper fails, it returns a negative error instead of an id:
 *
 * - -17 (EEXIST) if another stack is in the slot, unless the flag BPF_F_REUSE_STACKID replaces it;
 * - -12 (ENOMEM) if the map has `maxEntries` stacks, with that flag too;
 * - -14 (EFAULT) if there is no stack.
 *
 * So create the map larger than needed, and delete stacks after reading them.
 *
 * `open`, `fromId` and `fromFd` need no types: the kernel reports the depth and the form of the frames. With
 * `{ buildId: true }` or `{ buildId: false }` the TypeScript type has the form too, and a map with the other form is
 * rejected.
 *
 * Ids are hashes and can be larger than `maxEntries`, up to the next power of two. The kernel removes a stack from its slot
 * while it copies the stack to a reader. A second reader of the same stack can find it absent at that moment.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM or E2BIG if the kernel has no memory for all stacks.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
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
 *
 * Requires Linux 4.13; 4.16 for iteration and `clear`.
 */
export class StackTraceMap<BuildId extends boolean = false> extends KeyedMap<
  number,
  StackFrame<BuildId>[],
  never,
  "stack_trace"
> {
  /** Definition of this class: its map type and options. */
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
      // The size of values follows from the depth, which is an option of new maps only.
      return { keySize: u32.size };
    },
    complete(options) {
      const { maxEntries, depth = defaultDepth, buildId = false } = options;
      // The kernel rounds up to a power of two, which must fit 32 bits.
      checkCount("maxEntries", maxEntries, 1, 2 ** 31);
      checkDepth(depth);
      if (!buildId && hasBuildIds(commonSpec(options))) {
        throw new TypeError(
          'flags: use the option "buildId: true" for build ids, because values are larger then',
        );
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
  /** Form of the frames. */
  declare readonly types: Required<StackTraceMapTypes<BuildId>>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: StackTraceMapOptions<BuildId>) {
    const handle = StackTraceMap.kind.handle(options);
    const { info } = handle;
    const frame = frameLayout<StackFrame<BuildId>>(info);
    super(handle, { key: u32, value: new StackLayout(info.valueSize, frame) });
    // For an opened map, the kernel reports the form of the frames.
    this.types = { buildId: hasBuildIds(info) as BuildId };
  }

  /** Largest number of frames that are kept of a stack. */
  get depth(): number {
    return this.valueSize / frameLayout(this).size;
  }

  /** Number of ids: the size of the kernel's hash table, a power of two. */
  get #idCount(): number {
    return 2 ** Math.ceil(Math.log2(this.maxEntries));
  }

  /** Deletes a stack, which frees its slot. Returns true if it was in the map. */
  delete(id: number): boolean {
    // The kernel rejects the deletion of an id past its hash table with E2BIG, but a look-up with ENOENT, as for an absent id.
    return id < this.#idCount ? this.elements.delete(id) : this.has(id);
  }

  /**
   * Returns a stack and deletes it, or returns `undefined` if it is not in the map. The call is one atomic step from Linux
   * 6.18 on. On earlier kernels, a program can get the id of the same stack between the look-up and the deletion: its id
   * then has no stack.
   */
  take(id: number): StackFrame<BuildId>[] | undefined {
    return this.elements.take(id);
  }

  /** Deletes the stacks that are in the map when the call begins. Stacks that programs add meanwhile may remain. */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }

  /**
   * Returns the frames of a kernel stack with their functions, the innermost first, as {@link KernelSymbols.lookupStack}
   * finds them. Returns `undefined` if the stack is not in the map.
   *
   * @param symbols symbols to look up in; by default each call reads them, which takes 50 to 200 ms. Pass symbols if you
   *   look up more than one stack. They include the functions of a BPF program only if they were read while it was loaded.
   * @throws {TypeError} for a user stack with build ids.
   * @throws {Error} if the symbols cannot be read: see {@link KernelSymbols.read}.
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

  /** Returns the address of a frame. Frames of the kernel are addresses in maps with build ids too. */
  #addressOf(frame: bigint | BuildIdFrame, id: number): bigint {
    if (typeof frame === "bigint") return frame;
    if ("ip" in frame) return frame.ip;
    throw new TypeError(
      `stack ${id} of ${this} is a user stack: symbolize() supports only stacks of the kernel`,
    );
  }
}
