import { describe, expect, test } from "bun:test";
import * as asm from "../../src/asm/asm.ts";
import { assemble } from "../../src/asm/assembler.ts";
import { hexBytes } from "../../src/asm/encode.ts";
import { type Code, type Instruction, slotsOf } from "../../src/asm/instruction.ts";
import { bpfHelpers } from "../../src/uapi/helpers.ts";
import { documentedRows } from "./documented.ts";
import { assembled, compiled } from "./encodings.ts";
import vectors from "./vectors.json";

const { r0, r1, r2, r3, r9, r10 } = asm;

/** Returns code with a label for a jump whose target is a distance: "+3" or "-3" slots from the next instruction. */
function withTarget(instruction: Instruction): { code: Code; slot: number } {
  if (instruction.reference?.kind !== "label") return { code: [instruction, asm.exit()], slot: 0 };
  const { name } = instruction.reference;
  const distance = Number(name);
  const filler = (count: number) => Array<Instruction>(count).fill(asm.exit());
  if (distance >= 0) {
    return { code: [instruction, filler(distance), asm.label(name), asm.exit()], slot: 0 };
  }
  const between = -distance - 1;
  return { code: [asm.label(name), filler(between), instruction, asm.exit()], slot: between };
}

function bytesOf(instruction: Instruction): string {
  const { code, slot } = withTarget(instruction);
  const { bytes } = assemble(code);
  return hexBytes(bytes.subarray(slot * 8, (slot + slotsOf(instruction)) * 8));
}

describe("encodings", () => {
  test.each([...assembled, ...compiled])("match LLVM: $text", ({ text, instruction }) => {
    expect(bytesOf(instruction)).toBe((vectors as Record<string, string>)[text] ?? "no vector");
  });

  test.each(documentedRows)("match the documentation: $text", ({ instruction, bytes }) => {
    expect(bytesOf(instruction)).toBe(bytes);
  });

  test("use every test vector", () => {
    const used = new Set([...assembled, ...compiled].map(({ text }) => text));
    expect(Object.keys(vectors).filter((text) => !used.has(text))).toEqual([]);
  });

  test("cover every function of asm that makes an instruction", () => {
    // These have references: assembler.test.ts checks their bytes.
    const references = ["ldMap", "ldMapValue", "ldFunc", "ldKernelSymbol", "callFunction"];
    // These make several instructions: ring.test.ts checks them.
    const several = ["reserveOrCount", "outputOrCount", "countLost"];
    const marks = ["label", "func", "withSource", "callKernelFunction", ...references, ...several];
    const covered = new Set<string>(
      [...assembled, ...compiled, ...documentedRows].map((r) => r.name),
    );
    const functions = Object.entries(asm).filter(([, value]) => typeof value === "function");
    const names = functions.map(([name]) => name);
    expect(names.filter((name) => !covered.has(name) && !marks.includes(name))).toEqual([]);
    expect(names.length).toBeGreaterThan(130);
  });
});

