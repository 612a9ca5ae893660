import { describe, expect, test } from "bun:test";
import * as asm from "../../src/asm/asm.ts";
import { assemble } from "../../src/asm/assembler.ts";
import { AssemblerError } from "../../src/asm/layout.ts";
import { encode } from "../../src/asm/encode.ts";
import type { Code, Instruction } from "../../src/asm/instruction.ts";

const { r0, r1, r3, r4, mov, exit, label, ja, jeq, lddw, func } = asm;

function failure(make: () => unknown): AssemblerError {
  try {
    make();
  } catch (error) {
    if (error instanceof AssemblerError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("assembler errors", () => {
  test.each<[string, Code, string]>([
    ["empty", [], "the program is empty: it needs at least an exit()"],
    ["only a label", [label("x")], "the program is empty: it needs at least an exit()"],
    [
      "an empty function",
      [exit(), func("f")],
      'function "f" is empty: it needs at least an exit()',
    ],
    [
      "no exit at the end",
      [exit(), mov(r0, 1)],
      'instruction 1, "r0 = 1": the program does not end with an exit or a jump: add exit()',
    ],
    [
      "no exit at the end of a function",
      [func("f"), jeq(r0, 0, "x"), label("x"), lddw(r0, 0n), func("g"), exit()],
      'instruction 1, "r0 = 0x0": function "f" does not end with an exit or a jump: add exit()',
    ],
    [
      "a label twice",
      [label("x"), mov(r0, 0), label("x"), exit()],
      'instruction 1, "exit": label "x" is defined twice: rename one',
    ],
    [
      "a label twice in a function",
      [func("f"), label("x"), label("x"), exit()],
      'instruction 0, "exit": label "x" is defined twice in function "f": rename one',
    ],
    [
      "a function twice",
      [func("f"), exit(), func("f"), exit()],
      'function "f" is defined twice: rename one',
    ],
    [
      "an unknown label",
      [jeq(r0, 0, "entirely"), label("out"), exit()],
      'instruction 0, "if r0 == 0x0 goto entirely": there is no label "entirely": known names: "out"',
    ],
    [
      "a misspelt label",
      [lddw(r0, 0n), jeq(r0, 0, "finnish"), label("finish"), exit()],
      'instruction 1 (slot 2), "if r0 == 0x0 goto finnish": there is no label "finnish": did you mean "finish"?',
    ],
    [
      "a program without labels",
      [ja("x")],
      'instruction 0, "goto x": there is no label "x": there are no labels',
    ],
    [
      "a label of another function",
      [func("f"), ja("x"), func("g"), label("x"), exit()],
      'instruction 0, "goto x": there is no label "x": function "g" has one, but a jump cannot leave its function',
    ],
    [
      "a label after the last instruction",
      [func("f"), ja("x"), label("x"), func("g"), exit()],
      'instruction 0, "goto x": label "x" has no instruction after it: move it before an instruction',
    ],
    [
      "an unknown function",
      [func("main"), asm.callFunction("step"), exit(), func("steps"), exit()],
      'instruction 0, "call step": there is no function "step": did you mean "steps"?',
    ],
    [
      "a program without functions",
      [asm.ldFunc(r1, "step"), exit()],
      'instruction 0, "r1 = subprog[step]": there is no function "step": start it with func()',
    ],
    [
      "half an lddw",
      [{ opcode: 0x18, dst: 0, src: 0, offset: 0, imm: 1 }, exit()],
      'instruction 0, "bytes 18 00 00 00 01 00 00 00": imm: expected a bigint for lddw, got 1',
    ],
    [
      "a bigint in another instruction",
      [{ ...mov(r0, 0), imm: 1n }, exit()],
      'instruction 0, "bytes b7 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00": imm: expected a number, got 1n: only lddw has a bigint',
    ],
    [
      "a reference that the instruction cannot have",
      [{ ...mov(r0, 0), reference: { kind: "label", name: "x" } }, label("x"), exit()],
      'instruction 0, "r0 = 0": this instruction cannot refer to a label',
    ],
  ])("are thrown for: %s", (_, code, message) => {
    expect(failure(() => assemble(code)).message).toBe(message);
  });

  test("contain the source position", () => {
    const code = [lddw(r0, 0n), asm.withSource(ja("x"), { file: "drop.bpf", line: 7 })];
    const error = failure(() => assemble(code));
    expect(error.message).toStartWith('instruction 1 (slot 2), "goto x" at drop.bpf:7: ');
    expect(error).toMatchObject({ name: "AssemblerError", index: 1, slot: 2 });
    expect(error.instruction?.source?.line).toBe(7);
  });

  test("have the path of an item that is not an instruction", () => {
    expect(() => assemble([exit(), [exit] as never])).toThrow(
      new TypeError(
        "code[1][0]: expected an instruction, got a function: was it meant to be called, as in exit()?",
      ),
    );
    expect(() => assemble([undefined as never])).toThrow("code[0]: expected an instruction");
    expect(() => assemble([{} as never])).toThrow("code[0]: expected an instruction");
    expect(() => assemble(exit() as never)).toThrow("code: expected an array of instructions");
  });

  test("have the field that is out of range", () => {
    const bad = (fields: Partial<Instruction>) => () =>
      assemble([{ ...mov(r0, 0), ...fields }, exit()]);
    expect(bad({ opcode: 256 })).toThrow(RangeError);
    expect(bad({ dst: 16 })).toThrow(
      "instruction 0: dst: expected an integer from 0 to 15, got 16",
    );
    expect(bad({ src: -1 })).toThrow("src");
    expect(bad({ offset: 0x8000 })).toThrow("offset");
    expect(bad({ imm: 2 ** 31 })).toThrow("imm");
    expect(bad({ imm: 0.5 })).toThrow("imm");
    expect(() => encode([{ ...lddw(r0, 0n), imm: -1n }])).toThrow("imm");
    expect(() => encode([{ ...lddw(r0, 0n), imm: 2n ** 64n }])).toThrow("imm");
  });

  test("are not thrown for a program that ends with a jump or bpf_throw()", () => {
    expect(() => assemble([label("x"), ja("x")])).not.toThrow();
    expect(() => assemble([label("x"), asm.gotol("x")])).not.toThrow();
    expect(() => assemble([asm.gotox(r4)])).not.toThrow();
    const kernelFunction = () => ({ id: 1 });
    expect(() => assemble([asm.callKernelFunction("bpf_throw")], { kernelFunction })).not.toThrow();
    expect(() => assemble([asm.callKernelFunction("f")], { kernelFunction })).toThrow(
      "does not end with an exit or a jump",
    );
    expect(() => assemble([label("x"), jeq(r0, r3, "x")])).toThrow(
      "does not end with an exit or a jump",
    );
  });
});
