import { describe, expect, test } from "bun:test";
import * as asm from "../../src/asm/asm.ts";
import { decode, encode } from "../../src/asm/encode.ts";
import type { Instruction } from "../../src/asm/instruction.ts";
import { property } from "./random.ts";

const { r1, r3, mov, lddw } = asm;

describe("encode and decode", () => {
  test("reproduce any bytes", () => {
    property(300, (random) => {
      const bytes = random.bytes(8 * random.integer(0, 40));
      // Random bytes are rarely an lddw, so some are inserted, also without the second slot.
      for (let at = 0; at < bytes.length; at += 8) {
        if (random.integer(0, 3) === 0) bytes[at] = 0x18;
        if (random.integer(0, 2) === 0) bytes.fill(0, at, at + 4);
      }
      expect(encode(decode(bytes))).toEqual(bytes as Uint8Array<ArrayBuffer>);
    });
  });

  test("reproduce any instructions", () => {
    property(300, (random) => {
      const instructions = Array.from({ length: random.integer(1, 40) }, (): Instruction => {
        const wide = random.integer(0, 3) === 0;
        const opcode = random.integer(0, 255);
        return {
          opcode: wide ? 0x18 : opcode === 0x18 ? 0 : opcode,
          dst: random.integer(0, 15),
          src: random.integer(0, 15),
          offset: random.integer(-0x8000, 0x7fff),
          imm: wide ? (BigInt(random.u32()) << 32n) | BigInt(random.u32()) : random.u32() | 0,
        };
      });
      expect(decode(encode(instructions))).toEqual(instructions);
    });
  });

  test("read a view of a larger buffer", () => {
    const bytes = new Uint8Array(24);
    bytes.set(encode([mov(r3, 7)]), 11);
    expect(decode(bytes.subarray(11, 19))).toEqual([mov(r3, 7)]);
  });

  test("keep an lddw without its second slot as one slot", () => {
    const whole = encode([lddw(r1, 0x1_0000_0002n)]);
    expect(decode(whole.slice(0, 8))).toEqual([
      { opcode: 0x18, dst: 1, src: 0, offset: 0, imm: 2 },
    ]);
    whole[8] = 1;
    expect(decode(whole)).toHaveLength(2);
  });

  test("reject an incomplete slot", () => {
    expect(() => decode(new Uint8Array(12))).toThrow(
      new RangeError("decode: bytes: expected a multiple of 8 bytes, got 12"),
    );
  });
});
