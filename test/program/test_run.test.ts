import { describe, expect } from "bun:test";
import { join } from "node:path";
import {
  ArrayMap,
  asm,
  BpfError,
  type Code,
  features,
  Program,
  RingBuf,
  t,
} from "../../src/index.ts";
import { mapTest, testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const { r0, r1, r2, r3, r4, r6, r10 } = asm;
const packet = new Uint8Array(14);

/** Counts a run in the map `runs`, and stores the context in r6. */
const count: Code = [
  asm.mov(r6, r1),
  asm.ldMapValue(r1, "runs", 0),
  asm.mov(r2, 1),
  asm.atomicAdd(r1, 0, r2),
];

/** Loads a program that counts its runs. */
function counting(section: "socket" | "tc" | "xdp", code: Code) {
  const runs = new ArrayMap({ value: t.u64Number, length: 1 });
  const program = new Program({ section, license: "GPL", maps: { runs }, code: [count, code] });
  return {
    program,
    get runs() {
      return runs.get(0);
    },
    [Symbol.dispose]: () => {
      program[Symbol.dispose]();
      runs[Symbol.dispose]();
    },
  };
}

const end: Code = [asm.mov(r0, 7), asm.exit()];

/** Returns the error of a run that must fail. */
function refusal(run: () => unknown): BpfError {
  try {
    run();
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  return expect.unreachable("the kernel took it");
}

describe("repeat", () => {
  bpfTest("of 1 is accepted for raw tracepoints, and 2 is rejected", () => {
    using program = new Program({
      section: "raw_tp",
      license: "GPL",
      code: [asm.ldxdw(r0, r1, 0), asm.exit()],
    });
    const ctx = new Uint8Array(new BigUint64Array([0x1234n]).buffer);
    expect(program.testRun({ ctx, repeat: 1 }).returnValue).toBe(0x1234);
    const error = refusal(() => program.testRun({ ctx, repeat: 2 }));
    expect(error.code).toBe("EINVAL");
    expect(error.hint).toMatch(/raw_tracepoint take a context .* neither data nor repeat$/);
  });

  testWith(features.programTypes.get("syscall"))(
    "of 1 is accepted for syscall programs, and 2 is rejected",
    () => {
      using program = new Program({ section: "syscall", license: "GPL", code: end });
      const ctx = new Uint8Array(8);
      expect(program.testRun({ ctx, repeat: 1 }).returnValue).toBe(7);
      const error = refusal(() => program.testRun({ ctx, repeat: 2 }));
      expect(error.hint).toContain("Programs of the type syscall take no repeat");
    },
  );

  bpfTest("completes although signals arrive", async () => {
    using counter = counting("socket", end);
    let signals = 0;
    const listener = () => signals++;
    process.on("SIGUSR2", listener);
    const sender = Bun.spawn(["sh", "-c", `while kill -USR2 ${process.pid}; do :; done`], {
      stderr: "ignore",
    });
    try {
      const repeat = 50_000;
      let interrupted = 0;
      for (let round = 0; interrupted < 2 && round < 1000; round++) {
        const before = counter.runs ?? 0;
        const { returnValue, duration } = counter.program.testRun({ data: packet, repeat });
        expect(returnValue).toBe(7);
        expect(Number.isSafeInteger(duration)).toBe(true);
        const runs = (counter.runs ?? 0) - before;
        expect(runs).toBeGreaterThanOrEqual(repeat);
        // The kernel does not report the number of runs before a signal, so an interrupted call is repeated.
        if (runs > repeat) interrupted++;
        await Bun.sleep(0);
      }
      expect(interrupted).toBe(2);
      expect(signals).toBeGreaterThan(0);
    } finally {
      sender.kill();
      await sender.exited;
      process.off("SIGUSR2", listener);
    }
  });

  mapTest("ringbuf")("is exact while this thread waits for events of the program", async () => {
    using ring = new RingBuf({ size: 1 << 18, event: t.u64Number });
    using runs = new ArrayMap({ value: t.u64Number, length: 1 });
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { runs, ring },
      code: [
        count,
        asm.stdw(r10, -8, 1),
        asm.ldMap(r1, "ring"),
        asm.mov(r2, r10),
        asm.add(r2, -8),
        asm.mov(r3, 8),
        asm.mov(r4, 0),
        asm.call("ringbuf_output"),
        end,
      ],
    });
    let events = 0;
    using _subscription = ring.subscribe(() => events++);
    for (let round = 1; round <= 5; round++) {
      // The wait is armed, so that the first event interrupts the call.
      await Bun.sleep(5);
      expect(program.testRun({ data: packet, repeat: 1000 }).returnValue).toBe(7);
      expect(runs.get(0)).toBe(round * 1000);
    }
    while (events < 5000) await Bun.sleep(1);
    expect(events).toBe(5000);
  });

  bpfTest("completes although the process is stopped in between", async () => {
    const child = join(import.meta.dir, "children/stopped_run.ts");
    const { stdout, stderr } = await runBun([child]);
    expect(stderr).toBe("");
    const { runs, repeat, returnValue } = JSON.parse(stdout);
    expect(returnValue).toBe(7);
    // The kernel does not report the number of runs before the stop.
    expect(runs).toBeGreaterThanOrEqual(repeat);
  });
});

