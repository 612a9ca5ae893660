import { describe, expect, test } from "bun:test";
import { StackError } from "../../../src/compiler/machine/allocate.ts";
import { Builder } from "../../../src/compiler/ir/builder.ts";
import { emit } from "../../../src/compiler/machine/emit.ts";
import { IrFunction, type Node, printFunction, withCallees } from "../../../src/compiler/ir/ir.ts";
import { TargetError } from "../../../src/compiler/machine/select.ts";
import {
  runningTarget,
  type Target,
  type TargetFeature,
  targetOf,
  targetVersions,
} from "../../../src/compiler/machine/target.ts";
import {
  ArrayMap,
  type Code,
  disassemble,
  features,
  Program,
  t,
  VerifierError,
} from "../../../src/index.ts";
import { repetitions } from "../../support/effort.ts";
import { testWith } from "../../support/needs.ts";
import { bpfTest } from "../../support/privilege.ts";
import { anySeed, randomNumbers } from "../../support/random_numbers.ts";
import { interpret } from "../ir/interpreter.ts";
import { layout, randomFunction } from "../ir/random_functions.ts";

const newest = targetOf("6.18");
const packet = new Uint8Array(64);

function compile(build: (b: Builder) => void, target: Target = newest): Code {
  return emit([define(build)], { target, sourceOf: () => undefined });
}

function define(build: (b: Builder) => void, name = "main", parameterCount = 1): IrFunction {
  const b = new Builder(new IrFunction(name, parameterCount));
  build(b);
  return b.fn;
}

function listing(build: (b: Builder) => void, target?: Target): string {
  return disassemble(compile(build, target)).replaceAll(/^ *\d+: /gm, "");
}

const context = (b: Builder) => b.add({ kind: "parameter", index: 0 });

/** Sums up the numbers of the set bits in a word, until the sum is greater than a limit. */
function sumOfBits(b: Builder, isOpaque: boolean, iterations = 64, limit?: number): void {
  const bits = b.load(context(b), 0, 4);
  const [header, body, add] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
  const [join, exit] = [b.fn.newBlock(), b.fn.newBlock()];
  const zero = b.constant(0);
  b.jump(header);
  b.continueIn(header, true);
  const i = b.phi(header, [zero]);
  const phi = b.phi(header, [zero]);
  const sum = isOpaque ? b.add({ kind: "opaque" }, [phi]) : phi;
  b.branchOn("lt", i, iterations, body, exit);
  b.continueIn(body);
  if (limit !== undefined) {
    const next = b.fn.newBlock();
    b.branchOn("gt", sum, limit, exit, next);
    b.continueIn(next);
  }
  b.branchOn("ne", b.binary("and", b.binary("rsh", bits, i), 1), 0, add, join);
  b.continueIn(add);
  const more = b.binary("add", sum, i);
  b.jump(join);
  b.continueIn(join);
  const next = b.phi(join, [sum, more]);
  i.inputs.push(b.binary("add", i, 1));
  phi.inputs.push(next);
  b.jump(header);
  b.continueIn(exit);
  b.return(sum);
}

/** Counts the calls of each process in a map. */
function countCalls(b: Builder): void {
  const key = b.slot({ size: 4, align: 4, name: "key" });
  b.store(key, 0, 4, b.binary("rsh", b.callHelper("get_current_pid_tgid"), 32));
  const map = b.add({ kind: "map", map: "counts" });
  const value = b.callHelper("map_lookup_elem", map, key);
  const [found, missing, join] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
  b.branchOn("ne", value, 0, found, missing);
  b.continueIn(found);
  b.add({ kind: "atomic", operator: "add", size: 8, offset: 0 }, [value, b.constant(1)]);
  b.jump(join);
  b.continueIn(missing);
  const first = b.slot({ size: 8, align: 8, name: "value" });
  b.store(first, 0, 8, 1);
  b.callHelper("map_update_elem", map, key, first, 0);
  b.jump(join);
  b.continueIn(join);
  b.return(0);
}

