/** @module Causes for which the verifier rejects programs, one row each: message, meaning and remedy. */

import type { Instruction } from "../asm/instruction.ts";
import { BPF_CALL, BPF_EXIT, BPF_JMP } from "../uapi/instruction.ts";

/** A row of {@link causes}: one cause for which the verifier rejects programs. */
export interface Cause {
  /**
   * The verifier's message, in the wording of all kernels since 5.10. The group `reg` is a register's number, `arg` an
   * argument's number from 0, `insn` an instruction's slot, and `opcode` its opcode in hexadecimal.
   */
  readonly pattern: RegExp;
  /** The meaning of the message, and the remedy. */
  readonly advice: string | ((match: CauseMatch) => string);
}

/** A message in a log that matches a cause. */
interface CauseMatch {
  readonly groups: Readonly<Record<string, string | undefined>>;
  /** The instruction at which the verifier stopped; `undefined` if the log shows none. */
  readonly instruction: Instruction | undefined;
}

/** Returns the name in code of the register in a message: `r1` for `R1` and for `arg0`. */
function register({ groups: { reg, arg } }: CauseMatch): string {
  return `r${reg ?? Number(arg) + 1}`;
}

const complexity =
  "it follows every path through branches and every iteration of a loop. Use a smaller loop bound or fewer branches in the loop, replace the loop by bpf_loop() (Linux 5.17) or may_goto (Linux 6.9), or split the program into global functions, which are verified separately";

/** Advice for a program that is too complex, if the verifier's message is missing from the log. */
export const tooComplex = `The verifier gave up: ${complexity}`;

const callDepthAdvice = "Calls can be nested at most 8 deep, and recursion is not allowed";

/** MAX_BPF_STACK: bytes of stack that a program and the functions that it calls share. */
const stackBytes = 512;

const nullAdvice = (match: CauseMatch): string =>
  `${register(match)} may be NULL: helpers return NULL if they fail, such as map_lookup_elem() for an absent key. Compare the result with 0 right after the call, as in jeq(r0, 0, "absent"), and use it only if it is not 0`;

const boundsRemedy =
  "Compare it with its bounds, as an unsigned number, right before its use, or mask it, as in and(r1, 0xff)";

