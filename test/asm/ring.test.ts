import { describe, expect, test } from "bun:test";
import { assemble } from "../../src/asm/assembler.ts";
import {
  ArrayMap,
  asm,
  type Code,
  disassemble,
  type LiveMap,
  Program,
  RingBuf,
  t,
  type SectionName,
} from "../../src/index.ts";
import { endWorker } from "../support/end_worker.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { runOneByOne } from "../support/run_program.ts";

const { r0, r1, r2, r3, r6, fp } = asm;
const packet = new Uint8Array(14);
/** Errors of helpers: -EAGAIN and -EINVAL. */
const eagain = -11;
const einval = -22;

/** Number of records of 8 bytes in a ring buffer of 4096: each has a header of 8 bytes, and one byte always stays free. */
const capacity = 255;

/** Fills in the 8-byte record at r0, and submits it. */
const submit: Code = [
  asm.stdw(r0, 0, 1),
  asm.mov(r1, r0),
  asm.mov(r2, 0),
  asm.call("ringbuf_submit"),
];

/** Returns a program that submits a record of 8 bytes. Its result is 1, or 0 if the ring buffer is full. */
function reserving(ring: string | LiveMap = "events"): Code {
  return [
    asm.reserveOrCount(ring, 8, "full", { stack: -8 }),
    submit,
    asm.mov(r0, 1),
    asm.label("full"),
    asm.exit(),
  ];
}

/** A program that copies a record of 8 bytes. Its result is that of the helper. */
const outputting: Code = [
  asm.stdw(fp, -8, 1),
  asm.mov(r2, fp),
  asm.add(r2, -8),
  asm.outputOrCount("events", 8, { stack: -8 }),
  asm.exit(),
];

function newRing(size = 4096): RingBuf<t.Type<number>> {
  return new RingBuf({ size, event: t.u64Number });
}

function load(code: Code, maps: Record<string, LiveMap>, section: SectionName = "socket"): Program {
  return new Program({ section, license: "GPL", code, maps });
}

/** Runs a program, and returns its result as a signed number. */
function run(program: Program): number {
  return program.testRun({ data: packet }).returnValue | 0;
}

