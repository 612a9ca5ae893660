import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  ArrayMap,
  asm,
  type BuildIdFrame,
  DisposedError,
  KernelSymbols,
  Program,
  StackTraceMap,
  t,
} from "../../src/index.ts";
import { BPF_F_REUSE_STACKID, BPF_F_STACK_BUILD_ID, BPF_F_USER_STACK } from "../../src/uapi/bpf.ts";
import { bpfTest } from "../support/privilege.ts";
import { type BadConstruction, findWrongError } from "./bad_options.ts";

const { r0, r1, r2, r3, r6 } = asm;
const [EEXIST, ENOMEM, EFAULT] = [17, 12, 14];

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "stack-trace-map-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Program that records its stack from one of several calls, with the given flags. */
class Recorder implements Disposable {
  readonly #program: Program;

  constructor(stacks: StackTraceMap<boolean>, places = 1) {
    const calls = Array.from({ length: places }, (_, place) => [
      asm.jne(r6, place, `not_${place}`),
      asm.callFunction("record"),
      asm.exit(),
      asm.label(`not_${place}`),
    ]);
    this.#program = new Program({
      section: "raw_tp/sys_enter",
      license: "GPL",
      name: "recorder",
      maps: { stacks },
      code: [
        asm.ldxdw(r6, r1, 8),
        calls,
        asm.mov(r0, 0),
        asm.exit(),
        asm.func("record"),
        asm.ldxdw(r3, r1, 0),
        asm.ldMap(r2, "stacks"),
        asm.call("get_stackid"),
        asm.exit(),
      ],
    });
  }

  /** Runs the program and returns the result of `get_stackid`. */
  record(flags = 0, place = 0): number {
    const ctx = new Uint8Array(new BigUint64Array([BigInt(flags), BigInt(place)]).buffer);
    return this.#program.testRun({ ctx }).returnValue | 0;
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }
}

/** Calls that must not compile; the first throws. */
function wrongUsage(stacks: StackTraceMap): void {
  // @ts-expect-error: only programs store stacks
  stacks.set(0, [1n]);
  // @ts-expect-error: as above
  stacks.add(0, [1n]);
  // @ts-expect-error: as above
  stacks.replace(0, [1n]);
  // @ts-expect-error: as above
  stacks.setMany([]);
  // @ts-expect-error: its frames are addresses
  const _frames: BuildIdFrame[] | undefined = stacks.get(0);
  // @ts-expect-error: its frames may have either form
  const _addresses: bigint[] | undefined = StackTraceMap.fromId(1).get(0);
}

function sorted(ids: Iterable<number>): number[] {
  return [...ids].sort((a, b) => a - b);
}

/** Creates a map with a stack from each place, and returns their ids: fewer if two have the same id. */
function filled(places: number): { stacks: StackTraceMap; ids: number[] } {
  const stacks = new StackTraceMap({ maxEntries: 16 * places, depth: 4 });
  using recorder = new Recorder(stacks, places);
  const results = Array.from({ length: places }, (_, place) => recorder.record(0, place));
  const ids = sorted(results.filter((id) => id >= 0));
  expect(ids.length).toBeGreaterThan(places * 0.9);
  return { stacks, ids };
}

