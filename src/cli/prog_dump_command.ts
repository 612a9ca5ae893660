/** @module The command `bun-bpf prog dump`, which prints the code of a program that is in the kernel. */

import { Argument, type Command, Option } from "commander";
import { CommandError, groupOf } from "./command_line.ts";
import { argumentFor, openProgram, type Reference } from "./object_command.ts";
import {
  hex,
  type JsonOption,
  LineWriter,
  printable,
  printJson,
  withJson,
  writeBytes,
} from "./output.ts";
import { disassembleInstruction, formatPosition } from "../asm/disassembler.ts";
import { hexadecimal, hexBytes } from "../asm/encode.ts";
import { slotsOf } from "../asm/instruction.ts";
import { suggest } from "../check/names.ts";
import type { Program } from "../program/program.ts";
import type {
  MachineFunction,
  ProgramFunction,
  TranslatedFunction,
} from "../program/program_code.ts";

const help = `
\`xlated\` prints the BPF instructions as the verifier has rewritten them, in the notation of its log, with the
number of their slot. \`jited\` prints the bytes of the machine code that the kernel runs, with their addresses.
Both need CAP_BPF; addresses also need CAP_SYSLOG, unless the sysctl kernel.kptr_restrict is 0. Lines that
begin with ; are source lines, if the program was loaded with line information.

This command does not disassemble machine code. --raw prints it as it is, for other tools:
  bun-bpf prog dump jited id:12 --raw >code
  objdump -D -b binary -m i386:x86-64 --adjust-vma=0xffffffffc0123450 code    (on arm64: -m aarch64)

With --json the document has the keys id, name, type and functions, each with name, declaration and tag,
where known. Those of \`xlated\` also have slot and instructions, each with slot, bytes, text and the fields of
Instruction in the library (opcode, dst, src, offset, imm; reference and source, where known). Those of
\`jited\` also have address, bytes and lines (offset and source). A source has the keys file, line, column and
text, where known.

Examples:
  bun-bpf prog dump xlated name:execs
  bun-bpf prog dump xlated id:12 --opcodes --no-lines
  bun-bpf prog dump jited /sys/fs/bpf/execs --function count`;

interface DumpOptions extends JsonOption {
  readonly lines: boolean;
  readonly opcodes?: boolean;
  readonly raw?: boolean;
  readonly function?: string;
}

/** Adds the command to `bun-bpf prog`, which has to exist. */
export function progDumpCommand(program: Command): void {
  withJson(
    groupOf(program, "prog")
      .command("dump")
      .description("print the instructions or the machine code of a program")
      .addArgument(new Argument("<code>", "the code to print").choices(["xlated", "jited"]))
      .addArgument(argumentFor("prog"))
      .option("-f, --function <name>", "print only the function with this name")
      .option("--no-lines", "leave out source lines")
      .option("-o, --opcodes", "print the bytes of each instruction (xlated)")
      .addOption(new Option("--raw", "print the bytes of the machine code (jited)"))
      .addHelpText("after", help),
  ).action(dump);
}

function dump(code: "xlated" | "jited", reference: Reference, options: DumpOptions): void {
  const { json = false, opcodes = false, raw = false } = options;
  if (code === "xlated" && raw) throw misuse("--raw is only for `prog dump jited`");
  if (code === "jited" && opcodes) throw misuse("--opcodes is only for `prog dump xlated`");
  if (json && raw) throw misuse("--json and --raw exclude each other");
  using program = openProgram(reference);
  const { id, type, name } = program;
  if (code === "xlated") {
    const functions = selected(translatedCode(program), options.function);
    if (json) printJson({ id, name, type, functions: functions.map(instructionData) });
    else printTranslated(functions, options);
    return;
  }
  const functions = selected(machineCode(program), options.function);
  if (raw) printRaw(functions);
  else if (json) printJson({ id, name, type, functions: functions.map(machineData) });
  else printMachineCode(functions, options);
}

function misuse(message: string): CommandError {
  return new CommandError(message, { isMisuse: true });
}

function translatedCode(program: Program): TranslatedFunction[] {
  const functions = program.translatedCode();
  if (functions !== undefined) return functions;
  throw new CommandError(
    `the kernel hides the instructions of the ${program}: reading them needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN); if constants were blinded (sysctl net.core.bpf_jit_harden), also visible kernel addresses (CAP_SYSLOG, and sysctl kernel.kptr_restrict at most 1)`,
  );
}