/** Drops long UDP packets. */
function dropLong(b: Builder): void {
  const ctx = context(b);
  const [data, end] = [b.load(ctx, 0, 4), b.load(ctx, 4, 4)];
  const [ok, ip, udp] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
  const [pass, drop] = [b.fn.newBlock(), b.fn.newBlock()];
  b.branchOn("gt", b.address(data, 34), end, pass, ok);
  b.continueIn(ok);
  b.branchOn("eq", b.load(data, 12, 2), 8, ip, pass);
  b.continueIn(ip);
  const header = b.address(data, 14);
  b.branchOn("eq", b.load(header, 9, 1), 17, udp, pass);
  b.continueIn(udp);
  const length = b.add({ kind: "swap", bits: 16 }, [b.load(header, 2, 2)]);
  b.branchOn("gt", length, 100, drop, pass);
  b.continueIn(pass);
  b.return(2);
  b.continueIn(drop);
  b.return(1);
}

/** Reports the execution of a program. */
function reportExec(b: Builder): void {
  const ctx = context(b);
  const time = b.callHelper("ktime_get_ns");
  const ring = b.add({ kind: "map", map: "events" });
  const record = b.callHelper("ringbuf_reserve", ring, 40, 0);
  const [ok, out] = [b.fn.newBlock(), b.fn.newBlock()];
  b.branchOn("ne", record, 0, ok, out);
  b.continueIn(ok);
  const id = b.callHelper("get_current_pid_tgid");
  b.store(record, 0, 8, time);
  b.store(record, 8, 4, b.extend(id, 32, false));
  b.store(record, 12, 4, b.binary("rsh", id, 32));
  b.store(record, 16, 4, b.load(ctx, 24, 4));
  b.store(record, 20, 4, 0);
  b.callHelper("get_current_comm", b.address(record, 24), 16);
  b.callHelper("ringbuf_submit", record, 0);
  b.jump(out);
  b.continueIn(out);
  b.return(0);
}

describe("the code of", () => {
  test("a loop branches once an iteration", () => {
    expect(listing((b) => sumOfBits(b, false))).toMatchSnapshot();
  });

  test("an opaque value adds one instruction", () => {
    expect(listing((b) => sumOfBits(b, true))).toMatchSnapshot();
  });

  test("map functions computes addresses in the registers of arguments", () => {
    expect(listing(countCalls)).toMatchSnapshot();
  });

  test("packet access has the offsets in the loads", () => {
    expect(listing(dropLong)).toMatchSnapshot();
  });

  test("an event copies only what calls would change", () => {
    expect(listing(reportExec)).toMatchSnapshot();
  });

  test("signed division on old kernels has no branches", () => {
    const divide = (b: Builder) => {
      const ctx = context(b);
      const [x, y] = [b.load(ctx, 0, 4, { signed: true }), b.load(ctx, 4, 4, { signed: true })];
      b.return(b.binary("sdiv", x, y));
    };
    expect(listing(divide, targetOf("5.10"))).toMatchSnapshot();
    expect(listing(divide)).toMatchSnapshot();
  });
});

test("a value that is not used has no instructions", () => {
  const code = listing((b) => {
    b.binary("mul", b.load(context(b), 0, 4), 3);
    b.return(1);
  });
  expect(code).toBe("func main\n(b7) r0 = 1\n(95) exit");
});

test("instructions have the positions of their nodes", () => {
  const b = new Builder(new IrFunction("main", 1));
  const first = b.load(context(b), 0, 4);
  b.position = { source: 0, start: 7, end: 9 };
  b.return(b.binary("add", first, 5));
  const line = { file: "a.ts", line: 3 };
  const code = emit([b.fn], {
    target: newest,
    sourceOf: ({ start }) => (start === 7 ? line : undefined),
  });
  const sources = code.flatMap((item) => ("opcode" in item ? [item.source] : []));
  // The kernel needs a line at the start of a function.
  expect(sources).toEqual([line, line, line, line].slice(0, sources.length));
});

test("a slot that does not fit the stack is refused", () => {
  const build = (b: Builder) => {
    const slot = b.slot({ size: 520, align: 8, name: "big" });
    b.store(slot, 0, 8, 1);
    b.return(b.load(slot, 0, 8));
  };
  expect(() => compile(build)).toThrow(StackError);
  expect(() => compile(build)).toThrow("main needs 520 bytes of stack, and a program has 512");
});

