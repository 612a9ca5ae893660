/** @module Reasons why the verifier rejects programs: one row each, with the verifier's words, their meaning and the remedy. */

import type { Instruction } from "../asm/instruction.ts";
import { BPF_CALL, BPF_EXIT, BPF_JMP } from "../uapi/instruction.ts";

/** A cause of rejections. A new one is a row of {@link causes}. */
export interface Cause {
  /**
   * The verifier's words for it, those of all kernels since 5.10. The group `reg` is the register that they name, `arg` the number of an
   * argument from 0, `insn` the slot of the instruction, `opcode` its opcode in hexadecimal.
   */
  readonly words: RegExp;
  /** The meaning of the words, and the remedy. */
  readonly advice: string | ((found: Found) => string);
}

/** The words of a cause in a log. */
export interface Found {
  readonly groups: Readonly<Record<string, string | undefined>>;
  /** The instruction that the verifier stopped at; `undefined` where the log shows none. */
  readonly instruction: Instruction | undefined;
}

/** Returns the register of a message as it is written in code: `R1` and `arg0` are `r1`. */
function register({ groups: { reg, arg } }: Found): string {
  return `r${reg ?? Number(arg) + 1}`;
}

const complexity =
  "it follows every path through branches and every iteration of a loop. Use a smaller loop bound, bpf_loop() (Linux 5.17) or may_goto (6.9) instead of the loop, fewer branches in it, or split the program into global functions, which are verified separately";

/** Advice for a program that is too complex, where the reason is missing from the log. */
export const tooComplex = `The verifier gave up: ${complexity}`;

const callDepthAdvice = "Calls can be nested at most 8 deep, and recursion is not allowed";

/** Bytes of stack that a program has, with all functions that call each other. */
const stackBytes = 512;

const nullAdvice = (found: Found): string =>
  `${register(found)} may be NULL, which a look-up returns if it finds nothing. Compare it with 0 right after the call, as in jeq(r0, 0, "absent"), before it is used`;

const remedyForBounds =
  "Compare it with its bounds, as an unsigned number, right before its use, or mask it, as in and(r1, 0xff)";

