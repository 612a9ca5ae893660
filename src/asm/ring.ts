/** @module Sequences of instructions that write to a ring buffer and count lost events. */

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
import { makeInstruction, checkImmediate, INT32_MAX, isRegister, checkName } from "./operand.ts";
import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { BPF_JEQ, BPF_JMP, BPF_JNE, BPF_K } from "../uapi/instruction.ts";

/** Options of {@link countLost} and {@link reserveOrCount}. */
export interface CountOptions {
  /**
   * Offset of unused bytes of the stack from the frame pointer, such as `-8`: a multiple of 4 from -512 to -4 (-8 for
   * {@link outputOrCount}). If an event is lost, 4 bytes there are overwritten (8 by {@link outputOrCount}).
   */
  readonly stack: number;
}

/** Options of {@link outputOrCount}. */
export interface OutputOptions extends CountOptions {
  /**
   * Flags of the helper: `BPF_RB_NO_WAKEUP` (1) or `BPF_RB_FORCE_WAKEUP` (2).
   *
   * @default 0
   */
  readonly flags?: number;
}

const stackSize = 512;
const keySize = 4;
const resultSize = 4;
/** Greatest length of a record in bytes (RINGBUF_MAX_RECORD_SZ). The other bits of the length are flags. */
const maxRecordSize = 0x3fff_ffff;

/**
 * Reserves a record in a ring buffer: `r0 = bpf_ringbuf_reserve(ring, size, 0)`. If the ring buffer is full, counts a lost
 * event and jumps to `full`.
 *
 * Execution continues with the address of the record in `r0`. The program fills in the record and passes it to
 * `ringbuf_submit` or `ringbuf_discard`. At the label `full`, `r0` is 0. The instructions clobber `r1` to `r5`, and 4 bytes of
 * the stack if the event is lost. If the ring buffer has room, only the helper and one jump run.
 *
 * The number of lost events is `ring.stats.lost`; `ring.lost` has the number of each CPU. If `ring` is the name `"events"`,
 * the counter is the program's map `"events.lost"`: by default the property `lost` of the ring buffer, unless `maps` has a
 * map with this name.
 *
 * @param ring - name of one of the program's `maps`, or an open ring buffer
 * @param size - size of the record in bytes, from 0 to 2^30-1
 * @param full - label of the same function
 * @param options - unused bytes of the stack
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer, or `full` is not a string or is empty.
 * @throws {RangeError} if `size` or `stack` is out of range.
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
 *
 * Requires Linux 5.8.
 */