/** All causes. The first row that matches a message is used, so specific rows come before general ones. */
export const causes: readonly Cause[] = [
  // The function that the program is loaded for.
  {
    pattern: /^(?<name>\w+) is not sleepable/,
    advice: ({ groups }) =>
      `Programs that may sleep can run only at system calls and other functions of the kernel for fault injection, and at some security hooks. Use the section without .s for ${groups["name"]}`,
  },
  {
    pattern: /^(?<name>\w+)\(\) is not modifiable/,
    advice: ({ groups }) =>
      `Programs of fmod_ret can change only the results of security hooks (security_*) and of functions for fault injection, such as system calls if the kernel has CONFIG_FUNCTION_ERROR_INJECTION. A program of fexit can see the result of ${groups["name"]}()`,
  },
  {
    pattern: /__noreturn function/,
    advice:
      "The function never returns to its caller, so that no program can run at its return. Use fentry",
  },
  {
    pattern: /^Attaching tracing programs to function '(?<name>\w+)' is rejected/,
    advice:
      "The kernel calls this function itself when it runs a program, so that programs of fentry and fexit would call themselves. Choose another function",
  },
  {
    pattern:
      /^The function (?<name>\w+) (?:with variable args|has \d+ arguments|return type|arg\d+ type)/,
    advice:
      "Programs with typed arguments cannot get the arguments or the result of this function. Attach a kprobe instead",
  },
  {
    pattern: /points to (?:disabled hook|wrong type name) (?:bpf_lsm_)?(?<name>\w+)/,
    advice: ({ groups }) =>
      `The kernel does not let BPF programs run at the security hook ${groups["name"]}. Choose another hook`,
  },
  {
    pattern: /^LSM programs must have a GPL compatible license/,
    advice:
      'Only programs with a GPL-compatible license can use security hooks, as in license: "GPL"',
  },
  {
    pattern: /^Subprog (?<name>\w+) doesn't exist/,
    advice: ({ groups }) =>
      `The other program does not call ${groups["name"]}, so that the verifier removed the function when that program was loaded`,
  },
  {
    pattern: /Can(?:not|'t) replace static functions|is not a global function/,
    advice:
      "Programs of freplace can replace only global functions: give the function the linkage global in the BTF of its program",
  },
  {
    pattern:
      /(?:[Rr]eturn type|arg\d+ in|[Aa]rg #?\d+) .*(?:doesn't match|not equal|is not|mismatch)|has \d+ args while .* has \d+|[Pp]rogram extension requires BTF/,
    advice:
      "A program of freplace needs the type of the function that it replaces: the same arguments and the same result. Without the option btf it has this type",
  },
  {
    pattern: /Can attach to only JITed progs/,
    advice:
      "Functions of other programs can be used only if those are compiled to machine code: set the sysctl net.core.bpf_jit_enable to 1, and load them again",
  },
  {
    pattern: /^Cannot (?:recursively attach|extend fentry\/fexit|nest tracing program)/,
    advice:
      "The other program is a program of freplace, fentry or fexit itself, which this program cannot be for",
  },
  // Registers.
  {
    pattern: /R(?<reg>\d+) !read_ok/,
    advice: (match) =>
      match.groups["reg"] === "0" && match.instruction?.opcode === (BPF_JMP | BPF_EXIT)
        ? "exit() returns r0, which has no value on this path. Set it before, as in mov(r0, 0)"
        : `${register(match)} has no value on this path: it was never set, or a call has cleared it (each call clears r1 to r5). Set it before this instruction; to keep a value across a call, use r6 to r9 or the stack`,
  },
  { pattern: /R(?<reg>\d+) invalid mem access '\w+_or_null_?'/, advice: nullAdvice },
  { pattern: /R(?<reg>\d+) .*null-check it first/, advice: nullAdvice },
  { pattern: /R(?<reg>\d+) type=\w+_or_null_? expected=/, advice: nullAdvice },
  {
    pattern: /[Pp]ossibly NULL pointer passed to (?:\w+ )?(?:arg#?(?<arg>\d)|R(?<reg>\d+))/,
    advice: nullAdvice,
  },
  {
    pattern: /R(?<reg>\d+) invalid mem access '(?:scalar|inv)'/,
    advice: (match) =>
      `${register(match)} is a number here, not a pointer. Memory can be accessed only through pointers that the verifier tracks: to the context, the stack (r10), map values, packets, or memory that a helper returned. To read other kernel memory, call probe_read_kernel()`,
  },
  {
    pattern: /R(?<reg>\d+) invalid mem access '(?<type>\w+)'/,
    advice: (match) =>
      `${register(match)} is a pointer of the type ${match.groups["type"]}, through which memory cannot be accessed in this way`,
  },
  {
    pattern: /R(?<reg>\d+) type=(?<type>\S+) expected=(?<expected>.+)/,
    advice: (match) =>
      `${register(match)} is an argument of the call and has the wrong type: ${match.groups["type"]} instead of ${match.groups["expected"]} (fp is a pointer to the stack; scalar and inv are numbers)`,
  },
  {
    pattern: /frame pointer is read only/,
    advice:
      "r10, the frame pointer, cannot be changed. Copy it, as in mov(r2, r10), and change the copy",
  },
  // Leaks of addresses.
  {
    pattern: /prohibited for !root|spilled ptr in range of var-offset stack write/,
    advice:
      "Programs that are loaded without CAP_PERFMON may not do this, because kernel memory could leak through speculative execution. Use constant offsets, or load the program with CAP_PERFMON",
  },
  {
    pattern:
      /R(?<reg>\d+) (?:leaks addr|pointer comparison prohibited|partial copy of pointer)|attempt to corrupt spilled pointer/,
    advice: (match) =>
      `${match.groups["reg"] === undefined ? "A register" : register(match)} has a kernel address. Programs that are loaded without CAP_PERFMON may not store addresses in maps or packets, pass them to helpers, return them or compare them. Use numbers, or load the program with CAP_PERFMON`,
  },
  {
    pattern:
      /R(?<reg>\d+) (?:.*(?:pointer|ptr_?|arithmetic|fp|ctx) .*prohibited|tried to subtract pointer)/,
    advice:
      "Pointers allow no arithmetic but the 64-bit addition or subtraction of a number, and pointers of some types not even that. Calculate with numbers, and add the result to the pointer; for addresses on the stack, add a negative number to a copy of r10",
  },
  // The stack.
  {
    pattern: /combined stack size of (?<calls>\d+) calls is (?<bytes>\d+)\. Too large/,
    advice: ({ groups }) =>
      `The ${groups["calls"]} functions of this chain of calls need ${groups["bytes"]} bytes of stack together, and only ${stackBytes} are available. Move large data to a per-CPU array with one entry, or nest calls less deeply`,
  },
  {
    pattern:
      /invalid (?:indirect )?(?:(?:write|read|access) (?:to|from) )?stack (?:type )?(?:R(?<reg>\d+) )?off=-(?<below>5(?:1[3-9]|[2-9]\d)|[6-9]\d\d|\d{4,})\b/,
    advice: ({ groups }) =>
      `The stack has ${stackBytes} bytes, from r10 - ${stackBytes} up to r10, and this access begins ${groups["below"]} bytes below r10. Move large data to a per-CPU array with one entry`,
  },
  {
    pattern: /invalid (?:indirect )?read from stack (?:R\d+ )?off[ =]-\d/,
    advice:
      "These bytes of the stack have not been written on this path. Before this instruction write all bytes that it reads or passes to a helper, including padding, as in stdw(r10, -8, 0)",
  },
  {
    pattern: /invalid .*stack|variable.* stack access|stack frame/,
    advice: `This access is outside of the stack, or at an offset that the verifier does not know. The stack has ${stackBytes} bytes, from r10 - ${stackBytes} up to r10: use a constant offset in it`,
  },
  // Loops and size.
  {
    pattern: /BPF program is too large\. Processed (?<processed>\d+) insn/,
    advice: ({ groups }) =>
      `The verifier gave up after ${(Number(groups["processed"]) - 1).toLocaleString("en")} instructions: ${complexity}`,
  },
  {
    pattern: /infinite loop detected at insn (?<insn>\d+)/,
    advice:
      "An iteration of this loop ends in the same state as it began, as far as the verifier knows, so the loop may never end. Count iterations in a register, and compare it with a constant bound",
  },
  {
    pattern: /The sequence of (?<jumps>\d+) jumps is too complex/,
    advice: ({ groups }) =>
      `The verifier gave up with ${groups["jumps"]} branches still to be verified: ${complexity}`,
  },
  {
    pattern: /back-edge from insn (?<insn>\d+) to \d+/,
    advice: ({ instruction }) =>
      instruction?.opcode === (BPF_JMP | BPF_CALL)
        ? callDepthAdvice
        : "The program jumps backwards: loops need Linux 5.3, and CAP_BPF to load the program. Load it with that capability, or unroll the loop",
  },
  {
    pattern: /the call stack of \d+ frames is too deep|recursive call from/,
    advice: callDepthAdvice,
  },
  // Helpers.
  {
    pattern: /cannot call GPL-restricted function from non-GPL compatible program/,
    advice:
      'Only programs with a GPL-compatible license can call this function. If yours is compatible, say so, as in license: "GPL" or license: "Dual MIT/GPL"',
  },
  {
    pattern:
      /(?:unknown func|invalid func|cannot use helper) (?:(?<helper>bpf_\w+)|\w+)#(?<number>\d+)/,
    advice: ({ groups }) =>
      `${groups["helper"] === undefined ? `Helper ${groups["number"]}` : `${groups["helper"]}()`} is not available: this kernel lacks it, programs of this type cannot call it, or a capability is missing. features.helpers() lists the helpers of a program type`,
  },
  {
    pattern: /calling kernel function (?<helper>\w+) is not allowed/,
    advice: ({ groups }) => `Programs of this type cannot call ${groups["helper"]}()`,
  },
  {
    pattern: /cannot pass map_type (?<type>\d+) into func (?<helper>\w+)#\d+/,
    advice: ({ groups }) => `${groups["helper"]}() does not accept maps of this type`,
  },
  {
    pattern: /sleepable|might sleep/,
    advice:
      "This operation may sleep, and this program may not. Programs of the section syscall may sleep, those of most other sections may not",
  },
  // Maps.
  {
    pattern: /no direct value access support for this map type|invalid access to map value pointer/,
    advice:
      "ldMapValue() is for array maps with one entry, and for offsets in its value. Load any other map with ldMap(), and look up its entries with the helper map_lookup_elem()",
  },
  // Bounds.
  {
    pattern:
      /invalid access to map value, value_size=(?<room>\d+) off=(?<offset>-?\d+) size=(?<size>\d+)/,
    advice: ({ groups }) =>
      `The map value has ${groups["room"]} bytes, and an access of ${groups["size"]} bytes at offset ${groups["offset"]} is outside of it. If the offset varies, compare it with its bounds right before the access`,
  },
  {
    pattern: /invalid access to packet/,
    advice:
      "The length of the packet has not been checked on this path. Before the access compare data plus the number of bytes with data_end, and skip the access if it is greater. If an offset varies, access the packet through the pointer that was compared",
  },
  {
    pattern: /invalid bpf_context access off=(?<offset>-?\d+)(?: size=(?<size>\d+))?/,
    advice: ({ groups }) =>
      `The context of programs of this type does not allow an access at offset ${groups["offset"]}${groups["size"] === undefined ? "" : ` of ${groups["size"]} bytes`}: there is no field of this offset and size, or the field cannot be accessed in this direction (most are read-only)`,
  },
  {
    pattern: /dereference of modified ctx ptr|variable ctx access|offset=\d+ .*ctx/,
    advice:
      "Fields of the context must be accessed at constant offsets from the pointer that the program got in r1. Do not change that pointer: pass the offset to the load, as in ldxw(r0, r1, 8)",
  },
  {
    pattern:
      /invalid access to (?:mem\w*|context|map key), \w+_size=(?<room>\d+) off=(?<offset>-?\d+) size=(?<size>\d+)/,
    advice: ({ groups }) =>
      `The memory has ${groups["room"]} bytes, and an access of ${groups["size"]} bytes at offset ${groups["offset"]} is outside of it. If the offset varies, compare it with its bounds right before the access`,
  },
  {
    pattern: /R(?<reg>\d+) (?:is not a known constant|unbounded size, use 'var)/,
    advice: (match) =>
      `${register(match)} must be a constant: ringbuf_reserve() cannot reserve a size that varies. Reserve the largest size, or prepare the record in other memory and call ringbuf_output()`,
  },
  {
    pattern:
      /R(?<reg>\d+) (?:min value is negative|unbounded memory access), (?:either )?use (?:unsigned or )?'var/,
    advice: (match) =>
      `${register(match)} is a size that is passed to a helper, and as far as the verifier knows it may be negative or too large. ${boundsRemedy}`,
  },
  {
    pattern: /R(?<reg>\d+) (?:m(?:in|ax) value is|unbounded memory access|offset is outside)/,
    advice: (match) =>
      `As far as the verifier knows, the number that was added to the pointer in ${register(match)} may move it out of its memory. ${boundsRemedy}`,
  },
  {
    pattern:
      /makes \S+ pointer be out of bounds|pointer offset -?\d+ is not allowed|math between \S+ pointer/,
    advice: `As far as the verifier knows, the number that is added to the pointer or subtracted from it may be far too large. ${boundsRemedy}`,
  },
  {
    pattern: /R(?<reg>\d+) invalid zero-sized read/,
    advice: (match) =>
      `${register(match)} is a size that must be at least 1, and as far as the verifier knows it may be 0. Compare it with 0 right before its use`,
  },
  {
    pattern: /access beyond struct (?<struct>\w+)|access beyond the end of member/,
    advice:
      "An access must stay within one member of the struct. Use the member's offset and size in the kernel's BTF, as Btf.kernel().field() returns them",
  },
  {
    pattern: /misaligned .*access/,
    advice:
      "The address is not a multiple of the size of the access. 8 bytes of the stack are at r10 - 8, r10 - 16, ...; use an aligned offset, or several smaller accesses",
  },
  {
    pattern:
      /cannot write into|write into \S+ forbidden|only read (?:from \S+ )?is supported|(?:is|are) read.?only/,
    advice:
      "This memory is read-only here, because of the type of the program or the flags of the map",
  },
  // The end of the program.
  {
    pattern: /(?:Unreleased|Leaking) reference id=\d+ alloc_insn=(?<acquired>\d+)/,
    advice: ({ groups }) =>
      `The reference that the call at slot ${groups["acquired"]} returned is not released on this path. Release it on every path, also where the program ends early: by ringbuf_submit() or ringbuf_discard() after ringbuf_reserve(), by sk_release() after a socket look-up`,
  },
  {
    pattern: /reference leak/,
    advice:
      "A reference that a helper returned is not released on this path. Release it on every path, also where the program ends early",
  },
  {
    pattern: /At (?:program exit|async callback return|subprogram return|callback return)/,
    advice: ({ groups }) =>
      `The return value must be in the range that the verifier names, but r${groups["reg"] ?? 0} may have other values. Set it to a constant, or compare it with the bounds, right before exit()`,
  },
  {
    pattern: /unreachable insn (?<insn>\d+)/,
    advice:
      "No path leads to this instruction, and the kernel rejects unreachable code. Remove it, or jump to it; if it follows a loop, the loop has no way out",
  },
  {
    pattern: /jump out of range from insn (?<insn>\d+)|last insn is not an exit or jmp/,
    advice:
      "A jump leads out of its function, or the last instruction of the function is neither exit() nor a jump",
  },
  {
    pattern:
      /unknown opcode (?<opcode>[0-9a-f]{2})|unknown insn|uses reserved fields|invalid BPF_\w+ (?:opcode|insn)|invalid .*opcode/,
    advice:
      "This kernel does not support the instruction, or its encoding is wrong. features.instructions lists what this kernel supports",
  },
];