describe("a packet that the program lengthens is returned completely", () => {
  for (const length of [527, 4000, 16_000]) {
    bpfTest(`${length} bytes, by tc`, () => {
      using counter = counting("tc", [
        asm.mov(r1, r6),
        asm.mov(r2, length),
        asm.mov(r3, 0),
        asm.call("skb_change_tail"),
        asm.jne(r0, 0, "out"),
        asm.mov(r0, 7),
        asm.label("out"),
        asm.exit(),
      ]);
      const data = Uint8Array.from(packet, (_, index) => index + 1);
      const result = counter.program.testRun({ data });
      expect(result.returnValue).toBe(7);
      expect(result.data.length).toBe(length);
      expect(result.data.subarray(0, 14)).toEqual(data);
      expect(result.data.subarray(14).every((byte) => byte === 0)).toBe(true);
      expect(counter.runs).toBe(1);
      // Another run does not change the returned data.
      counter.program.testRun({ data: packet });
      expect(result.data.subarray(0, 14)).toEqual(data);
    });
  }

  bpfTest("2,064 bytes, by xdp", () => {
    using counter = counting("xdp", [
      asm.mov(r1, r6),
      asm.mov(r2, 2000),
      asm.call("xdp_adjust_tail"),
      asm.jne(r0, 0, "out"),
      asm.mov(r0, 7),
      asm.label("out"),
      asm.exit(),
    ]);
    const result = counter.program.testRun({ data: new Uint8Array(64).fill(5) });
    expect({ ...result, data: result.data.length, duration: 0 }).toEqual({
      returnValue: 7,
      data: 2064,
      ctx: new Uint8Array(0),
      duration: 0,
    });
    expect(counter.runs).toBe(1);
  });
});

describe("a packet that the kernel rejects", () => {
  for (const section of ["socket", "tc", "action", "xdp"] as const) {
    bpfTest(`of ${section} programs is an error that names the limit`, () => {
      using program = new Program({ section, license: "GPL", code: end });
      const run = (length: number) => program.testRun({ data: new Uint8Array(length) });
      const error = refusal(() => run(1 << 20));
      expect(["EINVAL", "EMSGSIZE", "ENOMEM"]).toContain(error.code);
      const limit = /packets \(data\) of at most (\d+) bytes on this kernel, got 1048576 bytes$/;
      expect(error.hint).toMatch(limit);
      const largest = Number(limit.exec(error.hint ?? "")?.[1]);
      expect(largest).toBeGreaterThan(3000);
      expect(run(largest).data.length).toBe(largest);
      expect(refusal(() => run(largest + 1)).hint).toEndWith(
        `packets (data) of at most ${largest} bytes on this kernel, got ${largest + 1} bytes`,
      );
      expect(run(14).data.length).toBe(14);
      // Older kernels accept shorter packets for xdp.
      if (section === "xdp") return;
      for (const length of [13, 0]) {
        expect(refusal(() => run(length)).hint).toEndWith(
          `a packet (data) of at least 14 bytes, got ${length} bytes`,
        );
      }
    });
  }

  bpfTest("is also a missing packet", () => {
    using program = new Program({ section: "socket", license: "GPL", code: end });
    const error = refusal(() => program.testRun());
    expect(error.message).toBe(
      "cannot run the socket program: bpf(BPF_PROG_TEST_RUN): EINVAL (invalid argument). Programs of the type socket_filter take a packet (data) of at least 14 bytes, got 0 bytes",
    );
  });

  bpfTest("is not the reason if a field of the context is rejected", () => {
    using program = new Program({ section: "tc", license: "GPL", code: end });
    // The field `len`, which the kernel sets.
    const ctx = new Uint8Array(new Uint32Array([5]).buffer);
    const error = refusal(() => program.testRun({ data: packet, ctx }));
    expect(error.hint).toMatch(/^The kernel rejects a field of the context/);
  });
});

testWith(features.attachKinds.get("tp_btf"))(
  "a run of a tp_btf program fails with a hint that says which programs can be run",
  () => {
    using program = new Program({
      section: "tp_btf/sched_switch",
      license: "GPL",
      code: [asm.mov(r0, 0), asm.exit()],
    });
    for (const options of [{}, { ctx: new Uint8Array(24) }, { data: packet }]) {
      const error = refusal(() => program.testRun(options));
      expect(error.hint).toMatch(
        /^Of the programs of the type tracing, .* not those of tp_btf\. Attach the program, or .*raw_tp/,
      );
    }
  },
);
