import { expect, test } from "bun:test";
import {
  ArrayMap,
  asm,
  assemble,
  type Code,
  Program,
  RingBuf,
  t,
  VerifierError,
} from "../../src/index.ts";
import type { VerifierLog } from "../../src/index.ts";
import { VerifierError as Subject } from "../../src/program/verifier_error.ts";
import { Producer } from "../ring/producer.ts";
import { bpfTest } from "../support/privilege.ts";

const { r0, r1, r2, r6, r10 } = asm;

function load(code: Code, rest: { license?: string; log?: VerifierLog; section?: string } = {}) {
  return new Program({ section: "socket", license: "GPL", code, ...rest });
}

/** The error of a program that must be rejected. */
function rejection(code: Code, rest: Parameters<typeof load>[1] = {}): VerifierError {
  try {
    using _program = load(code, rest);
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  return expect.unreachable("the verifier accepted it");
}

/** So many branches that the verifier writes a line for each of some `count` instructions. */
function longCode(count: number, end: Code): Code {
  return [
    asm.mov(r0, 0),
    ...Array.from({ length: count }, (_, index) => asm.add(r0, index % 100)),
    end,
  ];
}

bpfTest("the message ends with the verifier's reason, and the log has all of it", () => {
  const error = rejection([asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]);
  expect(error).toMatchObject({
    name: "VerifierError",
    code: "EACCES",
    syscall: "bpf(BPF_PROG_LOAD)",
  });
  expect(error.message).toStartWith(
    "cannot load the socket program: bpf(BPF_PROG_LOAD): EACCES (permission denied)\n",
  );
  // Kernels before 5.18 call a number of theirs "inv".
  expect(error.message).toMatch(/ {2}R1 invalid mem access '(scalar|inv)'/);
  expect(error.message).not.toContain("processed");
  expect(error.log).toContain("0: (b7) r1 = 0");
  expect(error.log).toMatch(/processed \d+ insns/);
});

bpfTest("a long log is quoted from its end, and kept whole", () => {
  const error = rejection(longCode(100, [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]));
  const lines = error.message.split("\n");
  expect(lines.length).toBe(1 + 1 + 12);
  expect(lines[1]).toBe("  ...");
  expect(lines.at(-1)).toContain("invalid mem access");
  expect(error.log).toContain("0: (b7) r0 = 0");
});

bpfTest("the log's buffer grows until the log fits", () => {
  // Some 30 bytes a line: more than the first 64 KiB, and more than the 512 KiB after them.
  for (const count of [5_000, 25_000]) {
    const error = rejection(longCode(count, [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()]), {});
    expect(error.code).toBe("EACCES");
    expect(error.log.length).toBeGreaterThan(count * 15);
    expect(error.log).toContain("0: (b7) r0 = 0");
    expect(error.message).toContain("invalid mem access");
    using accepted = load(longCode(count, [asm.exit()]), { log: "verbose" });
    expect(accepted.log.length).toBeGreaterThan(count * 15);
    expect(accepted.log).toMatch(/processed \d+ insns/);
  }
});

bpfTest("an accepted program has the log that was asked for", () => {
  const code = [asm.mov(r0, 0), asm.exit()];
  const logs = (["none", "instructions", "verbose", "statistics"] as const).map((log) => {
    using program = load(code, { log });
    return program.log;
  });
  const [none = "", instructions = "", verbose = "", statistics = ""] = logs;
  expect(none).toBe("");
  // The kernel drops the lines of a path when it has accepted it, unless all are asked for.
  expect(instructions).toMatch(/processed 2 insns/);
  expect(verbose).toContain("0: (b7) r0 = 0");
  expect(statistics).toMatch(/^processed 2 insns|^verification time/);
  expect(statistics).not.toContain("(b7)");
});

bpfTest("a rejected program's error has the log that was asked for", () => {
  const code = [asm.exit()];
  for (const log of ["none", "instructions", "verbose"] as const) {
    expect(rejection(code, { log }).log).toContain("R0 !read_ok");
  }
});

bpfTest("a helper that is for GPL programs says so to others", () => {
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

bpfTest("a load that a consumer's wake-up interrupts is begun anew", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  using state = new ArrayMap({ value: t.u64, length: 1 });
  // 200,000 instructions for the verifier, in a loop that it walks: long enough for a wake-up to come.
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
    // The wait is armed: this record makes its completion pending, which is a signal to the verifier.
    producer.putNumber(round);
    using program = load(code);
    expect(program.log).toBe("");
    expect(await next).toEqual({ done: false, value: round });
    await iterator.return?.();
  }
});

test("the message quotes the end of the log without the statistics behind it", () => {
  const options = { errno: 22, syscall: "bpf(BPF_PROG_LOAD)", doing: "load the program" };
  const program = assemble([asm.exit()]);
  const first = new Subject(
    options,
    "0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n",
    program,
  );
  expect(first.message).toBe(
    "cannot load the program: bpf(BPF_PROG_LOAD): EINVAL (invalid argument)\n  0: (95) exit\n  R0 !read_ok",
  );
  const log = Array.from({ length: 20 }, (_, line) => `line ${line}`).join("\n");
  const second = new Subject(
    options,
    `${log}\nverification time 7 usec\nstack depth 8\n\n`,
    program,
  );
  expect(second.message).toEndWith(
    `\n  ...\n${Array.from({ length: 12 }, (_, line) => `  line ${line + 8}`).join("\n")}`,
  );
  expect(second.log).toEndWith("stack depth 8\n\n");
  // Printed, it is one screen.
  expect(Bun.inspect(second)).not.toContain("line 7");
});

bpfTest(
  "the message says by labels, functions and source positions where the verifier stopped",
  () => {
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
      '\n  at slot 3, from count.bpf:7, after label "start", in function "main":\n',
    );
    expect(error.instruction).toMatchObject({ slot: 3, index: 2, instruction: { source } });
  },
);