describe("the instructions", () => {
  const made: Readonly<Record<string, () => Code>> = {
    reserveOrCount: () => [asm.reserveOrCount("events", 24, "full", { stack: -16 })],
    outputOrCount: () => [asm.outputOrCount("events", r6, { stack: -16, flags: 1 })],
    countLost: () => [asm.countLost("events", { stack: -16 })],
  };

  test.each(Object.entries(made))(
    "of %s are plain data, and equal for equal arguments",
    (_, make) => {
      const code = make();
      expect(structuredClone(code)).toEqual(code);
      expect(make()).toEqual(code);
      const marks = code.flat().filter((item) => "label" in item || "function" in item);
      expect(marks).toEqual([]);
    },
  );

  test("are the helper's call, and a jump over the instructions that count", () => {
    const text = (code: Code) =>
      disassemble(code)
        .replaceAll(/^ +\d+: \(..\) /gm, "")
        .split("\n");
    const count = (place: number) => [
      ...[`*(u32 *)(r10 ${place}) = 0`, "r1 = map[events.lost]", "r2 = r10", `r2 += ${place}`],
      ...["call bpf_map_lookup_elem#1", "if r0 == 0x0 goto pc+2"],
      ...["r1 = 1", "lock *(u64 *)(r0 +0) += r1"],
    ];
    expect(text(made["reserveOrCount"]!())).toEqual([
      ...["r1 = map[events]", "r2 = 24", "r3 = 0", "call bpf_ringbuf_reserve#131"],
      ...["if r0 != 0x0 goto pc+11", ...count(-16), "r0 = 0", "goto full"],
    ]);
    expect(text(made["outputOrCount"]!())).toEqual([
      ...["r3 = r6", "r1 = map[events]", "r4 = 1", "call bpf_ringbuf_output#130"],
      ...["if r0 == 0x0 goto pc+13", "*(u32 *)(r10 -12) = r0", ...count(-16)],
      ...["r0 = *(u32 *)(r10 -12)", "r0 <<= 32", "r0 s>>= 32"],
    ]);
    expect(text(made["countLost"]!())).toEqual([...count(-16), "r0 = 0"]);
  });

  test("jump correctly if a function contains them several times", () => {
    const { reserveOrCount } = made;
    const around = asm.withSource(
      [reserveOrCount!(), asm.mov(r0, 0), reserveOrCount!(), asm.label("full"), asm.exit()],
      { file: "twice.ts", line: 1 },
    );
    const { bySlot } = assemble(around, { map: () => 3 });
    const skips = bySlot.filter(({ instruction: { opcode } }) => opcode === 0x55);
    expect(skips.map(({ slot, instruction }) => slot + 1 + instruction.offset)).toEqual([17, 35]);
  });

  test("are not made from invalid arguments, and the error has the function's name", () => {
    const options = { stack: -8 };
    for (const ring of ["", undefined, 3, null]) {
      for (const make of [
        () => asm.reserveOrCount(ring as string, 8, "full", options),
        () => asm.outputOrCount(ring as string, 8, options),
        () => asm.countLost(ring as string, options),
      ]) {
        expect(make).toThrow(TypeError);
        expect(make).toThrow(/^(reserveOrCount|outputOrCount|countLost): ring: expected /);
      }
    }
    for (const size of [-1, 0.5, 2 ** 30, Number.NaN]) {
      expect(() => asm.reserveOrCount("events", size, "full", options)).toThrow(
        `reserveOrCount: size: expected an integer from 0 to 1073741823, got ${size}`,
      );
      expect(() => asm.outputOrCount("events", size, options)).toThrow(RangeError);
    }
    // @ts-expect-error: the size of a reservation must be constant
    expect(() => asm.reserveOrCount("events", r3, "full", options)).toThrow(TypeError);
    expect(() => asm.reserveOrCount("events", 8, "", options)).toThrow("full: expected a name");
    expect(() => asm.outputOrCount("events", 8, { stack: -8, flags: -1 })).toThrow(RangeError);
    // @ts-expect-error: misspelt option
    expect(() => asm.countLost("events", { stak: -8 })).toThrow('did you mean "stack"?');
    // @ts-expect-error: the options are required
    expect(() => asm.reserveOrCount("events", 8, "full")).toThrow("options: expected an object");
  });

  test("are not made with an offset outside of the stack", () => {
    for (const stack of [0, 4, -2, -7, -516, 0.5, Number.NaN, "-8", undefined] as number[]) {
      expect(() => asm.reserveOrCount("events", 8, "full", { stack })).toThrow(
        "stack: expected the offset of 4 unused bytes of the stack, a multiple of 4 from -512 to -4, got ",
      );
      expect(() => asm.countLost("events", { stack })).toThrow(RangeError);
      expect(() => asm.outputOrCount("events", 8, { stack })).toThrow(RangeError);
    }
    expect(() => asm.outputOrCount("events", 8, { stack: -4 })).toThrow("from -512 to -8");
  });
});

