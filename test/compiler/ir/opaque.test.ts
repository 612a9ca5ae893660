import { expect } from "bun:test";
import { asm, type Code, Program, VerifierError } from "../../../src/index.ts";
import { isKernelSince } from "../../../src/ffi/kernel.ts";
import { bpfTest } from "../../support/privilege.ts";

const { r0, r1, r6, r7, r8, r9 } = asm;
/** The version by which all architectures have may_goto. */
const mayGotoSince = "6.10";
const packet = new Uint8Array(62);
/** The length that a socket filter sees: without the Ethernet header. */
const seenLength = packet.length - 14;

/** Instructions after which a register has the same value, about which the verifier knows nothing. */
const opaque = (register: Parameters<typeof asm.xor>[0]): Code => [
  asm.xor(register, r9),
  asm.xor(register, r9),
];

/**
 * Counts in a loop the iterations in which an unknown value is odd, and again those in which the count is above 100.
 *
 * @param forget Instructions at the header.
 */
function counting(iterations: number, forget: Code, leave: Code = []): Code {
  return [
    asm.mov(r8, r1),
    asm.call("ktime_get_ns"),
    asm.mov(r9, r0),
    asm.mov(r6, 0),
    asm.mov(r7, 0),
    asm.label("header"),
    leave,
    forget,
    asm.jge(r6, iterations, "out"),
    asm.ldxw(r0, r8, 0),
    asm.rsh(r0, 1),
    asm.jset(r0, 1, "skip"),
    asm.add(r7, 1),
    asm.label("skip"),
    asm.jle(r7, 100, "small"),
    asm.add(r7, 2),
    asm.label("small"),
    asm.add(r6, 1),
    asm.ja("header"),
    asm.label("out"),
    asm.mov(r0, r7),
    asm.exit(),
  ];
}

/** Returns what the loop counts: half of the packet's length is even. */
function counted(iterations: number): number {
  let count = 0;
  for (let index = 0; index < iterations; index++) {
    if (((seenLength >> 1) & 1) === 0) count++;
    if (count > 100) count += 2;
  }
  return count;
}

const load = (code: Code) => new Program({ section: "socket", license: "GPL", code });

bpfTest(
  "the verifier gives up a loop with an accumulator, which is accepted when the accumulator is opaque",
  () => {
    expect(() => load(counting(256, []))).toThrow(VerifierError);
    using program = load(counting(256, opaque(r7)));
    expect(program.testRun({ data: packet }).returnValue).toBe(counted(256));
  },
);

bpfTest("flags that many conditions set are accepted if they are opaque after every third", () => {
  const code = (every: number): Code => [
    asm.mov(r8, r1),
    asm.call("ktime_get_ns"),
    asm.mov(r9, r0),
    asm.mov(r6, 0),
    asm.ldxw(r7, r8, 0),
    Array.from({ length: 24 }, (_, bit) => [
      asm.jset(r7, 1 << bit, `not${bit}`),
      asm.or(r6, 1 << bit),
      asm.label(`not${bit}`),
      bit % every === every - 1 ? opaque(r6) : [],
    ]),
    asm.mov(r0, 1),
    asm.jeq(r6, 5, "five"),
    asm.mov(r0, r6),
    asm.label("five"),
    asm.exit(),
  ];
  expect(() => load(code(100))).toThrow(VerifierError);
  using program = load(code(3));
  expect(program.testRun({ data: packet }).returnValue).toBe(~seenLength & 0xff_ffff);
});

bpfTest("a long loop is accepted with may_goto when its counter is opaque, too", () => {
  if (!isKernelSince(mayGotoSince)) return;
  expect(() => load(counting(50_000, opaque(r7)))).toThrow(VerifierError);
  const code = counting(50_000, [opaque(r7), opaque(r6)], [asm.mayGoto("out")]);
  using program = load(code);
  expect(program.testRun({ data: packet }).returnValue).toBe(counted(50_000));
});
