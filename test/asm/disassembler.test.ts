import { describe, expect, test } from "bun:test";
import * as asm from "../../src/asm/asm.ts";
import { assemble } from "../../src/asm/assembler.ts";
import { disassemble, disassembleInstruction } from "../../src/asm/disassembler.ts";
import { decode, encode } from "../../src/asm/encode.ts";
import type { Instruction } from "../../src/asm/instruction.ts";
import { documentedRows } from "./documented.ts";
import { assembled, compiled } from "./encodings.ts";
import { property } from "./random.ts";

const { r0, r1, r2, r3, r10 } = asm;

const fromHex = (hex: string) =>
  Uint8Array.from(hex.split(" "), (byte) => Number.parseInt(byte, 16));

describe("disassembleInstruction", () => {
  test.each(documentedRows)("matches the documentation: $text", ({ text, bytes }) => {
    expect(decode(fromHex(bytes)).map(disassembleInstruction)).toEqual([text]);
  });

  /** Converts LLVM's notation to the kernel's. */
  function kernelText(text: string): string {
    return text
      .replace(/\(r(\d+) ([+-]) (\d+)\)/, "(r$1 $2$3)")
      .replace(/goto ([+-])/, "goto $1")
      .replace(/(\S+) goto/, (_, operand: string) =>
        /^-?\d+$/.test(operand)
          ? `0x${(Number(operand) >>> 0).toString(16)} goto`
          : `${operand} goto`,
      )
      .replace(/skb\[r(\d+)\]/, "skb[r$1 + 0]")
      .replace(
        /(-?\d+) ll/,
        (_, value: string) => `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`,
      )
      .replace(/^call 1$/, "call bpf_map_lookup_elem#1")
      .replace(/^call 131$/, "call bpf_ringbuf_reserve#131")
      .replace(/^lock (.*) w(\d+)$/, "lock $1 r$2");
  }

  test.each(assembled)("matches LLVM: $text", ({ text, instruction }) => {
    expect(disassembleInstruction(instruction)).toBe(kernelText(text));
  });

  test.each([
    [asm.atomicFetchAdd(r1, 0, r2), "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)"],
    [asm.atomicFetchOr32(r1, -4, r2), "r2 = atomic_fetch_or((u32 *)(r1 -4), r2)"],
    [asm.atomicFetchAnd(r1, 0, r2), "r2 = atomic64_fetch_and((u64 *)(r1 +0), r2)"],
    [asm.atomicFetchXor(r1, 0, r2), "r2 = atomic64_fetch_xor((u64 *)(r1 +0), r2)"],
    [asm.xchg(r1, 0, r2), "r2 = atomic64_xchg((u64 *)(r1 +0), r2)"],
    [asm.xchg32(r1, 0, r2), "r2 = atomic_xchg((u32 *)(r1 +0), r2)"],
    [asm.cmpxchg(r1, 0, r2), "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"],
    [asm.cmpxchg32(r1, 0, r2), "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)"],
    [asm.call(9999), "call unknown#9999"],
    [asm.ldIndW(r3, -4), "r0 = *(u32 *)skb[r3 + -4]"],
  ])("%j: %s", (instruction, text) => {
    expect(disassembleInstruction(instruction)).toBe(text);
  });

  test.each([
    [asm.jeq(r0, 0, "out"), "if r0 == 0x0 goto out"],
    [asm.ja("out"), "goto out"],
    [asm.gotol("out"), "gotol out"],
    [asm.mayGoto("out"), "may_goto out"],
    [asm.callFunction("step"), "call step"],
    [asm.callKernelFunction("bpf_rcu_read_lock"), "call bpf_rcu_read_lock"],
    [asm.ldMap(r1, "counts"), "r1 = map[counts]"],
    [asm.ldMap(r1, { fd: 5 }), "r1 = map[fd:5]"],
    [asm.ldMapValue(r1, "data", 8), "r1 = map[data][0]+8"],
    [asm.ldFunc(r1, "step"), "r1 = subprog[step]"],
    [asm.ldKernelSymbol(r1, "runqueues"), "r1 = ksym[runqueues]"],
  ])("shows the name of a reference (%#): %s", (instruction, text) => {
    expect(disassembleInstruction(instruction as Instruction)).toBe(text as string);
  });

  test.each([
    [asm.ldMap(r1, "m"), "r1 = map[fd:5]"],
    [asm.ldMapValue(r1, "m", 8), "r1 = map[fd:5][0]+8"],
    [asm.ldKernelSymbol(r1, "s"), "r1 = ksym[btf:7]"],
    [asm.callKernelFunction("f"), "call kernel-function#8"],
    [asm.callFunction("main"), "call pc-1"],
    [asm.ldFunc(r1, "main"), "r1 = subprog[-1]"],
  ])("shows the number of a reference in encoded instructions (%#): %s", (instruction, text) => {
    const code = [asm.func("main"), instruction as Instruction, asm.exit()];
    const { bytes } = assemble(code, {
      map: () => 5,
      kernelSymbol: () => ({ id: 7 }),
      kernelFunction: () => ({ id: 8 }),
    });
    expect(decode(bytes).map(disassembleInstruction)[0]).toBe(text as string);
  });

  test.each([
    ["18 51 00 00 03 00 00 00 00 00 00 00 00 00 00 00", "r1 = map[idx:3]"],
    ["18 61 00 00 03 00 00 00 00 00 00 00 10 00 00 00", "r1 = map[idx:3][0]+16"],
    ["18 31 00 00 07 00 00 00 00 00 00 00 06 00 00 00", "r1 = ksym[btf:7 in fd:6]"],
    ["bf 21 ff ff 00 00 00 00", "r1 = &(void __percpu *)(r2)"],
    ["c2 00 00 00 00 00 00 00", "nospec"],
    ["85 10 00 00 fe ff ff ff", "call pc-2"],
  ])("shows instructions that only other loaders or the kernel make: %s", (hex, text) => {
    expect(decode(fromHex(hex)).map(disassembleInstruction)).toEqual([text]);
  });

  test.each([
    ["an unknown operation", "e7 01 00 00 05 00 00 00"],
    ["an unknown register", "bf b1 00 00 00 00 00 00"],
    ["an offset on an addition", "07 01 01 00 05 00 00 00"],
    ["a signed move of 24 bits", "bf 21 18 00 00 00 00 00"],
    ["a 32-bit move of 32 bits", "bc 21 20 00 00 00 00 00"],
    ["a swap of 24 bits", "dc 01 00 00 18 00 00 00"],
    ["a swap with a reserved bit", "df 01 00 00 10 00 00 00"],
    ["negation of another register", "8f 21 00 00 00 00 00 00"],
    ["a signed load of 64 bits", "99 21 00 00 00 00 00 00"],
    ["an atomic of 8 bits", "d3 21 00 00 00 00 00 00"],
    ["an unknown atomic", "db 21 00 00 10 00 00 00"],
    ["a 64-bit packet load", "38 00 00 00 00 00 00 00"],
    ["half an lddw", "18 01 00 00 05 00 00 00"],
    ["an lddw of no known kind", "18 71 00 00 05 00 00 00 00 00 00 00 00 00 00 00"],
    ["a call of no known kind", "85 30 00 00 05 00 00 00"],
    ["an exit of the 32-bit class", "96 00 00 00 00 00 00 00"],
    ["an unknown pseudo condition", "e5 10 01 00 00 00 00 00"],
  ])("%s is shown as bytes", (_, hex) => {
    expect(decode(fromHex(hex)).map(disassembleInstruction)).toEqual([`bytes ${hex}`]);
  });

  test("shows a closed map", () => {
    const map = {
      get fd(): number {
        throw new Error("closed");
      },
    };
    expect(disassembleInstruction(asm.ldMap(r1, map))).toBe("r1 = map[closed]");
  });
});