function machineCode(program: Program): MachineFunction[] {
  const functions = program.machineCode();
  if (functions === undefined) {
    throw new CommandError(
      `the kernel hides the machine code of the ${program}: reading it needs CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN) and visible kernel addresses (CAP_SYSLOG, and sysctl kernel.kptr_restrict at most 1)`,
    );
  }
  if (functions.length > 0) return functions;
  throw new CommandError(
    `the ${program} has no machine code, because the kernel interprets it: the sysctl net.core.bpf_jit_enable=1 makes it compile programs that are loaded later; use \`prog dump xlated\``,
  );
}

/** Returns all functions, or those with a name. */
function selected<F extends ProgramFunction>(functions: readonly F[], name?: string): readonly F[] {
  if (name === undefined) return functions;
  const found = functions.filter((one) => one.name === name);
  if (found.length > 0) return found;
  const names = functions.map((one) => one.name);
  throw new CommandError(
    `the program has no function ${JSON.stringify(name)}: ${suggest(name, names)}`,
  );
}

/** Prints the title of each function, and after it its lines. */
function printFunctions<F extends ProgramFunction>(
  functions: readonly F[],
  linesOf: (one: F) => Iterable<string>,
): void {
  using output = new LineWriter();
  for (const [index, one] of functions.entries()) {
    output.line(`${index === 0 ? "" : "\n"}${printable(one.declaration ?? one.name)}:`);
    for (const line of linesOf(one)) output.line(printable(line));
  }
}

function printTranslated(functions: readonly TranslatedFunction[], options: DumpOptions): void {
  const { lines, opcodes = false } = options;
  printFunctions(functions, function* ({ slot, instructions }) {
    let at = slot;
    let before = "";
    for (const instruction of instructions) {
      const { source, opcode } = instruction;
      const comment = source === undefined ? "" : formatPosition(source);
      if (lines && comment !== "" && comment !== before) yield comment;
      before = comment;
      const code = opcodes ? hexadecimal(instruction) : `(${opcode.toString(16).padStart(2, "0")})`;
      yield `${String(at).padStart(4)}: ${code} ${disassembleInstruction(instruction)}`;
      at += slotsOf(instruction);
    }
  });
}

function instructionData({ instructions, ...described }: TranslatedFunction): object {
  let at = described.slot;
  return {
    ...described,
    instructions: instructions.map((instruction) => {
      const slot = at;
      at += slotsOf(instruction);
      const bytes = hexadecimal(instruction).replaceAll(" ", "");
      return { slot, bytes, text: disassembleInstruction(instruction), ...instruction };
    }),
  };
}

/** Number of bytes of machine code in a line. */
const bytesInLine = 16;

function printMachineCode(functions: readonly MachineFunction[], { lines }: DumpOptions): void {
  printFunctions(functions, function* (one) {
    const marks = lines ? one.lines : [];
    // The code is divided at the offsets with source lines.
    const starts = [...new Set([0, ...marks.map(({ offset }) => offset)])];
    for (const [index, start] of starts.entries()) {
      const end = starts[index + 1] ?? one.bytes.length;
      for (const { offset, source } of marks) if (offset === start) yield formatPosition(source);
      for (let at = start; at < end; at += bytesInLine) {
        const bytes = one.bytes.subarray(at, Math.min(at + bytesInLine, end));
        yield `${hex(one.address + BigInt(at))}: ${hexBytes(bytes)}`;
      }
    }
  });
}

function machineData({ address, ...described }: MachineFunction): object {
  // As a number, an address would lose its last digits in many JSON parsers.
  return { ...described, address: hex(address) };
}

function printRaw(functions: readonly MachineFunction[]): void {
  const [only] = functions;
  if (only === undefined || functions.length > 1) {
    const names = functions.map(({ name }) => name).join(", ");
    throw misuse(`--raw prints one function: name one of ${names} with --function`);
  }
  if (process.stdout.isTTY) {
    throw misuse("--raw prints bytes that are not text: redirect the output to a file or a pipe");
  }
  writeBytes(only.bytes);
}