describe("every event is received or counted", () => {
  const codes = { reserveOrCount: reserving(), outputOrCount: outputting };
  for (const [name, code] of Object.entries(codes)) {
    bpfTest(`with ${name}, while the ring buffer is drained at random times`, () => {
      const seed = anySeed();
      const random = randomNumbers(seed);
      using events = newRing();
      using program = load(code, { events });
      let attempts = 0;
      let received = 0;
      for (let round = 0; round < 200; round++) {
        const repeat = 1 + random(2 * capacity);
        runOneByOne(program, repeat);
        attempts += repeat;
        received += events.drain(() => {}, { limit: 1 + random(capacity) });
      }
      received += events.drain(() => {});
      const { lost } = events.stats;
      expect({ seed, total: received + lost }).toEqual({ seed, total: attempts });
      expect(lost).toBeGreaterThan(0);
    });

    bpfTest(`with ${name}, with programs on two CPUs at the same time`, async () => {
      using events = newRing(16 * 4096);
      using program = load(code, { events });
      const state = new Int32Array(new SharedArrayBuffer(4));
      const worker = new Worker(new URL("../maps/children/program_runs.ts", import.meta.url));
      const started = new Promise<void>((resolve) => {
        worker.onmessage = () => resolve();
      });
      const runs = 300_000;
      worker.postMessage({ fd: program.fd, runs, state });
      await started;
      let attempts = runs;
      let received = 0;
      do {
        runOneByOne(program, 1000);
        attempts += 1000;
        received += events.drain(() => {}, { limit: 1000 });
      } while (Atomics.load(state, 0) === 0);
      await endWorker(worker);
      received += events.drain(() => {});
      expect(received + events.stats.lost).toBe(attempts);
      expect(events.stats.lost).toBeGreaterThan(0);
    });

    bpfTest(`with ${name}, in a raw tracepoint`, () => {
      using events = newRing();
      using program = load(code, { events }, "raw_tp");
      for (let count = 0; count < 300; count++) program.testRun({ ctx: packet.subarray(0, 8) });
      expect([events.drain(() => {}), events.stats.lost]).toEqual([capacity, 300 - capacity]);
    });

    bpfTest(`with ${name}, in an attached tracepoint program`, () => {
      using events = newRing();
      const ofThisProcess: Code = [
        asm.call("get_current_pid_tgid"),
        asm.rsh(r0, 32),
        asm.jeq(r0, process.pid, "ours"),
        asm.mov(r0, 0),
        asm.exit(),
        asm.label("ours"),
      ];
      using program = load([ofThisProcess, code], { events }, "tp/syscalls/sys_enter_kill");
      using _ = program.attach();
      for (let count = 0; count < 300; count++) process.kill(process.pid, 0);
      expect([events.drain(() => {}), events.stats.lost]).toEqual([capacity, 300 - capacity]);
    });
  }
});

