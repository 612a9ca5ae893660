import { describe, expect, test } from "bun:test";
import * as asm from "../../src/asm/asm.ts";
import { assemble } from "../../src/asm/assembler.ts";
import { AssemblerError } from "../../src/asm/layout.ts";
import { decode } from "../../src/asm/encode.ts";
import { type Code, type Instruction, slotsOf } from "../../src/asm/instruction.ts";
import { property } from "./random.ts";

const { r0, r1, r2, mov, exit, label, ja, jeq, lddw, func } = asm;

function failure(make: () => unknown): AssemblerError {
  try {
    make();
  } catch (error) {
    if (error instanceof AssemblerError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("layout", () => {
  test("flattens arrays of any depth without changing them", () => {
    const prologue = [mov(r0, 0), [[]]];
    const code: Code = [prologue, [[[mov(r0, 1)]], exit()]];
    expect(decode(assemble(code).bytes)).toEqual([mov(r0, 0), mov(r0, 1), exit()]);
    expect(prologue).toEqual([mov(r0, 0), [[]]]);
  });

  test("gives lddw two slots, which both map to it", () => {
    const { slots, bytes, bySlot, instructions } = assemble([mov(r0, 0), lddw(r1, 7n), exit()]);
    expect(slots).toBe(4);
    expect(bytes.length).toBe(32);
    expect(instructions.map(({ index, slot }) => [index, slot])).toEqual([
      [0, 0],
      [1, 1],
      [2, 3],
    ]);
    expect(bySlot.map(({ index }) => index)).toEqual([0, 1, 1, 2]);
  });

  test("records the labels and the function of each instruction", () => {
    const code = [func("main"), label("a"), label("b"), mov(r0, 0), { ...exit(), label: "c" }];
    const { bySlot } = assemble([code, func("other"), label("a"), exit()]);
    expect(bySlot.map((placed) => [placed.function, placed.labels])).toEqual([
      ["main", ["a", "b"]],
      ["main", ["c"]],
      ["other", ["a"]],
    ]);
  });

  test("lists the functions, of which the first needs no name", () => {
    expect(assemble([exit(), func("f"), exit()]).functions).toEqual([
      { name: "", slot: 0 },
      { name: "f", slot: 1 },
    ]);
    expect(assemble([func("main"), lddw(r0, 0n), exit()]).functions).toEqual([
      { name: "main", slot: 0 },
    ]);
  });

  test("lists the slots at which the source position changes", () => {
    const first = { file: "a.ts", line: 1 };
    const second = { file: "a.ts", line: 2, text: "x" };
    const code = [
      asm.withSource([lddw(r0, 0n), mov(r0, 0)], first),
      asm.withSource(mov(r0, 1), second),
      exit(),
    ];
    expect(assemble(code).sourceLines).toEqual([
      { slot: 0, source: first },
      { slot: 3, source: second },
    ]);
  });
});

describe("jumps", () => {
  test("can go forwards, backwards and to themselves, across an lddw", () => {
    const code = [
      label("start"),
      jeq(r0, 0, "out"),
      lddw(r1, 1n),
      label("self"),
      jeq(r0, 1, "self"),
      ja("start"),
      label("out"),
      exit(),
    ];
    const offsets = decode(assemble(code).bytes).map(({ offset }) => offset);
    expect(offsets).toEqual([4, 0, -1, -5, 0]);
  });

  test("have the distance in the immediate (gotol) or in the offset (mayGoto)", () => {
    const code = [asm.gotol("out"), asm.mayGoto("out"), label("out"), exit()];
    const [long, may] = decode(assemble(code).bytes);
    expect(long).toMatchObject({ offset: 0, imm: 1 });
    expect(may).toMatchObject({ offset: 0, imm: 0 });
  });

  test("use the label of their own function", () => {
    const body = [ja("out"), label("out"), exit()];
    expect(assemble([body, func("f"), body, func("g"), body]).slots).toBe(6);
  });

  test("reach 32767 slots forwards and 32768 backwards, with gotol further", () => {
    const filler = (count: number): Instruction[] => Array(count).fill(mov(r0, 0));
    const forwards = (count: number, jump = ja("x")) => [jump, filler(count), label("x"), exit()];
    const backwards = (count: number, jump = ja("x")) => [label("x"), filler(count), jump];
    expect(decode(assemble(forwards(32767)).bytes)[0]).toMatchObject({ offset: 32767 });
    expect(decode(assemble(backwards(32767)).bytes).at(-1)).toMatchObject({ offset: -32768 });
    expect(failure(() => assemble(forwards(32768))).message).toBe(
      'instruction 0, "goto x": label "x" is 32768 slots away, but a jump reaches only from -32768 to 32767: use gotol (Linux 6.6); for a conditional jump, invert the condition to skip the gotol',
    );
    expect(() => assemble(backwards(32768))).toThrow('label "x" is -32769 slots away');
    const far = asm.gotol("x");
    expect(decode(assemble(forwards(40000, far)).bytes)[0]).toMatchObject({ imm: 40000 });
    expect(decode(assemble(backwards(40000, far)).bytes).at(-1)).toMatchObject({ imm: -40001 });
  });

  test("reach their labels in random layouts", () => {
    property(200, (random) => {
      const length = random.integer(1, 60);
      const code: Code[number][] = [];
      const makeJump = [
        (name: string) => ja(name),
        (name: string) => jeq(r1, 5, name),
        (name: string) => asm.jsle32(r1, r2, name),
        (name: string) => asm.gotol(name),
        (name: string) => asm.mayGoto(name),
      ];
      for (let place = 0; place < length; place++) {
        code.push(label(`at ${place}`));
        const target = `at ${random.integer(0, length - 1)}`;
        const kind = random.integer(0, 2);
        if (kind === 0) code.push(random.pick(makeJump)(target));
        else if (kind === 1) code.push([[lddw(r1, BigInt(random.u32()))]]);
        else code.push(mov(r0, 0));
      }
      code.push([exit()]);
      const { bytes, instructions } = assemble(code);
      // Computes the target of each jump from the bytes, and compares it with the label in the source.
      let slot = 0;
      const raw = decode(bytes);
      for (const [index, instruction] of raw.entries()) {
        const { reference } = instructions[index]!.instruction;
        if (reference?.kind === "label") {
          const distance =
            instruction.opcode === asm.gotol("x").opcode ? instruction.imm : instruction.offset;
          let at = 0;
          let targetIndex = 0;
          while (at < slot + 1 + Number(distance)) at += slotsOf(raw[targetIndex++]!);
          expect(at).toBe(slot + 1 + Number(distance));
          expect(`at ${targetIndex}`).toBe(reference.name);
        }
        slot += slotsOf(instruction);
      }
    });
  });
});

describe("functions", () => {
  test("are called by their distance in slots", () => {
    const code = [
      asm.callFunction("f"),
      lddw(r1, 0n),
      asm.callFunction("f"),
      exit(),
      func("f"),
      asm.callFunction("f"),
      exit(),
    ];
    const { bytes, functions } = assemble(code);
    expect(functions[1]).toEqual({ name: "f", slot: 5 });
    const calls = decode(bytes).filter(({ src }) => src === 1);
    expect(calls.map(({ imm }) => imm)).toEqual([4, 1, -1]);
  });

  test("have addresses that are distances in slots", () => {
    const code = [func("a"), exit(), func("b"), asm.ldFunc(r2, "b"), asm.ldFunc(r2, "a"), exit()];
    const [, forwards, backwards] = decode(assemble(code).bytes);
    // BPF_PSEUDO_FUNC: -1 and -4 in the low half, 0 in the high half.
    expect(forwards).toMatchObject({ src: 4, imm: 0xffff_ffffn });
    expect(backwards).toMatchObject({ src: 4, imm: 0xffff_fffcn });
  });
});

describe("references to maps and to the kernel", () => {
  const map = (reference: unknown) => (reference === "counts" ? 5 : -1);

  test("resolves maps by name", () => {
    const code = [asm.ldMap(r1, "counts"), asm.ldMapValue(r2, "counts", 0xffff_fff0), exit()];
    const [address, value] = decode(assemble(code, { map }).bytes);
    expect(address).toEqual({ opcode: 0x18, dst: 1, src: 1, offset: 0, imm: 5n });
    expect(value).toEqual({ opcode: 0x18, dst: 2, src: 2, offset: 0, imm: 0xffff_fff0_0000_0005n });
  });

  test("uses the file descriptor of an open map, unless there is a resolver", () => {
    const code = [asm.ldMap(r1, { fd: 9 }), exit()];
    expect(decode(assemble(code).bytes)[0]?.imm).toBe(9n);
    expect(decode(assemble(code, { map: () => 11 }).bytes)[0]?.imm).toBe(11n);
  });

  test("resolves variables and functions of the kernel", () => {
    const code = [asm.ldKernelSymbol(r1, "runqueues"), asm.callKernelFunction("f"), exit()];
    const resolver = {
      kernelSymbol: () => ({ id: 77, module: 6 }),
      kernelFunction: () => ({ id: 88, module: 1 }),
    };
    const [symbol, kernelFunction] = decode(assemble(code, resolver).bytes);
    expect(symbol).toMatchObject({ src: 3, imm: 0x6_0000_004dn });
    expect(kernelFunction).toMatchObject({ opcode: 0x85, src: 2, offset: 1, imm: 88 });
    const own = { kernelSymbol: () => ({ id: 77 }), kernelFunction: () => ({ id: 88 }) };
    expect(decode(assemble(code, own).bytes)[1]).toMatchObject({ offset: 0, imm: 88 });
  });

  test.each<[string, Code, Parameters<typeof assemble>[1], string]>([
    ["a map without a resolver", [asm.ldMap(r1, "m"), exit()], {}, 'map "m" is only a name'],
    ["an invalid file descriptor", [asm.ldMap(r1, "m"), exit()], { map }, "got -1"],
    [
      "a variable without a resolver",
      [asm.ldKernelSymbol(r1, "s"), exit()],
      { map },
      "pass a resolver with kernelSymbol()",
    ],
    [
      "a function without a resolver",
      [asm.callKernelFunction("f"), exit()],
      {},
      "pass a resolver with kernelFunction()",
    ],
    [
      "an invalid BTF id",
      [asm.callKernelFunction("f"), exit()],
      { kernelFunction: () => ({ id: 0 }) },
      "got 0",
    ],
    [
      "an invalid index of a module",
      [asm.callKernelFunction("f"), exit()],
      { kernelFunction: () => ({ id: 1, module: 40000 }) },
      "got 40000",
    ],
  ])("are errors with the instruction: %s", (_, code, resolver, message) => {
    const error = failure(() => assemble(code, resolver));
    expect(error.message).toStartWith("instruction 0, ");
    expect(error.message).toContain(message);
  });
});