describe("disassemble", () => {
  const position = { file: "drop.bpf", line: 7, text: "  return 1;" };
  const code = [
    asm.func("main"),
    asm.ldxw(r0, r1, 0),
    asm.lddw(r2, 0xdeadbeefcafen),
    asm.jeq(r0, 0, "out"),
    asm.withSource([asm.mov(r0, 1), asm.stxdw(r10, -8, r0)], position),
    [asm.label("out"), asm.exit()],
  ];

  test("shows labels, functions and source positions", () => {
    expect(disassemble(code)).toBe(`func main
   0: (61) r0 = *(u32 *)(r1 +0)
   1: (18) r2 = 0xdeadbeefcafe
   3: (15) if r0 == 0x0 goto out
; return 1; @ drop.bpf:7
   4: (b7) r0 = 1
   5: (7b) *(u64 *)(r10 -8) = r0
out:
   6: (95) exit`);
  });

  test("shows encoded instructions", () => {
    expect(disassemble(assemble(code).bytes)).toBe(`   0: (61) r0 = *(u32 *)(r1 +0)
   1: (18) r2 = 0xdeadbeefcafe
   3: (15) if r0 == 0x0 goto pc+2
   4: (b7) r0 = 1
   5: (7b) *(u64 *)(r10 -8) = r0
   6: (95) exit`);
  });

  test("shows the label in an instruction", () => {
    expect(disassemble([{ ...asm.exit(), label: "out" }])).toBe("out:\n   0: (95) exit");
  });

  test("shows an empty program, and the remaining bytes of an incomplete slot", () => {
    expect(disassemble([])).toBe("");
    expect(disassemble(new Uint8Array(0))).toBe("");
    expect(disassemble(new Uint8Array([...encode([asm.exit()]), 0xb7, 1]))).toBe(
      "   0: (95) exit\n      bytes b7 01",
    );
  });

  test("shows all of random bytes without throwing", () => {
    property(300, (random) => {
      const bytes = random.bytes(random.integer(0, 400));
      for (let at = 0; at < bytes.length; at += 8) {
        // Half of the instructions have valid registers, so that more than the first check is reached.
        if (random.integer(0, 1) === 0)
          bytes[at + 1] = random.integer(0, 10) | (random.integer(0, 10) << 4);
      }
      const text = disassemble(bytes);
      const whole = decode(bytes.subarray(0, bytes.length - (bytes.length % 8)));
      const rest = bytes.length % 8 === 0 ? 0 : 1;
      const count = text === "" ? 0 : text.split("\n").length;
      expect(count).toBe(whole.length + rest);
      expect(text).not.toMatch(/undefined|NaN|null|object/);
    });
  });

  test("shows different texts for instructions that differ to the kernel", () => {
    const rows = [...assembled, ...compiled, ...documentedRows];
    const texts = new Map<string, string>();
    for (const { instruction } of rows) {
      const text = disassembleInstruction(instruction);
      const identity = JSON.stringify(instruction, (_, value) =>
        typeof value === "bigint" ? `${value}n` : value,
      );
      expect(texts.get(text) ?? identity).toBe(identity);
      texts.set(text, identity);
      expect(text).not.toStartWith("bytes");
    }
  });
});