test("functions that call each other share the stack", () => {
  const useSlot = (b: Builder) => {
    const slot = b.slot({ size: 272, align: 8, name: "big" });
    b.store(slot, 0, 8, 1);
    return b.load(slot, 0, 8);
  };
  const callee = define((b) => b.return(useSlot(b)), "inner", 0);
  const caller = define((b) => {
    const result = b.add({ kind: "callFunction", function: callee }, []);
    b.return(b.binary("add", useSlot(b), result));
  });
  const emitBoth = () => emit(withCallees(caller), { target: newest, sourceOf: () => undefined });
  expect(emitBoth).toThrow("main needs 576 bytes of stack, and a program has 512");
});

test("atomic operations with results need a newer kernel than 5.10", () => {
  const exchange = (b: Builder) => {
    const slot = b.slot({ size: 8, align: 8, name: "x" });
    b.store(slot, 0, 8, 1);
    b.return(
      b.add({ kind: "atomic", operator: "exchange", size: 8, offset: 0 }, [slot, b.constant(2)]),
    );
  };
  expect(() => compile(exchange, targetOf("5.10"))).toThrow(TargetError);
  expect(listing(exchange)).toContain("atomic64_xchg");
});

bpfTest("opaque values make loops cheap to verify", () => {
  const verify = (isOpaque: boolean, target: Target) => {
    const code = compile((b) => sumOfBits(b, isOpaque, 12, 1000), target);
    using program = new Program({ section: "socket", license: "GPL", code });
    // The first word of the context is the length of the packet without its Ethernet header: 50, or 0b110010.
    expect(program.testRun({ data: packet }).returnValue).toBe(10);
    return program.info().verifiedInstructions as number;
  };
  const plain = verify(false, newest);
  for (const pointerDifference of [true, false]) {
    expect(verify(true, { ...newest, pointerDifference })).toBeLessThan(plain / 5);
  }
});

bpfTest("pointers that are spilled stay pointers, and null checks reach them", () => {
  using map = new ArrayMap({ value: t.u64, length: 12 });
  for (let i = 0; i < 12; i++) map.set(i, BigInt(i + 1));
  const code = compile((b) => {
    const key = b.slot({ size: 4, align: 4, name: "key" });
    const pointers = Array.from({ length: 12 }, (_, i) => {
      b.store(key, 0, 4, i);
      return b.callHelper("map_lookup_elem", b.add({ kind: "map", map }), key);
    });
    const missing = b.fn.newBlock();
    for (const pointer of pointers) {
      const found = b.fn.newBlock();
      b.branchOn("eq", pointer, 0, missing, found);
      b.continueIn(found);
    }
    const values = pointers.map((pointer) => b.load(pointer, 0, 8));
    b.callHelper("get_prandom_u32");
    for (const [i, pointer] of pointers.entries()) {
      b.store(pointer, 0, 8, b.binary("mul", values[i] as Node, 2));
    }
    b.return(values.reduce((sum, value) => b.binary("add", sum, value)));
    b.continueIn(missing);
    b.return(0);
  });
  expect(disassemble(code)).toContain("*(u64 *)(r10 -16) = r");
  using program = new Program({ section: "socket", license: "GPL", code });
  expect(program.testRun({ data: packet }).returnValue).toBe(78);
  expect([...map.values()]).toEqual(Array.from({ length: 12 }, (_, i) => BigInt(2 * i + 2)));
});

testWith(features.helpers("socket_filter").get("loop"))("a callback is a function", () => {
  const step = define(
    (b) => {
      const [index, pointer] = [0, 1].map((i) => b.add({ kind: "parameter", index: i }));
      const sum = b.binary("add", b.load(pointer as Node, 0, 8), index as Node);
      b.store(pointer as Node, 0, 8, sum);
      b.return(0);
    },
    "step",
    2,
  );
  const main = define((b) => {
    const sum = b.slot({ size: 8, align: 8, name: "sum" });
    b.store(sum, 0, 8, 0);
    const address = b.add({ kind: "functionAddress", function: step });
    b.callHelper("loop", 100, address, sum, 0);
    b.return(b.load(sum, 0, 8));
  });
  const code = emit(withCallees(main), { target: newest, sourceOf: () => undefined });
  using program = new Program({ section: "socket", license: "GPL", code });
  expect(program.testRun({ data: packet }).returnValue).toBe(4950);
});

