import { bytes } from "../types/bytes.ts";
import { i32, u64 } from "../types/integer.ts";
import { struct } from "../types/struct.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_STACK_BUILD_ID } from "../uapi/bpf.ts";
import type { MapInfo } from "./handle.ts";
import type { ValueLayout } from "./value_layout.ts";

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
