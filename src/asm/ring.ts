/** @module Records for a ring buffer, and the count of those that found no room: several instructions each. */

import { add, arsh, lsh, mov } from "./alu.ts";
import { call } from "./call.ts";
import { ldMap } from "./immediate.ts";
import {
  fp,
  type Instruction,
  type MapReference,
  r0,
  r1,
  r2,
  r3,
  r4,
  type Register,
  slotsOf,
} from "./instruction.ts";
import { ja } from "./jump.ts";
import { atomicAdd, ldxw, stw, stxw } from "./memory.ts";
import { build, immediate, INT32_MAX, isRegister, nameOf } from "./operand.ts";
import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { BPF_JEQ, BPF_JMP, BPF_JNE, BPF_K } from "../uapi/instruction.ts";

/** Where {@link countLost} and its kin may write. */
export interface CountOptions {
  /**
   * A place on the stack that the program has no need of at that moment, by its distance from the frame pointer: `-8`.
   * Four bytes from there on are overwritten (eight by {@link outputOrCount}), when an event is lost and only then.
   */
  readonly stack: number;
}

/** Options of {@link outputOrCount}. */
export interface OutputOptions extends CountOptions {
  /** Flags of the helper: `BPF_RB_NO_WAKEUP` (1), `BPF_RB_FORCE_WAKEUP` (2). @default 0 */
  readonly flags?: number;
}

const stackSize = 512;
const keySize = 4;
const resultSize = 4;
/** `RINGBUF_MAX_RECORD_SZ`: the other bits of a record's length are flags. */
const maxRecordSize = 0x3fff_ffff;

/**
 * `r0 = ringbuf_reserve(ring, size, 0)`; if that is NULL, counts an event that was lost and jumps to `full`.
 *
 * Goes on with the record in `r0`, to be filled in and given to `ringbuf_submit` or `ringbuf_discard`. It comes to `full`, a
 * label of the same function, with 0 in `r0`. Destroys `r1` to `r5`, and four bytes of the stack on the way to `full`. With
 * a record this is the bare helper and one jump.
 *
 * The count is the ring's: `ring.stats.lost`, or by CPU `ring.lost`. A ring `"events"` of the program's `maps` is counted
 * for in its map `"events.lost"`, which is `lost` of the ring unless `maps` has a map of that name itself.
 *
 * Linux 5.8.
 *
 * @param ring - one of the program's `maps` by name, or an open ring buffer
 * @param size - the bytes of the record
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer, or `full` not a name
 * @throws {RangeError} if `size` or `stack` is out of range
 * @example
 * ```ts
 * import { asm, Program, RingBuf, t } from "bun-bpf";
 * const { r0, r1, r2 } = asm;
 *
 * using events = new RingBuf({ size: 4096, event: t.u64Number });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { events },
 *   code: [
 *     asm.reserveOrCount("events", 8, "out", { stack: -8 }),
 *     asm.stdw(r0, 0, 42),
 *     asm.mov(r1, r0),
 *     asm.mov(r2, 0),
 *     asm.call("ringbuf_submit"),
 *     asm.label("out"),
 *     asm.mov(r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * program.testRun({ data: new Uint8Array(14), repeat: 1000 });
 * const received = events.drain(() => {});
 * console.log(received, events.stats.lost); // 255 745
 * ```
 */
export function reserveOrCount(
  ring: MapReference,
  size: number,
  full: string,
  options: CountOptions,
): readonly Instruction[] {
  const mnemonic = "reserveOrCount";
  const bytes = immediate(mnemonic, "size", size, { min: 0, max: maxRecordSize });
  const target = nameOf(mnemonic, "full", full);
  checkOptions(`${mnemonic}: options`, options, ["stack"]);
  const count = [...counting(mnemonic, ring, options.stack, keySize), mov(r0, 0), ja(target)];
  return [
    ldMap(r1, ring),
    mov(r2, bytes),
    mov(r3, 0),
    call("ringbuf_reserve"),
    skipIf(BPF_JNE, count),
    ...count,
  ];
}

/**
 * `r0 = ringbuf_output(ring, r2, size, flags)`; if that failed, counts an event that was lost.
 *
 * The record's bytes are those that `r2` points at. Goes on with 0 in `r0`, or the error as the helper gives it: a negative
 * number, `-EAGAIN` for a ring without room. Destroys `r1` to `r5`, and eight bytes of the stack when the event is lost;
 * these may be the record's own. With room this is the bare helper and one jump. Counts as {@link reserveOrCount} does.
 *
 * Linux 5.8.
 *
 * @param ring - one of the program's `maps` by name, or an open ring buffer
 * @param size - the bytes of the record: a number, or a register but `r2`
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer, or `size` neither a number nor a register
 * @throws {RangeError} if `size`, `stack` or `flags` is out of range
 * @example
 * ```ts
 * import { asm, Program, RingBuf, t } from "bun-bpf";
 * const { r0, r2, fp } = asm;
 *
 * using events = new RingBuf({ size: 4096, event: t.u64Number });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { events },
 *   code: [
 *     asm.stdw(fp, -8, 42),
 *     asm.mov(r2, fp),
 *     asm.add(r2, -8),
 *     asm.outputOrCount("events", 8, { stack: -8 }),
 *     asm.mov(r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * program.testRun({ data: new Uint8Array(14), repeat: 1000 });
 * const received = events.drain(() => {});
 * console.log(received, events.stats.lost); // 255 745
 * ```
 */