bpfTest("jumps over much code are long where the kernel has such jumps", () => {
  const skip = (count: number) => (b: Builder) => {
    const slot = b.slot({ size: 8, align: 8, name: "x" });
    b.store(slot, 0, 8, 7);
    const [long, end] = [b.fn.newBlock(), b.fn.newBlock()];
    b.branchOn("gt", b.load(context(b), 0, 4), 40, end, long);
    b.continueIn(long);
    for (let i = 0; i < count; i++) b.store(slot, 0, 8, i);
    b.jump(end);
    b.continueIn(end);
    b.return(b.load(slot, 0, 8));
  };
  for (const longJumps of runningTarget().longJumps ? [true, false] : [false]) {
    const target = { ...newest, longJumps };
    const code = compile(skip(longJumps ? 40_000 : 20_000), target);
    using program = new Program({ section: "socket", license: "GPL", code });
    expect(program.testRun({ data: packet }).returnValue).toBe(7);
  }
});

/** Runs random functions in the kernel and in the interpreter, and compares the results and the memory. */
function compareRandom(target: Target, count: number, seed: number): void {
  using map = new ArrayMap({ value: t.bytes(layout.size), length: 1 });
  let tooComplex = 0;
  for (let number = 0; number < count; number++) {
    const random = randomNumbers(seed + number);
    const options = { map, random, hasAtomics: target.atomicFetch };
    const parameterCount = 1 + random(5);
    const callee = randomFunction("callee", { ...options, size: 8, parameterCount });
    const size = 5 + random(60);
    const fn = randomFunction("main", { ...options, size, callees: [callee], parameterCount: 0 });
    const code = emit(withCallees(fn), { target, sourceOf: () => undefined });
    const explain = () =>
      `seed ${seed + number}\n${printFunction(callee)}\n${printFunction(fn)}\n${disassemble(code)}`;
    let program: Program;
    try {
      program = new Program({ section: "socket", license: "GPL", code });
    } catch (error) {
      if (error instanceof VerifierError && /too (large|many|complex)/.test(error.message)) {
        tooComplex++;
        continue;
      }
      throw new Error(explain(), { cause: error });
    }
    using _ = program;
    for (let run = 0; run < 4; run++) {
      const memory = new Uint8Array(layout.size);
      for (let i = 0; i < layout.size; i++)
        memory[i] = random(3) === 0 ? random(256) : random(2) * 255;
      map.set(0, memory);
      const { returnValue } = program.testRun({ data: packet });
      const expected = Number(BigInt.asUintN(32, interpret(fn, memory, [])));
      if (returnValue === expected && Bun.deepEquals(map.get(0), memory)) continue;
      throw new Error(`expected ${expected}, got ${returnValue}: ${explain()}`);
    }
  }
  expect(tooComplex).toBeLessThanOrEqual(Math.ceil(count / 50));
}

describe("random functions give what the interpreter gives", () => {
  const running = runningTarget();
  // Verifying takes most of the time, and much longer on a busy machine.
  const timeout = 120_000;

  bpfTest(
    "with all features of this kernel",
    () => {
      compareRandom(running, repetitions(1500, 20), anySeed());
    },
    timeout,
  );

  for (const feature of Object.keys(targetVersions) as TargetFeature[]) {
    bpfTest(
      `without ${feature}`,
      () => {
        compareRandom({ ...running, [feature]: false }, repetitions(100, 5), anySeed());
      },
      timeout,
    );
  }

  bpfTest(
    "with the features of Linux 5.10",
    () => {
      compareRandom(targetOf("5.10"), repetitions(500, 10), anySeed());
    },
    timeout,
  );
});