/** All causes. The first row that matches a message is used, so specific rows come before general ones. */
export const causes: readonly Cause[] = [
  // Registers.
  {
    words: /R(?<reg>\d+) !read_ok/,
    advice: (found) =>
      found.groups["reg"] === "0" && found.instruction?.opcode === (BPF_JMP | BPF_EXIT)
        ? "exit() returns r0, and on this path nothing has set it: set it before, as in mov(r0, 0)"
        : `${register(found)} has no value on this path: it was never set, or a call has cleared it since (each clears r1 to r5). Set it before; keep values across calls in r6 to r9, or on the stack`,
  },
  { words: /R(?<reg>\d+) invalid mem access '\w+_or_null_?'/, advice: nullAdvice },
  { words: /R(?<reg>\d+) .*null-check it first/, advice: nullAdvice },
  { words: /R(?<reg>\d+) type=\w+_or_null_? expected=/, advice: nullAdvice },
  {
    words: /[Pp]ossibly NULL pointer passed to (?:\w+ )?(?:arg#?(?<arg>\d)|R(?<reg>\d+))/,
    advice: nullAdvice,
  },
  {
    words: /R(?<reg>\d+) invalid mem access '(?:scalar|inv)'/,
    advice: (found) =>
      `${register(found)} is a number here, and memory is accessed only through pointers that the verifier knows: the context, the stack (r10), map values, packets, memory from helpers. Read kernel addresses with probe_read_kernel()`,
  },
  {
    words: /R(?<reg>\d+) invalid mem access '(?<type>\w+)'/,
    advice: (found) =>
      `${register(found)} is a pointer of the type ${found.groups["type"]}, which does not allow this access`,
  },
  {
    words: /R(?<reg>\d+) type=(?<type>\S+) expected=(?<expected>.+)/,
    advice: (found) =>
      `${register(found)} is an argument of the call and has the wrong type: ${found.groups["type"]} instead of ${found.groups["expected"]} (fp is the stack, scalar or inv a number)`,
  },
  {
    words: /frame pointer is read only/,
    advice:
      "r10 points to the end of the stack and cannot be changed: copy it, as in mov(r2, r10), and change the copy",
  },
  // Leaks of addresses.
  {
    words: /prohibited for !root|spilled ptr in range of var-offset stack write/,
    advice:
      "Without CAP_PERFMON programs may not do this, as a processor that guesses ahead could be made to leak memory by it: keep offsets constant, or load the program with CAP_PERFMON",
  },
  {
    words:
      /R(?<reg>\d+) (?:leaks addr|pointer comparison prohibited|partial copy of pointer)|attempt to corrupt spilled pointer/,
    advice: (found) =>
      `${found.groups["reg"] === undefined ? "A register" : register(found)} holds a kernel address, and without CAP_PERFMON programs may not leak addresses to maps, packets, helpers, return values or comparisons. Pass numbers, or load the program with CAP_PERFMON`,
  },
  {
    words:
      /R(?<reg>\d+) (?:.*(?:pointer|ptr_?|arithmetic|fp|ctx) .*prohibited|tried to subtract pointer)/,
    advice:
      "Pointers allow only the addition and subtraction of small known numbers in 64 bits: do the arithmetic with numbers, and add the result to the pointer",
  },
  // The stack.
  {
    words: /combined stack size of (?<calls>\d+) calls is (?<bytes>\d+)\. Too large/,
    advice: ({ groups }) =>
      `The stacks of the ${groups["calls"]} functions that call each other need ${groups["bytes"]} bytes, and only ${stackBytes} are available. Keep large data in a per-CPU array with one value, or nest calls less deeply`,
  },
  {
    words:
      /invalid (?:indirect )?(?:(?:write|read|access) (?:to|from) )?stack (?:type )?(?:R(?<reg>\d+) )?off=-(?<below>5(?:1[3-9]|[2-9]\d)|[6-9]\d\d|\d{4,})\b/,
    advice: ({ groups }) =>
      `The stack of a program has ${stackBytes} bytes, from r10 - ${stackBytes} up to r10, and this access begins ${groups["below"]} bytes below r10. Keep large data in a per-CPU array with one value`,
  },
  {
    words: /invalid (?:indirect )?read from stack (?:R\d+ )?off[ =]-\d/,
    advice:
      "These bytes of the stack have not been written on this path: write all bytes that are read or passed to the helper, including padding, as in stdw(r10, -8, 0)",
  },
  {
    words: /invalid .*stack|variable.* stack access|stack frame/,
    advice: `The stack of a program has ${stackBytes} bytes, from r10 - ${stackBytes} up to r10, and is accessed at constant offsets: this access is outside of it`,
  },
  // Loops and size.
  {
    words: /BPF program is too large\. Processed (?<processed>\d+) insn/,
    advice: ({ groups }) =>
      `The verifier gave up after ${(Number(groups["processed"]) - 1).toLocaleString("en")} instructions: ${complexity}`,
  },
  {
    words: /infinite loop detected at insn (?<insn>\d+)/,
    advice:
      "As far as the verifier knows, an iteration changes nothing that the end of the loop depends on. Count in a register, compare it with a constant bound, and do not change it otherwise",
  },
  {
    words: /The sequence of (?<jumps>\d+) jumps is too complex/,
    advice: ({ groups }) =>
      `The verifier gave up with ${groups["jumps"]} branches still to be verified: ${complexity}`,
  },
  {
    words: /back-edge from insn (?<insn>\d+) to \d+/,
    advice: ({ instruction }) =>
      instruction?.opcode === (BPF_JMP | BPF_CALL)
        ? callDepthAdvice
        : "The program jumps backwards, and loops need Linux 5.3 and CAP_BPF: unroll the loop, or load the program with that capability",
  },
  {
    words: /the call stack of \d+ frames is too deep|recursive call from/,
    advice: callDepthAdvice,
  },
  // Helpers.
  {
    words: /cannot call GPL-restricted function from non-GPL compatible program/,
    advice:
      'The helper requires a GPL-compatible license, as in license: "GPL" or license: "Dual MIT/GPL"',
  },
  {
    words:
      /(?:unknown func|invalid func|cannot use helper) (?:(?<helper>bpf_\w+)|\w+)#(?<number>\d+)/,
    advice: ({ groups }) =>
      `${groups["helper"] === undefined ? `Helper ${groups["number"]}` : `${groups["helper"]}()`} is not available: this kernel lacks it, programs of this type cannot call it, or a capability is missing. features.helpers() says which helpers are available`,
  },
  {
    words: /calling kernel function (?<helper>\w+) is not allowed/,
    advice: ({ groups }) => `Programs of this type cannot call ${groups["helper"]}()`,
  },
  {
    words: /cannot pass map_type (?<type>\d+) into func (?<helper>\w+)#\d+/,
    advice: ({ groups }) => `${groups["helper"]}() does not take maps of this type`,
  },
  {
    words: /sleepable|might sleep/,
    advice:
      "This may sleep, which programs of the section syscall may do, but programs of most other sections may not",
  },
  // Bounds.
  {
    words:
      /invalid access to map value, value_size=(?<room>\d+) off=(?<offset>-?\d+) size=(?<size>\d+)/,
    advice: ({ groups }) =>
      `The value has ${groups["room"]} bytes, and an access of size ${groups["size"]} at offset ${groups["offset"]} is outside of it. If the offset varies, compare it with its bounds right before the access`,
  },
  {
    words: /invalid access to packet/,
    advice:
      "On this path nothing has checked that the packet is long enough: first compare data plus the number of bytes to read with data_end, and read through the register that was compared",
  },
  {
    words: /invalid bpf_context access off=(?<offset>-?\d+)(?: size=(?<size>\d+))?/,
    advice: ({ groups }) =>
      `The context of programs of this type has no field for an access at offset ${groups["offset"]}${groups["size"] === undefined ? "" : ` of ${groups["size"]} bytes`}, or the field cannot be accessed in this direction: use the offset and size of a field; most fields are read-only`,
  },
  {
    words: /dereference of modified ctx ptr|variable ctx access|offset=\d+ .*ctx/,
    advice:
      "Fields of the context are read at constant offsets from the pointer that the program got: do not change that pointer, and give the offset in the load",
  },
  {
    words:
      /invalid access to (?:mem\w*|context|map key), \w+_size=(?<room>\d+) off=(?<offset>-?\d+) size=(?<size>\d+)/,
    advice: ({ groups }) =>
      `The memory has ${groups["room"]} bytes, and an access of size ${groups["size"]} at offset ${groups["offset"]} is outside of it. If the offset varies, compare it with its bounds right before the access`,
  },
  {
    words: /R(?<reg>\d+) (?:is not a known constant|unbounded size, use 'var)/,
    advice: (found) =>
      `${register(found)} has to be the same number on each path, known when the program is loaded: the room that ringbuf_reserve() gives cannot vary. Reserve the largest record, or build it elsewhere and call ringbuf_output()`,
  },
  {
    words:
      /R(?<reg>\d+) (?:min value is negative|unbounded memory access), (?:either )?use (?:unsigned or )?'var/,
    advice: (found) =>
      `${register(found)} is the size that the helper gets, and as far as the verifier knows it may be negative or too large. ${remedyForBounds}`,
  },
  {
    words: /R(?<reg>\d+) (?:m(?:in|ax) value is|unbounded memory access|offset is outside)/,
    advice: (found) =>
      `As far as the verifier knows, the number that was added to the pointer in ${register(found)} may move it out of its memory. ${remedyForBounds}`,
  },
  {
    words:
      /makes \S+ pointer be out of bounds|pointer offset -?\d+ is not allowed|math between \S+ pointer/,
    advice: `As far as the verifier knows, the number that is added to the pointer, or subtracted, may be far too large. ${remedyForBounds}`,
  },
  {
    words: /R(?<reg>\d+) invalid zero-sized read/,
    advice: (found) =>
      `${register(found)} is a size and may be 0: compare it with 0 first, or make sure that it is at least 1`,
  },
  {
    words: /access beyond struct (?<struct>\w+)|access beyond the end of member/,
    advice:
      "A load has to stay within one member of the struct: take its offset and size from the kernel's BTF",
  },
  {
    words: /misaligned .*access/,
    advice:
      "The address is not a multiple of the size that is accessed: stack slots of 8 bytes are at r10 - 8, r10 - 16, ...; use a smaller size, or load the parts",
  },
  {
    words:
      /cannot write into|write into \S+ forbidden|only read (?:from \S+ )?is supported|(?:is|are) read.?only/,
    advice: "This memory is read-only for programs of this type",
  },
  // The end of the program.
  {
    words: /(?:Unreleased|Leaking) reference id=\d+ alloc_insn=(?<acquired>\d+)/,
    advice: ({ groups }) =>
      `The reference that the call at slot ${groups["acquired"]} returned is not released on this path: release it on every path (ringbuf_submit() or ringbuf_discard() after ringbuf_reserve(), sk_release() after a socket look-up), also where the program ends early`,
  },
  {
    words: /reference leak/,
    advice:
      "A reference that a helper returned is not released on this path: release it on every path",
  },
  {
    words: /At (?:program exit|async callback return|subprogram return|callback return)/,
    advice: ({ groups }) =>
      `The result of programs of this type must be in a certain range, but r${groups["reg"] ?? 0} may have other values: set it to a constant, or bound it, right before exit()`,
  },
  {
    words: /unreachable insn (?<insn>\d+)/,
    advice:
      "No path leads to this instruction (a loop before it may never end), and unreachable code is rejected: remove it, or jump to it",
  },
  {
    words: /jump out of range from insn (?<insn>\d+)|last insn is not an exit or jmp/,
    advice: "A jump leads out of the program, or out of its function",
  },
  {
    words:
      /unknown opcode (?<opcode>[0-9a-f]{2})|unknown insn|uses reserved fields|invalid BPF_\w+ (?:opcode|insn)|invalid .*opcode/,
    advice:
      "This kernel does not know the instruction: features.instructions says which ones it has",
  },
];
