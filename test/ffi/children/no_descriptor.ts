/** @module Repeats operations with more and more free descriptors until they succeed, and prints the errors. */
import { existsSync } from "node:fs";
import * as lib from "../../../src/index.ts";
import { takeDescriptors } from "../../support/last_descriptors.ts";
import { countResources } from "../../support/resources.ts";

const { asm, t } = lib;
const code = [asm.mov(asm.r0, 0), asm.exit()];
const value = t.u32;

/** Objects for the operations, created while descriptors are free. */
const map = new lib.HashMap({ key: t.u32, value, maxEntries: 1, name: "given" });
const ring = new lib.RingBuf({ event: value, size: 4096 });
const mapped = new lib.ArrayMap({ value, length: 1, mmap: true });
const program = new lib.Program({ section: "raw_tracepoint/sys_enter", license: "GPL", code });
// Linux 5.10 does not attach the same program twice to one raw tracepoint.
new lib.Program({ section: "raw_tracepoint/sys_enter", license: "GPL", code }).attach();
const tracepoint = new lib.Program({
  section: "tp/syscalls/sys_enter_getpid",
  license: "GPL",
  code,
});

const path = `${new lib.BpfFileSystem().path}/events`;

/** The operations that need descriptors. */
const makers: Readonly<Record<string, () => unknown>> = {
  HashMap: () => new lib.HashMap({ key: t.u32, value, maxEntries: 1 }),
  PerCpuArrayMap: () => new lib.PerCpuArrayMap({ value, length: 1 }),
  "a map with named types": () =>
    new lib.HashMap({ key: t.struct({ a: t.u32 }), value: t.struct({ b: t.u32 }), maxEntries: 1 }),
  "the view of an array": () => mapped.view,
  RingBuf: () => new lib.RingBuf({ event: value, size: 4096 }),
  "the losses of a ring": () => ring.lost,
  PerfBuffer: () => new lib.PerfBuffer({ event: value }),
  StackTraceMap: () => new lib.StackTraceMap({ maxEntries: 1 }),
  ArrayOfMaps: () =>
    lib.createMap({
      type: "array_of_maps",
      length: 1,
      inner: { type: "array", value, length: 1 },
    }),
  Program: () => new lib.Program({ section: "socket", license: "GPL", code }),
  "a duplicate": () => map.dup(),
  "a map by id": () => lib.HashMap.fromId(map.id, { key: t.u32, value }),
  "a program by id": () => lib.Program.fromId(program.id),
  "a list of maps": () => [...lib.listMaps()],
  "a list of programs": () => [...lib.listPrograms()],
  "a link": () => program.attach(),
  "a link of a tracepoint": () => tracepoint.attach(),
  "a list of links": () => [...lib.listLinks()],
  "a feature": () => lib.features.mapTypes.get("hash")?.available,
  "the kernel's types": () => lib.Btf.kernel(),
  "symbols of the kernel": () => lib.KernelSymbols.read(),
  "the owners of objects": () => lib.objectOwners(),
  "the pins of objects": () => lib.objectPins(),
  "the number of CPUs": () => lib.possibleCpus(),
  "a pinned PerfBuffer": () => {
    try {
      return new lib.PerfBuffer({ event: value, pin: path });
    } catch (error) {
      throw existsSync(path) ? new Error("its pin was left") : error;
    }
  },
};

/** Objects that stay open. */
const lasting: readonly string[] = ["the view of an array", "the losses of a ring"];

const names = process.argv.slice(2);
if (names.length === 0) {
  console.log(JSON.stringify(Object.keys(makers)));
  process.exit();
}

/** The result of an operation. */
export interface Outcome {
  readonly what: string;
  readonly failures: { spare: number; name: string; code: string; message: string }[];
  readonly isMade: boolean;
  readonly leaked: string;
}

function tryOut(what: string): Outcome {
  const make = makers[what] as () => unknown;
  const failures: Outcome["failures"] = [];
  const before = countResources();
  let leaked = "";
  for (let spare = 0; spare < 12; spare++) {
    using taken = takeDescriptors(spare);
    try {
      const made = make() as Partial<Disposable> | undefined;
      if (!lasting.includes(what)) made?.[Symbol.dispose]?.();
      return { what, failures, isMade: true, leaked };
    } catch (error) {
      const { name, code, message } = error as lib.BpfError;
      failures.push({ spare, name, code, message });
    }
    taken[Symbol.dispose]();
    const after = countResources();
    if (JSON.stringify(after) !== JSON.stringify(before)) {
      leaked += `with ${spare}: ${JSON.stringify(after)} after ${JSON.stringify(before)}\n`;
    }
  }
  return { what, failures, isMade: false, leaked };
}

console.log(JSON.stringify(names.map(tryOut)));