describe("registers", () => {
  test("are frozen, and fp is another name of r10", () => {
    expect(Object.isFrozen(r0)).toBe(true);
    expect(asm.fp).toBe(r10);
    const all = [r0, r1, r2, r3, asm.r4, asm.r5, asm.r6, asm.r7, asm.r8, r9, r10];
    expect(all.map(({ register }) => register)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("cannot be numbers", () => {
    // @ts-expect-error: the destination must be a register
    expect(() => asm.mov(1, r2)).toThrow(
      new TypeError("mov: dst: expected a register, r0 to r9, got 1"),
    );
    // @ts-expect-error: the source of a load must be a register
    expect(() => asm.ldxw(r1, 2, 0)).toThrow(
      new TypeError(
        "ldxw: src: expected a register, r0 to r10, got 2: the operands are ldxw(dst, src, offset)",
      ),
    );
    // @ts-expect-error: the offset of a store is the second operand
    expect(() => asm.stxw(asm.fp, r0, -4)).toThrow(
      new TypeError(
        "stxw: offset: expected a number, got the register r0: the operands are stxw(dst, offset, src)",
      ),
    );
    // @ts-expect-error: 11 is not a register
    expect(() => asm.mov({ register: 11 }, 1)).toThrow(TypeError);
    // @ts-expect-error: 1.5 is not a register
    expect(() => asm.mov({ register: 1.5 }, 1)).toThrow(TypeError);
  });

  test.each<[string, (dst: typeof r1) => unknown]>([
    ["mov", (dst) => asm.mov(dst, 1)],
    ["neg", (dst) => asm.neg(dst)],
    ["be16", (dst) => asm.be16(dst)],
    ["movsx8", (dst) => asm.movsx8(dst, r1)],
    ["addrSpaceCast", (dst) => asm.addrSpaceCast(dst, r1, 0, 1)],
    ["ldxw", (dst) => asm.ldxw(dst, r1, 0)],
    ["lddw", (dst) => asm.lddw(dst, 1)],
    ["ldMap", (dst) => asm.ldMap(dst, "m")],
    ["ldFunc", (dst) => asm.ldFunc(dst, "f")],
    ["loadAcquireW", (dst) => asm.loadAcquireW(dst, r1, 0)],
    ["atomicFetchAdd", (src) => asm.atomicFetchAdd(r1, 0, src)],
    ["xchg", (src) => asm.xchg(r1, 0, src)],
  ])("%s cannot write the frame pointer", (name, make) => {
    expect(() => make(r10 as never)).toThrow(RangeError);
    expect(() => make(r10 as never)).toThrow(`${name}: `);
    expect(() => make(r10 as never)).toThrow("expected r0 to r9, got r10");
  });

  test("include the frame pointer as an address and a source", () => {
    expect(asm.stxdw(r10, -8, r10)).toMatchObject({ dst: 10, src: 10, offset: -8 });
    expect(asm.cmpxchg(r10, -8, r10)).toMatchObject({ dst: 10, src: 10 });
    expect(asm.jeq(r10, r10, "x")).toMatchObject({ dst: 10, src: 10 });
  });
});

describe("immediates", () => {
  test("are rejected with a hint if sign extension would change them", () => {
    expect(() => asm.mov(r1, 0xffff_ffff)).toThrow(
      new RangeError(
        "mov: src: expected an integer from -2147483648 to 2147483647, got 4294967295: the 32-bit immediate would be sign-extended to 0xffffffffffffffff; load it with lddw, or use the 32-bit form",
      ),
    );
    expect(() => asm.jgt(r1, 0x8000_0000, "x")).toThrow("0xffffffff80000000");
    expect(() => asm.stdw(r1, 0, 0x8000_0000)).toThrow(RangeError);
    expect(asm.mov32(r1, 0xffff_ffff).imm).toBe(-1);
    expect(asm.jgt32(r1, 0x8000_0000, "x").imm).toBe(-0x8000_0000);
    expect(asm.stw(r1, 0, 0xffff_ffff).imm).toBe(-1);
  });

  test.each<[string, number, number, (value: number) => Instruction]>([
    ["add", -0x8000_0000, 0x7fff_ffff, (value) => asm.add(r1, value)],
    ["add32", -0x8000_0000, 0xffff_ffff, (value) => asm.add32(r1, value)],
    ["sdiv32", -0x8000_0000, 0x7fff_ffff, (value) => asm.sdiv32(r1, value)],
    ["lsh", 0, 63, (value) => asm.lsh(r1, value)],
    ["rsh", 0, 63, (value) => asm.rsh(r1, value)],
    ["arsh", 0, 63, (value) => asm.arsh(r1, value)],
    ["lsh32", 0, 31, (value) => asm.lsh32(r1, value)],
    ["rsh32", 0, 31, (value) => asm.rsh32(r1, value)],
    ["arsh32", 0, 31, (value) => asm.arsh32(r1, value)],
    ["jset", -0x8000_0000, 0x7fff_ffff, (value) => asm.jset(r1, value, "x")],
    ["jle32", -0x8000_0000, 0xffff_ffff, (value) => asm.jle32(r1, value, "x")],
    ["jsle32", -0x8000_0000, 0x7fff_ffff, (value) => asm.jsle32(r1, value, "x")],
    ["stb", -0x80, 0xff, (value) => asm.stb(r1, 0, value)],
    ["sth", -0x8000, 0xffff, (value) => asm.sth(r1, 0, value)],
    ["stw", -0x8000_0000, 0xffff_ffff, (value) => asm.stw(r1, 0, value)],
    ["stdw", -0x8000_0000, 0x7fff_ffff, (value) => asm.stdw(r1, 0, value)],
    ["ldxb", -0x8000, 0x7fff, (value) => asm.ldxb(r1, r2, value)],
    ["stxb", -0x8000, 0x7fff, (value) => asm.stxb(r1, value, r2)],
    ["cmpxchg", -0x8000, 0x7fff, (value) => asm.cmpxchg(r1, value, r2)],
    ["loadAcquireB", -0x8000, 0x7fff, (value) => asm.loadAcquireB(r1, r2, value)],
    ["ldAbsW", -0x8000_0000, 0x7fff_ffff, (value) => asm.ldAbsW(value)],
    ["ldMapValue", 0, 0xffff_ffff, (value) => asm.ldMapValue(r1, "m", value)],
    ["addrSpaceCast", 0, 0xffff, (value) => asm.addrSpaceCast(r1, r2, value, 0)],
    ["call", 1, 0x7fff_ffff, (value) => asm.call(value)],
  ])("%s accepts %d to %d", (name, min, max, make) => {
    expect(() => [make(min), make(max)]).not.toThrow();
    for (const outside of [min - 1, max + 1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => make(outside)).toThrow(RangeError);
      expect(() => make(outside)).toThrow(`${name}: `);
      expect(() => make(outside)).toThrow(`from ${min} to ${max}`);
    }
    expect(() => make("1" as never)).toThrow(TypeError);
    expect(() => make(undefined as never)).toThrow(TypeError);
  });

  test("are stored as signed 32-bit numbers, and -0 as 0", () => {
    expect(Object.is(asm.mov(r1, -0).imm, 0)).toBe(true);
    expect(asm.and32(r1, 0x8000_0000).imm).toBe(-0x8000_0000);
  });

  test("can be bigints in lddw only", () => {
    expect(() => asm.mov(r1, 1n as never)).toThrow(
      new TypeError(
        "mov: src: expected a register or a number, got 1n: only lddw takes a bigint; other immediates are numbers",
      ),
    );
  });

  test("cannot be 0 in a division, which the verifier rejects", () => {
    for (const divide of [asm.div, asm.div32, asm.sdiv, asm.sdiv32, asm.mod, asm.mod32, asm.smod]) {
      expect(() => divide(r1, 0)).toThrow("expected a divisor other than 0");
    }
    expect(asm.div(r1, r0)).toMatchObject({ src: 0 });
  });

  test("of lddw have 64 bits, signed or unsigned", () => {
    expect(asm.lddw(r1, -1n).imm).toBe(0xffff_ffff_ffff_ffffn);
    expect(asm.lddw(r1, 2n ** 64n - 1n).imm).toBe(2n ** 64n - 1n);
    expect(asm.lddw(r1, -(2n ** 63n)).imm).toBe(2n ** 63n);
    expect(asm.lddw(r1, 2 ** 53 - 1).imm).toBe(2n ** 53n - 1n);
    expect(() => asm.lddw(r1, 2n ** 64n)).toThrow(RangeError);
    expect(() => asm.lddw(r1, -(2n ** 63n) - 1n)).toThrow(RangeError);
    expect(() => asm.lddw(r1, 2 ** 53)).toThrow("pass larger integers as bigints");
    expect(() => asm.lddw(r1, 0.5)).toThrow(RangeError);
    expect(() => asm.lddw(r1, "1" as never)).toThrow(TypeError);
  });
});

describe("references", () => {
  test("are names in plain data until assembly", () => {
    const code = [asm.ldMap(r1, "m"), asm.jeq(r0, 0, "out"), asm.callFunction("f")];
    expect(code.map(({ reference }) => reference)).toEqual([
      { kind: "map", map: "m" },
      { kind: "label", name: "out" },
      { kind: "function", name: "f" },
    ]);
    expect(asm.exit()).not.toHaveProperty("reference");
  });

  test("to an open map do not read its file descriptor", () => {
    const map = {
      get fd(): number {
        throw new Error("closed");
      },
    };
    expect(asm.ldMap(r1, map).reference).toEqual({ kind: "map", map });
  });

  test("must be nonempty strings", () => {
    expect(() => asm.ja("")).toThrow(new TypeError('ja: target: expected a name, got ""'));
    expect(() => asm.label(3 as never)).toThrow(TypeError);
    expect(() => asm.func(undefined as never)).toThrow(TypeError);
    expect(() => asm.ldMap(r1, 3 as never)).toThrow(
      new TypeError("ldMap: map: expected the name of a map or an open map, got 3"),
    );
    expect(() => asm.ldMap(r1, "")).toThrow(TypeError);
    expect(() => asm.callKernelFunction("")).toThrow(TypeError);
  });
});

describe("call", () => {
  test("accepts the name of every helper", () => {
    for (const [name, id] of Object.entries(bpfHelpers)) {
      if (name !== "unspec") expect(asm.call(name as asm.HelperName).imm).toBe(id);
    }
    expect(bpfHelpers.map_lookup_elem).toBe(1);
  });

  test.each([
    ["map_lookup_elm", 'did you mean "map_lookup_elem"?'],
    ["bpf_map_lookup_elem", 'write it without bpf_: "map_lookup_elem"'],
    ["bpf_ktime_get_n", 'did you mean "ktime_get_ns"?'],
    ["rcu_read_lock_of_some_kind", "callKernelFunction()"],
    ["unspec", "got"],
    ["constructor", "got"],
  ])("rejects %s, which is not the name or number of a helper", (name, hint) => {
    expect(() => asm.call(name as never)).toThrow(TypeError);
    expect(() => asm.call(name as never)).toThrow(hint);
  });

  test("accepts only names of helpers as a type", () => {
    // @ts-expect-error: no helper has this name
    expect(() => asm.call("map_look_up")).toThrow();
    expect(() => asm.call(undefined as never)).toThrow(TypeError);
  });
});

describe("withSource", () => {
  const position = { file: "a.bpf", line: 3 };

  test("adds the position at any depth, and keeps existing positions", () => {
    const inner = { file: "a.bpf", line: 4 };
    const code = asm.withSource(
      [asm.label("x"), [asm.exit(), asm.withSource(asm.exit(), inner)]],
      position,
    );
    expect(code).toEqual([
      { label: "x" },
      [
        { ...asm.exit(), source: position },
        { ...asm.exit(), source: inner },
      ],
    ]);
  });

  test("does not change its argument", () => {
    const instruction = asm.exit();
    asm.withSource(instruction, position);
    expect(instruction).not.toHaveProperty("source");
  });

  test("rejects an invalid position", () => {
    expect(() => asm.withSource(asm.exit(), undefined as never)).toThrow(TypeError);
    expect(() => asm.withSource(asm.exit(), { file: "a", line: 0 })).toThrow(
      new TypeError("withSource: position.line: expected an integer from 1, got 0"),
    );
    expect(() => asm.withSource(asm.exit(), { file: "a", line: 1, column: 0.5 })).toThrow("column");
  });
});
