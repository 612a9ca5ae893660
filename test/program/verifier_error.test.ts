import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import {
  ArrayMap,
  asm,
  assemble,
  BpfError,
  type Code,
  Program,
  RingBuf,
  t,
  VerifierError,
  type SectionName,
} from "../../src/index.ts";
import type { VerifierLog } from "../../src/index.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { syscalls } from "../../src/ffi/libc.ts";
import { MappedMemory } from "../../src/ffi/mapped_memory.ts";
import { VerifierError as Subject } from "../../src/program/verifier_error.ts";
import { BPF_PROG_LOAD } from "../../src/uapi/commands.ts";
import { ENOMEM } from "../../src/uapi/errno.ts";
import { Producer } from "../ring/producer.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const { r0, r1, r2, r3, r6, r7, r10 } = asm;

function load(
  code: Code,
  rest: { license?: string; log?: VerifierLog; section?: SectionName } = {},
) {
  return new Program({ section: "socket", license: "GPL", code, ...rest });
}

/** Returns the error of a program that must be rejected. */
function rejection(code: Code, rest: Parameters<typeof load>[1] = {}): VerifierError {
  try {
    using _program = load(code, rest);
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  return expect.unreachable("the verifier accepted it");
}

/** Returns a program for which the verifier writes about `count` lines. */
function longCode(count: number, end: Code): Code {
  return [
    asm.mov(r0, 0),
    ...Array.from({ length: count }, (_, index) => asm.add(r0, index % 100)),
    end,
  ];
}

/** Returns a valid program with a long verbose log: two spilled values in a loop. */
function spilling(rounds: number): Code {
  return [
    asm.mov(r6, 0),
    asm.ldxw(r7, r1, 0),
    asm.stxdw(r10, -8, r1),
    asm.stxdw(r10, -16, r7),
    asm.label("again"),
    asm.ldxdw(r2, r10, -8),
    asm.ldxdw(r3, r10, -16),
    asm.stxdw(r10, -16, r3),
    asm.add(r6, 1),
    asm.jlt(r6, rounds, "again"),
    asm.mov(r0, 0),
    asm.exit(),
  ];
}

/** Counts calls of BPF_PROG_LOAD, and passes them to the kernel. */
function countLoads() {
  const bpf = spyOn(syscalls, "bpf");
  return {
    get loads() {
      return bpf.mock.calls.filter(([, command]) => command === BPF_PROG_LOAD).length;
    },
    [Symbol.dispose]: () => bpf.mockRestore(),
  };
}

/** Makes mappings of more than `limit` bytes fail, as a limit on the address space would. */
function limitMappings(limit: number) {
  const original = MappedMemory.anonymous;
  return spyOn(MappedMemory, "anonymous").mockImplementation((length, what) => {
    if (length <= limit) return original.call(MappedMemory, length, what);
    throw new BpfError({ errno: ENOMEM, syscall: "mmap", doing: "map memory" });
  });
}

bpfTest("the message has the reason, an explanation, the place and the end of the log", () => {
  const error = rejection([asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]);
  expect(error).toMatchObject({
    name: "VerifierError",
    code: "EACCES",
    errno: 13,
    syscall: "bpf(BPF_PROG_LOAD)",
  });
  // Kernels before 5.18 call a scalar "inv".
  expect(error.reason).toMatch(/^R1 invalid mem access '(scalar|inv)'$/);
  const [headline, hint, ...rest] = error.message.split("\n");
  expect(headline).toBe(
    `cannot load the socket program: the verifier rejected it: ${error.reason}`,
  );
  expect(hint).toStartWith(
    "r1 is a number here, not a pointer. Memory can be accessed only through pointers",
  );
  expect(hint).toBe(error.hint ?? "");
  expect(rest.slice(0, 6)).toEqual([
    "At slot 1:",
    "    0: r1 = 0",
    "  > 1: r0 = *(u32 *)(r1 +0)",
    "    2: exit",
    "The end of the verifier's log:",
    expect.stringMatching(/^ {2}(0: R1=ctx|; |func#0|0: \(b7\))/) as unknown as string,
  ]);
  expect(error.message).not.toContain("processed");
  expect(error.log).toContain("0: (b7) r1 = 0");
  expect(error.log).toMatch(/processed \d+ insns/);
});

bpfTest("the message has the end of a long log, and `log` all of it", () => {
  const error = rejection(longCode(100, [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]));
  const lines = error.message.split("\n");
  expect(lines.length).toBe(2 + 1 + 5 + 1 + 6);
  expect(lines.at(-1)).toMatch(/^ {2}102: \(61\) r0 = \*\(u32 \*\)\(r1 \+0\)/);
  expect(error.log).toContain("0: (b7) r0 = 0");
});

bpfTest("a log of a megabyte is complete", () => {
  const error = rejection(longCode(25_000, [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]));
  expect(error.code).toBe("EACCES");
  expect(error.log.length).toBeGreaterThan(25_000 * 15);
  expect(error.log).toContain("0: (b7) r0 = 0");
  using accepted = load(longCode(25_000, [asm.exit()]), { log: "verbose" });
  expect(accepted.log.length).toBeGreaterThan(25_000 * 15);
  expect(accepted.log).toContain("0: (b7) r0 = 0");
  expect(accepted.log).toMatch(/processed \d+ insns/);
});

bpfTest(
  "a program that is too complex is loaded twice, and the error fits one screen",
  async () => {
    const { stdout, stderr, exitCode } = await runBun(
      [join(import.meta.dir, "children/too_complex.ts")],
      { timeout: 300_000 },
    );
    expect(exitCode).toBe(1);
    const { loads, code, reason, hint, message, logLength, logEnd } = JSON.parse(stdout);
    expect({ loads, code, reason }).toEqual({
      loads: 2,
      code: "E2BIG",
      reason: "BPF program is too large. Processed 1000001 insn",
    });
    expect(hint).toMatch(/^The verifier gave up after 1,000,000 instructions: .*bpf_loop\(\)/);
    expect(message).toContain('At slot 1, after label "again":');
    expect(logLength).toBeGreaterThan(16 * 2 ** 20);
    expect(logEnd).toMatch(
      /\nBPF program is too large[^\n]*\n[^]*processed 1000001 insns[^\n]*\n$/,
    );
    const [caught, uncaught, ...others] = stderr.split("--------\n");
    expect(others).toEqual([]);
    for (const text of [caught, uncaught]) {
      expect(text).toContain(message);
      expect(text?.length).toBeLessThan(3000);
      // The message has 14 lines. The engine adds source lines, the stack and its version.
      expect(text?.split("\n").length).toBeLessThan(45);
    }
  },
  300_000,
);

bpfTest("a rejected program is loaded at most twice with any log level", () => {
  const bad = [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()];
  const expected = { none: 2, instructions: 1, verbose: 1, statistics: 2 } as const;
  for (const [log, loads] of Object.entries(expected) as [VerifierLog, number][]) {
    using calls = countLoads();
    expect(rejection(bad, { log }).message).toContain("  > 1: r0 = *(u32 *)(r1 +0)");
    expect(calls.loads).toBe(loads);
  }
});

bpfTest("a valid program with a long verbose log loads with one call", () => {
  using calls = countLoads();
  using program = load(spilling(10_000), { log: "verbose" });
  expect(calls.loads).toBe(1);
  expect(program.log.length).toBeGreaterThan(16 * 2 ** 20);
  expect(program.log).toMatch(/\nprocessed \d+ insns[^\n]*\n$/);
});

bpfTest("a valid program whose log does not fit is loaded, and has the end of the log", () => {
  using calls = countLoads();
  const limit = limitMappings(128 * 1024);
  using program = load(spilling(5_000), { log: "verbose" });
  limit.mockRestore();
  expect(calls.loads).toBe(2);
  expect(program.log.length).toBeGreaterThan(32 * 1024);
  expect(program.log.length).toBeLessThan(128 * 1024);
  // Kernels before 6.4 keep the beginning of a log, and the end cannot be had.
  if (isKernelSince("6.4")) expect(program.log).toMatch(/\nprocessed \d+ insns[^\n]*\n$/);
  expect(program.testRun({ data: new Uint8Array(14) }).returnValue).toBe(0);
});

bpfTest("a rejected program whose log does not fit has the errno of its rejection", () => {
  using _ = limitMappings(128 * 1024);
  const bad = longCode(10_000, [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]);
  for (const log of ["none", "verbose", "statistics"] as const) {
    using calls = countLoads();
    const error = rejection(bad, { log });
    expect(calls.loads).toBe(2);
    expect(error.code).toBe("EACCES");
    expect(error.log.length).toBeLessThan(128 * 1024);
    if (!isKernelSince("6.4")) continue;
    expect(error.reason).toMatch(/^R1 invalid mem access/);
    // The log begins with a complete line.
    expect(error.log).toMatch(/^\d+: /);
  }
});

bpfTest("a printed error shows nothing twice", () => {
  const error = rejection([asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]);
  const text = Bun.inspect(error);
  for (const once of ["invalid mem access", "is a number here", "(61) r0 =", "EACCES"]) {
    expect([once, text.split(once).length - 1]).toEqual([once, 1]);
  }
  expect(text).not.toContain("processed");
  expect(Object.keys(error).sort()).toEqual(["code", "errno", "name", "syscall"].sort());
});

bpfTest("an accepted program has the log of the requested level", () => {
  const code = [asm.mov(r0, 0), asm.exit()];
  const logs = (["none", "instructions", "verbose", "statistics"] as const).map((log) => {
    using program = load(code, { log });
    return program.log;
  });
  const [none = "", instructions = "", verbose = "", statistics = ""] = logs;
  expect(none).toBe("");
  // The kernel removes the lines of an accepted path, except at the level "verbose".
  expect(instructions).toMatch(/processed 2 insns/);
  expect(verbose).toContain("0: (b7) r0 = 0");
  expect(statistics).toMatch(/^processed 2 insns|^verification time/);
  expect(statistics).not.toContain("(b7)");
});

bpfTest("the error of a rejected program has the log", () => {
  const code = [asm.exit()];
  for (const log of ["none", "instructions", "verbose"] as const) {
    expect(rejection(code, { log }).log).toContain("R0 !read_ok");
  }
});

bpfTest("the error about a helper for GPL-compatible programs names the license", () => {
  const code = [
    asm.mov(r1, r10),
    asm.add(r1, -8),
    asm.mov(r2, 8),
    asm.mov(asm.r3, 0),
    asm.call("probe_read_kernel"),
    asm.mov(r0, 0),
    asm.exit(),
  ];
  expect(rejection(code, { license: "Proprietary", section: "raw_tp" }).message).toContain("GPL");
  using accepted = load(code, { license: "Dual MIT/GPL", section: "raw_tp" });
  expect(accepted.disposed).toBe(false);
});

bpfTest("a load that a consumer's wake-up interrupts is retried", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  using state = new ArrayMap({ value: t.u64, length: 1 });
  // A loop of 200,000 instructions, which the verifier takes long enough to process for a wake-up to arrive.
  const code = [
    asm.ldMapValue(r6, state, 0),
    asm.mov(r0, 0),
    asm.label("again"),
    asm.ldxdw(r1, r6, 0),
    asm.add(r0, 1),
    asm.jlt(r0, 50_000, "again"),
    asm.mov(r0, 0),
    asm.exit(),
  ];
  for (let round = 0; round < 5; round++) {
    const iterator = ring[Symbol.asyncIterator]();
    const next = iterator.next();
    // The wait is armed. This record makes its completion pending, which interrupts the verifier like a signal.
    producer.putNumber(round);
    using program = load(code);
    expect(program.log).toBe("");
    expect(await next).toEqual({ done: false, value: round });
    await iterator.return?.();
  }
});

/** Returns the error for a log. */
function errorOf(log: string, code: Code = [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]) {
  const options = { errno: 22, syscall: "bpf(BPF_PROG_LOAD)", doing: "load the program" };
  return new Subject(options, log, assemble(code));
}

test("the reason is the last line of a log that is not part of its trace", () => {
  const error = errorOf(
    "0: (95) exit\nsomething that nobody knows\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n",
    [asm.exit()],
  );
  expect(error.reason).toBe("something that nobody knows");
  expect(error.hint).toBeUndefined();
  expect(error.message).toBe(
    "cannot load the program: the verifier rejected it: something that nobody knows\nAt slot 0:\n  > 0: exit\nThe end of the verifier's log:\n  0: (95) exit",
  );
});

test("a log without a reason is reported with the errno", () => {
  const error = errorOf(
    "0: R1=ctx() R10=fp0\n0: (b7) r1 = 0 ; R1=0\nprocessed 1 insns (limit 1)\n",
  );
  expect(error.reason).toBeUndefined();
  expect(error.message).toStartWith(
    "cannot load the program: the verifier rejected it: EINVAL, without a reason in the log\nAt slot 0:\n",
  );
});

test("long lines are cut, and lines far from the reason are left out", () => {
  const lines = Array.from({ length: 20 }, (_, line) => `${line}: (b7) r1 = ${"0".repeat(400)}`);
  const error = errorOf([...lines, `R1 !read_ok ${"x".repeat(400)}`, ...lines, ""].join("\n"));
  expect(error.message.length).toBeLessThan(3000);
  expect(error.message.split("\n").length).toBeLessThan(25);
  expect(error.reason).toStartWith("R1 !read_ok xxx");
});

test("messages that only some kernels have for a cause are recognized", () => {
  // Strings in Debian's kernel images 5.10.223 and 7.2.13.
  for (const [words, advice] of [
    ["R2 unbounded size, use 'var &= const' or 'if (var < const)'", /ringbuf_output\(\)$/],
    ["R2 is not a known constant'", /ringbuf_output\(\)$/],
    ["Possibly NULL pointer passed to helper R2", /^r2 may be NULL/],
    ["Possibly NULL pointer passed to trusted R3", /^r3 may be NULL/],
    ["Possibly NULL pointer passed to trusted arg1", /^r2 may be NULL/],
    [
      "Leaking reference id=2 alloc_insn=7. Release it first.",
      /^The reference that the call at slot 7 returned/,
    ],
    ["only read from sock is supported", /^This memory is read-only/],
    ["invalid access to context, ctx_size=8 off=8 size=4", /^The memory has 8 bytes/],
    ["R1 tried to subtract pointer from scalar", /^Pointers allow no arithmetic/],
  ] as const) {
    const error = errorOf(`0: (61) r0 = *(u32 *)(r1 +0)\n${words}\nprocessed 1 insns (limit 1)\n`);
    expect(error.reason).toBe(words);
    expect(error.hint).toMatch(advice);
  }
});

test("a reason that does not end with a line feed is separated from the statistics", () => {
  const reason = "spilled ptr in range of var-offset stack write; insn 1, ptr off: -8";
  const error = errorOf(
    `0: (61) r0 = *(u32 *)(r1 +0)\n${reason}processed 5 insns (limit 1000000) max_states_per_insn 0\n`,
  );
  expect(error.reason).toBe(reason);
  expect(error.hint).toMatch(/^Programs that are loaded without CAP_PERFMON/);
});

test("a reason is found in a report of several sections", () => {
  // The layout of Linux 7.3: a headline, then sections.
  const report = (reason: string) => `0: R1=ctx() R10=fp0
0: (b7) r1 = 0                        ; R1=0
1: (61) r0 = *(u32 *)(r1 +0)
${reason}
Verification failed: Register Type Safety: Invalid dereference

Reason:
  The program reads memory through a register that does not hold a pointer.

At:
      0 | r1 = 0
  >>> 1 | r0 = *(u32 *)(r1 +0)
      2 | exit

Suggestion:
  Use a pointer.
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0
`;
  const known = errorOf(report("R1 invalid mem access 'scalar'"));
  expect(known.reason).toBe("R1 invalid mem access 'scalar'");
  expect(known.hint).toStartWith("r1 is a number here");
  const unknown = errorOf(report(""));
  expect(unknown.reason).toBe("Verification failed: Register Type Safety: Invalid dereference");
  for (const error of [known, unknown]) {
    expect(error.instruction?.slot).toBe(1);
    expect(error.message).toContain("The program reads memory through a register");
    expect(error.message.split("\n").length).toBeLessThan(25);
  }
});

test("a program that is too complex is recognized by the errno if the log lacks the reason", () => {
  const options = { errno: 7, syscall: "bpf(BPF_PROG_LOAD)", doing: "load the program" };
  const error = new Subject(options, "0: (b7) r1 = 0\n", assemble([asm.mov(r1, 0), asm.exit()]));
  expect(error.hint).toStartWith("The verifier gave up: it follows every path");
});

bpfTest("the message names the place by label, function and source position", () => {
  const source = { file: "count.bpf", line: 7 };
  const error = rejection([
    asm.func("main"),
    asm.lddw(r6, 1n),
    asm.label("start"),
    asm.mov(r1, 0),
    asm.withSource(asm.ldxw(r0, r1, 0), source),
    asm.exit(),
  ]);
  expect(error.message).toContain(
    '\nAt slot 3, from count.bpf:7, after label "start", in function "main":\n',
  );
  expect(error.instruction).toMatchObject({ slot: 3, index: 2, instruction: { source } });
});

for (const iterator of ["bpf_map_elem", "bpf_sk_storage_map", "sockmap"] as const) {
  for (const log of ["none", "verbose"] as const) {
    bpfTest(`${iterator} with the log ${log}: a refusal in lockdown is not a verdict`, () => {
      // Some kernels refuse these iterators in lockdown; others load them.
      let error: unknown;
      try {
        using _program = load([asm.mov(r0, 0), asm.exit()], { section: `iter/${iterator}`, log });
      } catch (thrown) {
        error = thrown;
      }
      if (!(error instanceof BpfError) || error.code !== "EPERM") return;
      expect(error).not.toBeInstanceOf(VerifierError);
      expect(error.hint).toMatch(/^This process .*lockdown|^This process lacks /);
    });
  }
}