export function reserveOrCount(
  ring: MapReference,
  size: number,
  full: string,
  options: CountOptions,
): readonly Instruction[] {
  const mnemonic = "reserveOrCount";
  const bytes = checkImmediate(mnemonic, "size", size, { min: 0, max: maxRecordSize });
  const target = checkName(mnemonic, "full", full);
  checkOptions(`${mnemonic}: options`, options, ["stack"]);
  const count = [
    ...incrementCounter(mnemonic, ring, options.stack, keySize),
    mov(r0, 0),
    ja(target),
  ];
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
 * Copies a record to a ring buffer: `r0 = bpf_ringbuf_output(ring, r2, size, flags)`. If the helper fails, counts a lost event.
 *
 * The program sets `r2` to the address of the record's bytes. Execution continues with 0 in `r0`, or with the helper's error:
 * a negative number, `-EAGAIN` if the ring buffer is full. The instructions clobber `r1` to `r5`, and 8 bytes of the stack if
 * the event is lost; these may be bytes of the record. If the ring buffer has room, only the helper and one jump run. The counter
 * is that of {@link reserveOrCount}.
 *
 * @param ring - name of one of the program's `maps`, or an open ring buffer
 * @param size - size of the record in bytes, from 0 to 2^30-1, or a register other than `r2` that contains the size
 * @param options - unused bytes of the stack, and flags of the helper
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer, or `size` neither a number nor a register.
 * @throws {RangeError} if `size`, `stack` or `flags` is out of range.
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
 *
 * Requires Linux 5.8.
 */
export function outputOrCount(
  ring: MapReference,
  size: number | Register,
  options: OutputOptions,
): readonly Instruction[] {
  const mnemonic = "outputOrCount";
  const bytes = isRegister(size)
    ? size
    : checkImmediate(
        mnemonic,
        "size",
        size,
        { min: 0, max: maxRecordSize },
        "a register or a number",
      );
  checkOptions(`${mnemonic}: options`, options, ["stack", "flags"]);
  const { stack, flags = 0 } = options;
  const flagBits = checkImmediate(mnemonic, "flags", flags, { min: 0, max: INT32_MAX });
  const result = stack + keySize;
  const count = [
    ...incrementCounter(mnemonic, ring, stack, keySize + resultSize),
    // Shifts extend the sign, because a load with sign extension requires Linux 6.6.
    ldxw(r0, fp, result),
    lsh(r0, 32),
    arsh(r0, 32),
  ];
  const failed = [stxw(fp, result, r0), ...count];
  return [
    // The size is copied first, because it may be in a register that the following instructions change.
    mov(r3, bytes),
    ldMap(r1, ring),
    mov(r4, flagBits),
    call("ringbuf_output"),
    skipIf(BPF_JEQ, failed),
    ...failed,
  ];
}

/**
 * Counts an event that was lost for a reason other than a full ring buffer. The counter is that of {@link reserveOrCount}.
 *
 * Execution continues with 0 in `r0`. The instructions clobber `r1` to `r5`, and 4 bytes of the stack.
 *
 * @param ring - name of one of the program's `maps`, or an open ring buffer
 * @param options - unused bytes of the stack
 * @throws {TypeError} if `ring` is neither a name nor a ring buffer.
 * @throws {RangeError} if `stack` is out of range.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, call, jeq, countLost, label } = asm;
 *
 * // Without the start time in the map, no event can be sent at the end.
 * const storeStart = [
 *   call("map_update_elem"),
 *   jeq(r0, 0, "stored"),
 *   countLost("events", { stack: -8 }),
 *   label("stored"),
 * ];
 * ```
 *
 * Requires Linux 5.8.
 */
export function countLost(ring: MapReference, options: CountOptions): readonly Instruction[] {
  checkOptions("countLost: options", options, ["stack"]);
  return [...incrementCounter("countLost", ring, options.stack, keySize), mov(r0, 0)];
}

/** Returns the instructions that increment the counter. @param room number of bytes of the stack that the caller uses */
function incrementCounter(
  mnemonic: string,
  ring: MapReference,
  stack: number,
  room: number,
): readonly Instruction[] {
  const counter = counterOf(mnemonic, ring);
  checkStack(mnemonic, stack, room);
  // The addition is atomic, because a program in an interrupt can run on the same CPU at the same time.
  const increment = [mov(r1, 1), atomicAdd(r0, 0, r1)];
  return [
    stw(fp, stack, 0),
    ldMap(r1, counter),
    mov(r2, fp),
    add(r2, stack),
    call("map_lookup_elem"),
    // The entry always exists, but the verifier requires a check for NULL.
    skipIf(BPF_JEQ, increment),
    ...increment,
  ];
}

/**
 * Returns the counter of a ring buffer: an open map, or for a name the counter's name, which is resolved when the program is
 * loaded.
 */
function counterOf(mnemonic: string, ring: MapReference): MapReference {
  if (typeof ring === "string") return `${checkName(mnemonic, "ring", ring)}.lost`;
  const counter = typeof ring === "object" && ring !== null ? ring.lost : undefined;
  if (counter !== undefined) return counter;
  throw new TypeError(
    `${mnemonic}: ring: expected the name of a ring buffer or an open RingBuf, which counts its lost events, got ${describe(ring)}`,
  );
}

function checkStack(mnemonic: string, stack: number, room: number): void {
  const isInStack = Number.isInteger(stack) && stack >= -stackSize && stack <= -room;
  if (isInStack && stack % keySize === 0) return;
  throw new RangeError(
    `${mnemonic}: stack: expected the offset of ${room} unused bytes of the stack, a multiple of ${keySize} from ${-stackSize} to ${-room}, got ${describe(stack)}`,
  );
}

/**
 * Makes a jump over instructions, if the comparison of `r0` with 0 is true. It has a distance instead of a label, so that a function
 * can contain the instructions several times.
 */
function skipIf(operation: number, skipped: readonly Instruction[]): Instruction {
  const offset = skipped.reduce((slots, instruction) => slots + slotsOf(instruction), 0);
  return makeInstruction(BPF_JMP | operation | BPF_K, { offset });
}