describe("reserveOrCount", () => {
  bpfTest("continues with a record, or jumps to the label with 0 in r0", () => {
    using events = newRing();
    using program = load(reserving(), { events });
    for (let count = 0; count < capacity; count++) expect(run(program)).toBe(1);
    expect(run(program)).toBe(0);
    expect(events.stats.lost).toBe(1);
    const found: number[] = [];
    events.drain((event) => void found.push(event));
    expect(found).toEqual(Array<number>(capacity).fill(1));
    expect(run(program)).toBe(1);
    expect(events.stats.lost).toBe(1);
  });

  bpfTest("counts a record that is larger than the ring buffer", () => {
    using events = newRing();
    const code = [
      asm.reserveOrCount("events", 4096, "full", { stack: -512 }),
      ...[asm.mov(r1, r0), asm.mov(r2, 0), asm.call("ringbuf_discard"), asm.mov(r0, 1)],
      ...[asm.label("full"), asm.exit()],
    ];
    using program = load(code, { events });
    expect([run(program), run(program), events.stats.lost]).toEqual([0, 0, 2]);
  });

  bpfTest("works several times in one function, with one label or several", () => {
    using events = newRing();
    using spare = newRing(8192);
    const code: Code = [
      asm.mov(r6, 0),
      asm.reserveOrCount("events", 8, "full", { stack: -8 }),
      submit,
      asm.add(r6, 1),
      asm.reserveOrCount("events", 8, "full", { stack: -8 }),
      submit,
      asm.add(r6, 1),
      asm.ja("out"),
      asm.label("full"),
      // A second ring buffer, if the first one is full.
      asm.reserveOrCount("spare", 8, "both full", { stack: -4 }),
      submit,
      asm.add(r6, 10),
      asm.label("out"),
      asm.label("both full"),
      asm.mov(r0, r6),
      asm.exit(),
    ];
    using program = load(code, { events, spare });
    const results = Array.from({ length: 900 }, () => run(program));
    // The first 127 runs submit two records, the next one has room for one, and the others for none.
    expect(results.slice(126, 130)).toEqual([2, 11, 10, 10]);
    expect(results.at(-1)).toBe(0);
    expect([events.drain(() => {}), events.stats.lost]).toEqual([capacity, 900 - 127]);
    const spareCapacity = 511;
    expect([spare.drain(() => {}), spare.stats.lost]).toEqual([
      spareCapacity,
      900 - 127 - spareCapacity,
    ]);
  });

  bpfTest("works in functions that a program calls", () => {
    using events = newRing();
    const code: Code = [
      asm.func("main"),
      asm.callFunction("record"),
      asm.mov(r6, r0),
      asm.callFunction("record"),
      asm.add(r0, r6),
      asm.exit(),
      asm.func("record"),
      reserving(),
    ];
    using program = load(code, { events });
    for (let count = 0; count < 127; count++) expect(run(program)).toBe(2);
    expect([run(program), run(program), events.stats.lost]).toEqual([1, 0, 3]);
  });

  bpfTest("overwrites four bytes of the stack at the offset, and only if an event is lost", () => {
    using events = newRing();
    using seen = new ArrayMap({ value: t.array(t.u64, 3), length: 1 });
    const code: Code = [
      ...[asm.lddw(r1, -1n), asm.stxdw(fp, -24, r1), asm.stxdw(fp, -16, r1), asm.stxdw(fp, -8, r1)],
      asm.reserveOrCount("events", 8, "full", { stack: -16 }),
      submit,
      asm.label("full"),
      asm.ldMapValue(r6, "seen", 0),
      [-24, -16, -8].map((place, index) => [
        asm.ldxdw(r1, fp, place),
        asm.stxdw(r6, 8 * index, r1),
      ]),
      asm.mov(r0, 0),
      asm.exit(),
    ];
    using program = load(code, { events, seen });
    const all = 2n ** 64n - 1n;
    run(program);
    expect(seen.get(0)).toEqual([all, all, all]);
    runOneByOne(program, capacity);
    expect(events.stats.lost).toBe(1);
    expect(seen.get(0)).toEqual([all, 0xffff_ffff_0000_0000n, all]);
  });
});

describe("outputOrCount", () => {
  bpfTest("returns the result of the helper", () => {
    using events = newRing();
    using program = load(outputting, { events });
    for (let count = 0; count < capacity; count++) expect(run(program)).toBe(0);
    expect([run(program), events.stats.lost]).toEqual([eagain, 1]);
    expect(events.drain((event) => expect(event).toBe(1))).toBe(capacity);
  });

  bpfTest("takes the size from a register, and counts every error of the helper", () => {
    using events = newRing();
    const code = (flags: number): Code => [
      ...[asm.stdw(fp, -16, 7), asm.stdw(fp, -8, 8)],
      ...[asm.mov(r2, fp), asm.add(r2, -16), asm.mov(asm.r4, 16)],
      asm.outputOrCount("events", asm.r4, { stack: -24, flags }),
      asm.exit(),
    ];
    using program = load(code(1), { events });
    using wrong = load(code(64), { events });
    expect([run(program), run(wrong), events.stats.lost]).toEqual([0, einval, 1]);
    const lengths: number[] = [];
    events.drainRaw((view, offset, length) => void lengths.push(length, view.getUint8(offset + 8)));
    expect(lengths).toEqual([16, 8]);
  });
});

describe("countLost", () => {
  bpfTest("counts a lost event, and continues with 0", () => {
    using events = newRing();
    using program = load([asm.countLost("events", { stack: -4 }), asm.exit()], { events });
    expect(run(program)).toBe(0);
    runOneByOne(program, 999);
    expect(events.stats.lost).toBe(1000);
    expect(events.drain(() => {})).toBe(0);
  });
});