export function outputOrCount(
  ring: MapReference,
  size: number | Register,
  options: OutputOptions,
): readonly Instruction[] {
  const mnemonic = "outputOrCount";
  const bytes = isRegister(size)
    ? size
    : immediate(mnemonic, "size", size, { min: 0, max: maxRecordSize }, "a register or a number");
  checkOptions(`${mnemonic}: options`, options, ["stack", "flags"]);
  const { stack, flags = 0 } = options;
  const flagBits = immediate(mnemonic, "flags", flags, { min: 0, max: INT32_MAX });
  const result = stack + keySize;
  const count = [
    ...counting(mnemonic, ring, stack, keySize + resultSize),
    // The load that extends the sign by itself is of Linux 6.6.
    ldxw(r0, fp, result),
    lsh(r0, 32),
    arsh(r0, 32),
  ];
  const failed = [stxw(fp, result, r0), ...count];
  return [
    // First, as it may be in a register that the others are for.
    mov(r3, bytes),
    ldMap(r1, ring),
    mov(r4, flagBits),
    call("ringbuf_output"),
    skipIf(BPF_JEQ, failed),
    ...failed,
  ];
}

/**
 * Counts an event that was lost for another reason than a full ring buffer, as {@link reserveOrCount} does for that one.
 *
 * Goes on with 0 in `r0`. Destroys `r1` to `r5`, and four bytes of the stack. Linux 5.8.
 *
 * @param ring - one of the program's `maps` by name, or an open ring buffer
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer
 * @throws {RangeError} if `stack` is out of range
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, call, jeq, countLost, label } = asm;
 *
 * // Without its start, the event cannot be told of later.
 * const noteStart = [
 *   call("map_update_elem"),
 *   jeq(r0, 0, "noted"),
 *   countLost("events", { stack: -8 }),
 *   label("noted"),
 * ];
 * ```
 */
export function countLost(ring: MapReference, options: CountOptions): readonly Instruction[] {
  checkOptions("countLost: options", options, ["stack"]);
  return [...counting("countLost", ring, options.stack, keySize), mov(r0, 0)];
}

/** @param room bytes that the place on the stack must have */
function counting(
  mnemonic: string,
  ring: MapReference,
  stack: number,
  room: number,
): readonly Instruction[] {
  const counter = counterOf(mnemonic, ring);
  checkStack(mnemonic, stack, room);
  // An atomic one: programs nest, when an interrupt's runs on the CPU of another.
  const increment = [mov(r1, 1), atomicAdd(r0, 0, r1)];
  return [
    stw(fp, stack, 0),
    ldMap(r1, counter),
    mov(r2, fp),
    add(r2, stack),
    call("map_lookup_elem"),
    // The counter is always there, but the verifier wants to be told.
    skipIf(BPF_JEQ, increment),
    ...increment,
  ];
}

/** A name stays one until the program is assembled; a map that is open is asked for its counter here. */
function counterOf(mnemonic: string, ring: MapReference): MapReference {
  if (typeof ring === "string") return `${nameOf(mnemonic, "ring", ring)}.lost`;
  const counter = typeof ring === "object" && ring !== null ? ring.lost : undefined;
  if (counter !== undefined) return counter;
  throw new TypeError(
    `${mnemonic}: ring: expected the name of a ring buffer or an open RingBuf, which counts its lost events, got ${describe(ring)}`,
  );
}

function checkStack(mnemonic: string, stack: number, room: number): void {
  const isPlace = Number.isInteger(stack) && stack >= -stackSize && stack <= -room;
  if (isPlace && stack % keySize === 0) return;
  throw new RangeError(
    `${mnemonic}: stack: expected a multiple of ${keySize} from ${-stackSize} to ${-room}, where ${room} bytes of the stack are free, got ${describe(stack)}`,
  );
}

/**
 * Jumps over instructions if `r0` compares with 0. By distance and not to a label, so that a function may have the same code
 * twice.
 */
function skipIf(operation: number, skipped: readonly Instruction[]): Instruction {
  const offset = skipped.reduce((slots, instruction) => slots + slotsOf(instruction), 0);
  return build(BPF_JMP | operation | BPF_K, { offset });
}