describe("a kernel stack", () => {
  bpfTest("has its frames from the innermost one, without padding", () => {
    using stacks = new StackTraceMap({ maxEntries: 64 });
    using recorder = new Recorder(stacks);
    const id = recorder.record();
    expect(id).toBeGreaterThanOrEqual(0);
    expect(recorder.record()).toBe(id);
    const frames: bigint[] = stacks.get(id) ?? [];
    expect(frames.length).toBeGreaterThan(4);
    expect(frames.length).toBeLessThan(127);
    for (const frame of frames) expect(frame).toBeGreaterThan(2n ** 63n);
    expect(stacks.has(id)).toBe(true);
    expect(stacks.getMany([id, id + 64])).toEqual([frames, undefined]);

    const symbols = KernelSymbols.read();
    const symbolized = stacks.symbolize(id, symbols);
    expect(symbolized?.map(({ address }) => address)).toEqual(frames);
    const names = symbolized?.map(({ symbol }) => symbol?.name ?? "") ?? [];
    expect(names[0]).toStartWith("bpf_prog_");
    // Some kernels call all functions of a program with several ones F.
    expect(names[1]).toMatch(/_(recorder|F)$/);
    const call = names.findIndex((name) => /sys_bpf$/.test(name));
    expect(call).toBeGreaterThan(1);
    expect(call).toBeLessThan(frames.length - 1);
    expect(stacks.symbolize(id)).toEqual(symbolized);
  });

  bpfTest("is truncated to the innermost frames", () => {
    using whole = new StackTraceMap({ maxEntries: 64 });
    using cut = new StackTraceMap({ maxEntries: 64, depth: 5 });
    expect([whole.depth, cut.depth]).toEqual([127, 5]);
    expect([whole.valueSize, cut.valueSize]).toEqual([127 * 8, 40]);
    using recorderOfWhole = new Recorder(whole);
    using recorderOfCut = new Recorder(cut);
    const idOfWhole = recorderOfWhole.record();
    const frames = whole.get(idOfWhole) ?? [];
    const cutFrames = cut.get(recorderOfCut.record()) ?? [];
    expect(cutFrames.length).toBe(5);
    // The first frames are the program's own, and there are two programs.
    const names = whole.symbolize(idOfWhole)?.map(({ symbol }) => symbol?.name ?? "") ?? [];
    const own = names.findIndex((name) => !name.startsWith("bpf_prog_"));
    expect(own).toBeGreaterThan(0);
    expect(own).toBeLessThan(4);
    expect(cutFrames.slice(own)).toEqual(frames.slice(own, 5));
  });

  bpfTest("is symbolized with the calling functions, not with those at the return address", () => {
    using stacks = new StackTraceMap({ maxEntries: 64, depth: 3 });
    using recorder = new Recorder(stacks);
    const id = recorder.record();
    const [first, second, third] = stacks.get(id) as [bigint, bigint, bigint];
    const path = join(folder, "kallsyms");
    const lines = [
      [first, "innermost"],
      [second - 16n, "caller"],
      [second, "behind_caller"],
      [third - 32n, "outermost"],
    ] as const;
    writeFileSync(path, lines.map(([at, name]) => `${at.toString(16)} t ${name}\n`).join(""));
    const symbol = (name: string, address: bigint, offset: number) => ({
      address: address + BigInt(offset),
      symbol: { name, address, offset, module: undefined },
    });
    expect(stacks.symbolize(id, KernelSymbols.read(path))).toEqual([
      symbol("innermost", first, 0),
      symbol("caller", second - 16n, 16),
      symbol("outermost", third - 32n, 32),
    ]);
    writeFileSync(path, "ffffffffffffffff t far_behind\n");
    expect(stacks.symbolize(id, KernelSymbols.read(path))?.map(({ symbol }) => symbol)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  bpfTest("is recorded by an attached program", () => {
    using stacks = new StackTraceMap({ maxEntries: 1024 });
    using program = new Program({
      section: "raw_tp/sched_process_exec",
      license: "GPL",
      maps: { stacks },
      code: [
        asm.mov(r3, 0),
        asm.ldMap(r2, "stacks"),
        asm.call("get_stackid"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
    using _link = program.attach();
    Bun.spawnSync(["true"]);
    const symbols = KernelSymbols.read();
    const names = [...stacks.keys()].map((id) =>
      (stacks.symbolize(id, symbols) ?? []).map(({ symbol }) => symbol?.name).join(" "),
    );
    expect(names.some((stack) => /bpf_trace_run.*\bbprm_execve\b.*sys_exec/.test(stack))).toBe(
      true,
    );
  });
});

describe("a user stack", () => {
  interface Mapping {
    readonly start: bigint;
    readonly end: bigint;
    readonly offset: bigint;
    readonly path: string;
  }
  const mappingOf = (address: bigint): Mapping | undefined => {
    const line = /^(\w+)-(\w+) \S+ (\w+) \S+ \S+ *(.*)$/gm;
    for (const [, start, end, offset, path] of readFileSync("/proc/self/maps", "utf8").matchAll(
      line,
    )) {
      const mapping = {
        start: BigInt(`0x${start}`),
        end: BigInt(`0x${end}`),
        offset: BigInt(`0x${offset}`),
        path: path!,
      };
      if (address >= mapping.start && address < mapping.end) return mapping;
    }
    return undefined;
  };

  bpfTest("begins in the library with the system call", () => {
    using stacks = new StackTraceMap({ maxEntries: 64 });
    using recorder = new Recorder(stacks);
    const id = recorder.record(BPF_F_USER_STACK);
    const frames = stacks.get(id) ?? [];
    expect(mappingOf(frames[0] ?? 0n)?.path).toMatch(/libc|musl/);
    expect(stacks.symbolize(id)).toEqual(frames.map((address) => ({ address, symbol: undefined })));
  });

  bpfTest("has build ids and offsets in files", () => {
    using stacks = new StackTraceMap({ maxEntries: 64, buildId: true });
    using addresses = new StackTraceMap({ maxEntries: 64 });
    expect([stacks.types, addresses.types]).toEqual([{ buildId: true }, { buildId: false }]);
    expect([stacks.depth, stacks.valueSize]).toEqual([127, 127 * 32]);
    using recorder = new Recorder(stacks);
    using recorderOfAddresses = new Recorder(addresses);
    let frame: BuildIdFrame | undefined;
    let address = 0n;
    let id = 0;
    // The kernel reads no build id if another thread holds the lock of the memory map: it only tries to take it.
    for (let attempt = 0; attempt < 100 && !(frame && "buildId" in frame); attempt++) {
      id = recorder.record(BPF_F_USER_STACK | BPF_F_REUSE_STACKID);
      const innermost = recorderOfAddresses.record(BPF_F_USER_STACK | BPF_F_REUSE_STACKID);
      frame = stacks.get(id)?.[0];
      address = addresses.get(innermost)?.[0] ?? 0n;
    }
    if (frame === undefined || !("buildId" in frame)) throw new Error("no frame with a build id");
    const mapping = mappingOf(address) as Mapping;
    expect(frame.offset).toBe(address - mapping.start + mapping.offset);
    expect(frame.buildId).toMatch(/^[0-9a-f]{40}$/);
    const file = readFileSync(mapping.path);
    expect(file.includes(Buffer.from(frame.buildId.replace(/(00)+$/, ""), "hex"))).toBe(true);
    expect(() => stacks.symbolize(id)).toThrow(
      new TypeError(
        `stack ${id} of ${stacks} is a user stack: symbolize() supports only stacks of the kernel`,
      ),
    );
  });
});

bpfTest("a kernel stack in a map with build ids has addresses and can be symbolized", () => {
  using stacks = new StackTraceMap({ maxEntries: 64, buildId: true, depth: 10 });
  using recorder = new Recorder(stacks);
  const id = recorder.record();
  const frames: BuildIdFrame[] = stacks.get(id) ?? [];
  const symbolized = stacks.symbolize(id) ?? [];
  expect(frames).toEqual(symbolized.map(({ address }) => ({ ip: address })));
  expect(symbolized.some(({ symbol }) => /sys_bpf$/.test(symbol?.name ?? ""))).toBe(true);
});

describe("an absent stack", () => {
  bpfTest("is undefined or false for any id", () => {
    using stacks = new StackTraceMap({ maxEntries: 5 });
    // The kernel has 8 ids, all free, and rejects others.
    for (const id of [0, 4, 5, 7, 8, 9, 1000, 2 ** 32 - EEXIST]) {
      expect(stacks.get(id)).toBeUndefined();
      expect(stacks.has(id)).toBe(false);
      expect(stacks.delete(id)).toBe(false);
      expect(stacks.take(id)).toBeUndefined();
      expect(stacks.symbolize(id)).toBeUndefined();
    }
    expect(stacks.getMany([])).toEqual([]);
    expect([...stacks]).toEqual([]);
    stacks.clear();
  });

  bpfTest("is an error if the id is not an unsigned 32-bit integer", () => {
    using stacks = new StackTraceMap({ maxEntries: 5 });
    for (const id of [-EEXIST, 0.5, 2 ** 32]) {
      expect(() => stacks.get(id)).toThrow(RangeError);
      expect(() => stacks.delete(id)).toThrow(RangeError);
      expect(() => stacks.take(id)).toThrow(RangeError);
    }
    const notNumber = 3n as unknown as number;
    expect(() => stacks.delete(notNumber)).toThrow(TypeError);
    expect(() => stacks.symbolize(0, {} as KernelSymbols)).toThrow(
      new TypeError("symbols: expected KernelSymbols, got an object"),
    );
  });
});

describe("iteration", () => {
  // More than the first chunk of a walk, and more than the second.
  const places = 400;

  bpfTest("returns every stack once, in all forms of iteration", () => {
    const { stacks, ids } = filled(places);
    using _stacks = stacks;
    expect(sorted(stacks.keys())).toEqual(ids);
    expect(stacks.count()).toBe(ids.length);
    const entries = [...stacks];
    expect(sorted(entries.map(([id]) => id))).toEqual(ids);
    for (const [id, frames] of entries) expect(frames).toEqual(stacks.get(id)!);
    expect([...stacks.values()]).toEqual(entries.map(([, frames]) => frames));
    expect(stacks.toMap()).toEqual(new Map(entries));
    expect(new Set(entries.map(([, frames]) => frames.join())).size).toBe(ids.length);
    const seen: number[] = [];
    stacks.forEach((frames, id, self) => {
      if (frames.length === 4 && self === stacks) seen.push(id);
    });
    expect(sorted(seen)).toEqual(ids);
  });

  bpfTest("returns all others if the current stack is deleted or taken", () => {
    for (const every of [1, 2, 64]) {
      const { stacks, ids } = filled(places);
      using _stacks = stacks;
      const seen: number[] = [];
      for (const [id, frames] of stacks) {
        if (seen.push(id) % every !== 0) continue;
        if (every === 2) expect(stacks.take(id)).toEqual(frames);
        else expect(stacks.delete(id)).toBe(true);
      }
      expect(sorted(seen)).toEqual(ids);
      expect(stacks.count()).toBe(ids.length - Math.floor(ids.length / every));
    }
  });

  bpfTest("ends if all stacks are deleted during it", () => {
    const { stacks, ids } = filled(places);
    using _stacks = stacks;
    let seen = 0;
    for (const _id of stacks.keys()) if (++seen === 10) stacks.clear();
    expect(seen).toBeLessThan(ids.length);
    expect(stacks.count()).toBe(0);
  });

  bpfTest("ends if each stack is replaced by another during it", () => {
    using stacks = new StackTraceMap({ maxEntries: 64, depth: 4 });
    using recorder = new Recorder(stacks, 256);
    let place = 0;
    for (; place < 16; place++) recorder.record(0, place);
    let steps = 0;
    for (const id of stacks.keys()) {
      steps++;
      stacks.delete(id);
      recorder.record(0, place++ % 256);
    }
    expect(steps).toBeLessThanOrEqual(128);
  });
});

describe("a program", () => {
  bpfTest("gets EEXIST for another stack in the same slot, which it can replace", () => {
    // Two slots, so that two of three stacks share one.
    using stacks = new StackTraceMap({ maxEntries: 2 });
    using recorder = new Recorder(stacks, 64);
    const first = recorder.record();
    const frames = stacks.get(first);
    let place = 1;
    while (recorder.record(0, place) === 1 - first) {
      stacks.delete(1 - first);
      place++;
    }
    expect(recorder.record(0, place)).toBe(-EEXIST);
    expect(stacks.get(first)).toEqual(frames!);
    expect(recorder.record(BPF_F_REUSE_STACKID, place)).toBe(first);
    expect(stacks.get(first)).not.toEqual(frames!);
    expect(stacks.count()).toBe(1);
  });

  bpfTest("gets ENOMEM in a full map, even to replace a stack, until one is deleted", () => {
    using stacks = new StackTraceMap({ maxEntries: 1 });
    using recorder = new Recorder(stacks, 2);
    expect(recorder.record()).toBe(0);
    expect(recorder.record(BPF_F_REUSE_STACKID, 1)).toBe(-ENOMEM);
    const frames = stacks.take(0);
    expect(frames?.length).toBeGreaterThan(4);
    expect(stacks.has(0)).toBe(false);
    expect(recorder.record(0, 1)).toBe(0);
    expect(stacks.delete(0)).toBe(true);
    expect(stacks.delete(0)).toBe(false);
  });

  bpfTest("gets EFAULT if there is no stack", () => {
    using stacks = new StackTraceMap({ maxEntries: 1, depth: 4 });
    using recorder = new Recorder(stacks);
    expect(recorder.record(200)).toBe(-EFAULT);
  });
});

describe("a map that is opened", () => {
  bpfTest("has the depth and the frames that the kernel reports", () => {
    using stacks = new StackTraceMap({ maxEntries: 64, buildId: true, depth: 9, name: "opened" });
    using recorder = new Recorder(stacks);
    const id = recorder.record();
    const frames = stacks.get(id)!;
    using byId = StackTraceMap.fromId(stacks.id);
    using byFd = StackTraceMap.fromFd(stacks.fd, { buildId: true });
    using copy = byFd.dup();
    for (const map of [byId, byFd, copy]) {
      expect(map.types).toEqual({ buildId: true });
      expect(map.depth).toBe(9);
      expect(map.flags & BPF_F_STACK_BUILD_ID).not.toBe(0);
      expect(map.get(id)).toEqual(frames);
    }
    const typed: BuildIdFrame[] | undefined = copy.get(id);
    expect(typed).toEqual(frames);
  });

  bpfTest("is found by the option pin if it matches", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/stacks`;
    using stacks = new StackTraceMap({ maxEntries: 8, depth: 6, pin });
    using again = new StackTraceMap({ maxEntries: 8, depth: 6, pin });
    using opened = StackTraceMap.open(pin, { buildId: false });
    expect([again.id, opened.id]).toEqual([stacks.id, stacks.id]);
    expect(opened.depth).toBe(6);
    expect(() => new StackTraceMap({ maxEntries: 8, depth: 7, pin })).toThrow(
      "valueSize is 48, not 56",
    );
    expect(() => StackTraceMap.open(pin, { buildId: true })).toThrow(TypeError);
  });

  bpfTest("is rejected and closed if it does not match", () => {
    using array = new ArrayMap({ value: t.u64, length: 1 });
    expect(() => StackTraceMap.fromFd(array.fd)).toThrow("type is array, not stack_trace");
    using stacks = new StackTraceMap({ maxEntries: 1, name: "plain" });
    expect(() => StackTraceMap.fromId(stacks.id, { buildId: true })).toThrow(
      new TypeError(
        'the stack_trace map "plain" does not fit: its frames are addresses, and buildId is true',
      ),
    );
    using places = new StackTraceMap({ maxEntries: 1, name: "places", buildId: true });
    expect(() => StackTraceMap.fromFd(places.fd, { buildId: false })).toThrow(
      'the stack_trace map "places" does not fit: its frames are build ids, and buildId is false',
    );
    const misspelt = { buildID: true } as object;
    expect(() => StackTraceMap.fromFd(places.fd, misspelt)).toThrow(
      'StackTraceMap: unknown option "buildID": did you mean "buildId"?',
    );
    const number = { buildId: 1 } as unknown as { buildId: true };
    expect(() => StackTraceMap.fromFd(places.fd, number)).toThrow(
      "buildId: expected true or false, got 1",
    );
  });
});

bpfTest("a disposed map throws in every method", () => {
  const stacks = new StackTraceMap({ maxEntries: 1 });
  stacks[Symbol.dispose]();
  for (const operation of [
    () => stacks.get(0),
    () => stacks.has(100),
    () => stacks.delete(0),
    () => stacks.delete(100),
    () => stacks.take(0),
    () => stacks.getMany([]),
    () => stacks.clear(),
    () => stacks.count(),
    () => [...stacks],
    () => stacks.symbolize(0),
    () => stacks.dup(),
  ]) {
    expect(operation).toThrow(DisposedError);
  }
});

bpfTest("only programs can store stacks", () => {
  using stacks = new StackTraceMap({ maxEntries: 1 });
  for (const name of ["set", "add", "replace", "setMany"]) expect(name in stacks).toBe(false);
  expect(() => wrongUsage(stacks)).toThrow("set is not a function");
});

describe("options", () => {
  const bad = (
    what: string,
    options: object,
    error: BadConstruction["error"],
    says: RegExp,
  ): BadConstruction => {
    const all = { maxEntries: 4, ...options };
    return {
      what: `StackTraceMap with ${what}`,
      construct: () => new StackTraceMap(all),
      error,
      says,
    };
  };
  const limit = Number(readFileSync("/proc/sys/kernel/perf_event_max_stack", "utf8"));
  const depth = new RegExp(
    `^depth: expected an integer from 1 to ${limit} \\(the sysctl kernel\\.perf_event_max_stack\\), got `,
  );
  const table: readonly BadConstruction[] = [
    ...[0, -1, 1.5, 2 ** 31 + 1, Number.NaN, "4", 4n, undefined].map((maxEntries) =>
      bad(
        `maxEntries ${maxEntries}`,
        { maxEntries },
        "RangeError",
        /maxEntries: expected an integer from 1 to 2147483648, got /,
      ),
    ),
    ...[0, -1, 1.5, limit + 1, Number.NaN, "4", 4n, null].map((value) =>
      bad(`depth ${value}`, { depth: value }, "RangeError", depth),
    ),
    bad("buildId 1", { buildId: 1 }, "TypeError", /buildId: expected true or false, got 1/),
    bad("a key", { key: t.u32 }, "TypeError", /StackTraceMap: unknown option "key"/),
    bad("dept", { dept: 4 }, "TypeError", /unknown option "dept": did you mean "depth"\?/),
    bad(
      "build ids by the flag alone",
      { flags: ["stack_build_id"] },
      "TypeError",
      /flags: use the option "buildId: true"/,
    ),
    bad("the bit alone", { flags: BPF_F_STACK_BUILD_ID }, "TypeError", /flags: use the option/),
    bad("a bad name", { name: "a b" }, "RangeError", /name: /),
    bad("a bad NUMA node", { numaNode: -2 }, "RangeError", /numaNode: /),
    bad("a bad pin", { pin: "" }, "TypeError", /pin: expected a path/),
  ];
  for (const one of table) {
    test(`are rejected: ${one.what}`, () => expect(findWrongError(one)).toBeUndefined());
  }

  bpfTest("accept the flag with buildId, and the largest depth", () => {
    using stacks = new StackTraceMap({
      maxEntries: 3,
      depth: limit,
      buildId: true,
      flags: ["stack_build_id"],
      numaNode: 0,
    });
    expect([stacks.depth, stacks.maxEntries]).toEqual([limit, 3]);
    expect(stacks.flags & BPF_F_STACK_BUILD_ID).not.toBe(0);
  });
});
