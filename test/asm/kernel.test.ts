import { describe, expect } from "bun:test";
import { isKernelSince, type KernelVersion } from "../../src/ffi/kernel.ts";
import { ArrayMap, asm, type Code, Program, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { skipping } from "../support/skipping.ts";

const { r0, r1, r2, r3, r6, r10, mov, exit } = asm;

/** Code for one instruction each, by family, and the program's expected result in r0. */
const families: Readonly<Record<string, readonly [code: Code, expected: number][]>> = {
  "64-bit arithmetic": [
    [[mov(r0, 6), asm.add(r0, 2)], 8],
    [[mov(r0, 6), mov(r1, 2), asm.add(r0, r1)], 8],
    [[mov(r0, 6), asm.sub(r0, 2)], 4],
    [[mov(r0, 6), asm.mul(r0, 7)], 42],
    [[mov(r0, 43), asm.div(r0, 7)], 6],
    [[mov(r0, -43), asm.sdiv(r0, 7), asm.neg(r0)], 6],
    [[mov(r0, 43), asm.mod(r0, 7)], 1],
    [[mov(r0, -43), asm.smod(r0, 7), asm.neg(r0)], 1],
    [[mov(r0, 6), asm.or(r0, 9)], 15],
    [[mov(r0, 6), asm.and(r0, 12)], 4],
    [[mov(r0, 6), asm.xor(r0, 12)], 10],
    [[mov(r0, 6), asm.lsh(r0, 4)], 96],
    [[asm.lddw(r0, 0x12_0000_0000n), asm.rsh(r0, 32)], 0x12],
    [[mov(r0, -64), asm.arsh(r0, 4), asm.neg(r0)], 4],
    [[mov(r0, -5), asm.neg(r0)], 5],
  ],
  "32-bit arithmetic": [
    [[asm.mov32(r0, 6), asm.add32(r0, -2)], 4],
    [[mov(r0, 6), mov(r1, 2), asm.sub32(r0, r1)], 4],
    [[mov(r0, 6), asm.mul32(r0, 7)], 42],
    [[mov(r0, -2), asm.div32(r0, 2)], 0x7fff_ffff],
    [[asm.mov32(r0, -43), asm.sdiv32(r0, 7), asm.neg32(r0)], 6],
    [[mov(r0, 43), asm.mod32(r0, 7)], 1],
    [[asm.mov32(r0, -43), asm.smod32(r0, 7), asm.neg32(r0)], 1],
    [[mov(r0, 6), asm.or32(r0, 9), asm.and32(r0, 13), asm.xor32(r0, 1)], 12],
    [[mov(r0, 1), asm.lsh32(r0, 31), asm.rsh32(r0, 30)], 2],
    [[asm.mov32(r0, -64), asm.arsh32(r0, 4), asm.neg32(r0)], 4],
  ],
  "sign extension and byte order": [
    [[mov(r1, 0xff), asm.movsx8(r0, r1), asm.neg(r0)], 1],
    [[mov(r1, 0xfffe), asm.movsx16(r0, r1), asm.neg(r0)], 2],
    [[asm.mov32(r1, -3), asm.movsx32(r0, r1), asm.neg(r0)], 3],
    [[mov(r1, 0xff), asm.mov32sx8(r0, r1)], 0xffff_ffff],
    [[mov(r1, 0xfffe), asm.mov32sx16(r0, r1)], 0xffff_fffe],
    [[mov(r0, 0x1234), asm.be16(r0)], 0x3412],
    [[mov(r0, 0x12345678), asm.be32(r0)], 0x78563412],
    [[mov(r0, 0x12), asm.be64(r0), asm.rsh(r0, 56)], 0x12],
    [[mov(r0, 0x12345), asm.le16(r0)], 0x2345],
    [[mov(r0, 0x12345), asm.le32(r0), asm.le64(r0)], 0x12345],
    [[mov(r0, 0x1234), asm.bswap16(r0)], 0x3412],
    [[mov(r0, 0x12345678), asm.bswap32(r0)], 0x78563412],
    [[mov(r0, 0x12), asm.bswap64(r0), asm.rsh(r0, 56)], 0x12],
  ],
  "loads and stores": [
    [[asm.stdw(r10, -8, 0), asm.stb(r10, -8, 0xfe), asm.ldxb(r0, r10, -8)], 0xfe],
    [[asm.stdw(r10, -8, 0), asm.sth(r10, -8, 0xfedc), asm.ldxh(r0, r10, -8)], 0xfedc],
    [[asm.stw(r10, -8, 7), asm.ldxw(r0, r10, -8)], 7],
    [[asm.stdw(r10, -8, -1), asm.ldxdw(r0, r10, -8), asm.neg(r0)], 1],
    [[asm.stdw(r10, -8, -2), asm.ldxsb(r0, r10, -8), asm.neg(r0)], 2],
    [[asm.stdw(r10, -8, -3), asm.ldxsh(r0, r10, -8), asm.neg(r0)], 3],
    [[asm.stdw(r10, -8, -4), asm.ldxsw(r0, r10, -8), asm.neg(r0)], 4],
    [[mov(r1, 0x0abc), asm.stdw(r10, -8, 0), asm.stxb(r10, -8, r1), asm.ldxw(r0, r10, -8)], 0xbc],
    [[mov(r1, 0x0abc), asm.stdw(r10, -8, 0), asm.stxh(r10, -8, r1), asm.ldxw(r0, r10, -8)], 0xabc],
    [[mov(r1, 5), asm.stxw(r10, -8, r1), asm.ldxw(r0, r10, -8)], 5],
    [[mov(r1, 6), asm.stxdw(r10, -8, r1), asm.ldxdw(r0, r10, -8)], 6],
    [[asm.lddw(r0, 0xffff_ffffn)], 0xffff_ffff],
  ],
  // In a socket filter, offsets count from the end of the Ethernet header.
  "legacy packet loads": [
    [[mov(r6, r1), asm.ldAbsB(1)], 15],
    [[mov(r6, r1), asm.ldAbsH(2)], 0x1011],
    [[mov(r6, r1), asm.ldAbsW(4)], 0x12131415],
    [[mov(r6, r1), mov(r2, 3), asm.ldIndB(r2, 1)], 18],
    [[mov(r6, r1), mov(r2, 3), asm.ldIndH(r2, 1)], 0x1213],
    [[mov(r6, r1), mov(r2, 3), asm.ldIndW(r2, 1)], 0x12131415],
  ],
};

/** Atomic operations on 12 at `fp - 8` with the operand 10 in r2: the new number in memory, and the new value of r2. */
const atomics: Readonly<Record<string, [after: number, operand: number]>> = {
  atomicAdd: [22, 10],
  atomicOr: [14, 10],
  atomicAnd: [8, 10],
  atomicXor: [6, 10],
  atomicFetchAdd: [22, 12],
  atomicFetchOr: [14, 12],
  atomicFetchAnd: [8, 12],
  atomicFetchXor: [6, 12],
  xchg: [10, 12],
};

/** First kernel version with all instructions of a family. */
const minimum: Readonly<Record<string, KernelVersion>> = {
  "64-bit arithmetic": "6.6",
  "32-bit arithmetic": "6.6",
  "sign extension and byte order": "6.6",
  "loads and stores": "6.6",
};

/** Defines a test that is skipped on kernels before a version. */
function since(version: KernelVersion, name: string, body: () => void): void {
  const define = isKernelSince(version) ? bpfTest : skipping(`it needs kernel ${version}`);
  define(name, body);
}

/** Jumps that are taken for 5 and 3, and those that are not taken. */
const jumps = ["jne", "jgt", "jge", "jsgt", "jsge"] as const;
const converseJumps = ["jeq", "jlt", "jle", "jslt", "jsle"] as const;

const packet = Uint8Array.from({ length: 64 }, (_, index) => index);

function run(code: Code, maps = {}): number {
  using program = new Program({ section: "socket", license: "GPL", code: [code, exit()], maps });
  return program.testRun({ data: packet }).returnValue;
}

describe("the kernel loads and runs", () => {
  for (const [family, cases] of Object.entries(families)) {
    since(minimum[family] ?? "5.8", family, () => {
      for (const [index, [code, expected]] of cases.entries()) {
        expect({ index, value: run(code) }).toEqual({ index, value: expected });
      }
    });
  }

  since("5.12", "atomic operations of 64 and 32 bits", () => {
    for (const [name, [after, operand]] of Object.entries(atomics)) {
      for (const suffix of ["", "32"]) {
        const operation = asm[`${name}${suffix}` as "atomicFetchAdd"];
        const code = [
          ...[asm.stdw(r10, -8, 12), mov(r2, 10), operation(r10, -8, r2)],
          ...[asm.ldxdw(r0, r10, -8), asm.lsh(r2, 8), asm.or(r0, r2)],
        ];
        expect({ name: name + suffix, value: run(code) }).toEqual({
          name: name + suffix,
          value: after | (operand << 8),
        });
      }
    }
  });

  since("5.12", "compare and exchange, with the old value in r0", () => {
    for (const exchange of [asm.cmpxchg, asm.cmpxchg32]) {
      for (const [expected, after] of [
        [12, 10],
        [11, 12],
      ] as const) {
        const code = [
          ...[asm.stdw(r10, -8, 12), mov(r2, 10), mov(r0, expected), exchange(r10, -8, r2)],
          ...[asm.lsh(r0, 8), asm.ldxdw(r3, r10, -8), asm.or(r0, r3)],
        ];
        expect(run(code)).toBe((12 << 8) | after);
      }
    }
  });

  since("6.15", "load-acquire and store-release of every size", () => {
    for (const [load, store] of [
      [asm.loadAcquireB, asm.storeReleaseB],
      [asm.loadAcquireH, asm.storeReleaseH],
      [asm.loadAcquireW, asm.storeReleaseW],
      [asm.loadAcquireDW, asm.storeReleaseDW],
    ] as const) {
      using value = new ArrayMap({ value: t.u64, length: 1 });
      const code = [
        ...[asm.ldMapValue(r6, "value", 0), mov(r2, 0x5a)],
        ...[store(r6, 0, r2), load(r0, r6, 0)],
      ];
      expect(run(code, { value })).toBe(0x5a);
      expect(value.get(0)).toBe(0x5an);
    }
  });

  bpfTest("conditional jumps on registers and immediates, of 64 and 32 bits", () => {
    for (const [names, left, right, taken] of [
      [jumps, 5, 3, 1],
      [converseJumps, 5, 3, 0],
      [jumps, 3, 5, "jne"],
    ] as const) {
      for (const name of names) {
        for (const jump of [asm[name], asm[`${name}32`]]) {
          for (const operand of [right, r2] as const) {
            const code = [
              ...[mov(r1, left), mov(r2, right), mov(r0, 1), jump(r1, operand, "taken")],
              ...[mov(r0, 0), asm.label("taken")],
            ];
            const expected = taken === "jne" ? Number(name === "jne") : taken;
            expect({ name, value: run(code) }).toEqual({ name, value: expected });
          }
        }
      }
    }
    const set = (jump: typeof asm.jset) => [
      ...[mov(r1, 6), mov(r0, 1), jump(r1, 2, "taken"), mov(r0, 0), asm.label("taken")],
    ];
    expect([run(set(asm.jset)), run(set(asm.jset32))]).toEqual([1, 1]);
  });

  since("6.6", "jumps without a condition", () => {
    for (const jump of [asm.ja, asm.gotol]) {
      const code = [
        ...[asm.jeq(r1, 0, "never"), mov(r0, 1), jump("out")],
        ...[asm.label("never"), mov(r0, 0), asm.label("out")],
      ];
      expect(run(code)).toBe(1);
    }
  });

  since("6.9", "may_goto loops", () => {
    const loop = [
      ...[mov(r0, 0), asm.label("again"), asm.mayGoto("out"), asm.add(r0, 1)],
      ...[asm.jlt(r0, 1000, "again"), asm.label("out")],
    ];
    expect(run(loop)).toBe(1000);
  });
});
