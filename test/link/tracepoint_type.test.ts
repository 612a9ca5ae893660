import { describe, expect, expectTypeOf, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  ArrayMap,
  asm,
  BpfError,
  Btf,
  Program,
  t,
  type TracepointType,
  tracepointType,
  type TracepointValue,
} from "../../src/index.ts";
import { parseTracepointFormat } from "../../src/link/tracepoint_type.ts";
import { bpfTest } from "../support/privilege.ts";

/** Returns the offsets and type names of all fields. */
function fieldsOf(type: TracepointType): Record<string, string> {
  return Object.fromEntries(
    Object.entries(type.fields).map(([name, { type: field, offset }]) => [
      name,
      `${field.name} at ${offset}`,
    ]),
  );
}

/** Makes a format with the given fields, each `declaration offset size signed`. */
function format(...fields: readonly (readonly [string, number, number, number])[]): string {
  const lines = fields.map(
    ([declaration, offset, size, signed]) =>
      `\tfield:${declaration};\toffset:${offset};\tsize:${size};\tsigned:${signed};`,
  );
  return `name: x\nID: 1\nformat:\n${lines.join("\n")}\n\nprint fmt: "field:%d;\toffset:0;", REC->x\n`;
}

describe("parseTracepointFormat()", () => {
  test("maps integers by size and sign, text, bytes and pointers", () => {
    const type = parseTracepointFormat(
      format(
        ["unsigned short common_type", 0, 2, 0],
        ["unsigned char common_flags", 2, 1, 0],
        ["int common_pid", 4, 4, 1],
        ["char comm[16]", 8, 16, 1],
        ["pid_t pid", 24, 4, 1],
        ["bool is_last", 28, 1, 0],
        ["enum reason why", 32, 4, 0],
        ["const char * filename", 40, 8, 0],
        ["struct sockaddr *addr", 48, 8, 0],
        ["__u8 saddr[4]", 56, 4, 0],
        ["unsigned long args[6]", 64, 48, 0],
        ["s16 deltas[2]", 112, 4, 1],
        ["char one", 116, 1, 1],
      ),
      "event",
    );
    expect(fieldsOf(type)).toEqual({
      common_type: "u16 at 0",
      common_flags: "u8 at 2",
      common_pid: "i32 at 4",
      comm: "cstring(16) at 8",
      pid: "i32 at 24",
      is_last: "bool at 28",
      why: "u32 at 32",
      filename: "u64 at 40",
      addr: "u64 at 48",
      saddr: "bytes(4) at 56",
      args: "array(u64, 6) at 64",
      deltas: "array(i16, 2) at 112",
      one: "i8 at 116",
    });
    expect(type).toMatchObject({ kind: "struct", name: "event", size: 117, align: 1 });
  });

  test("maps arrays of variable length to locations", () => {
    const type = parseTracepointFormat(
      format(
        ["__data_loc char[] filename", 8, 4, 0],
        ["__rel_data_loc unsigned long[] stack", 12, 4, 0],
        ["u64 after", 16, 8, 0],
      ),
      "event",
    );
    const view = new DataView(new ArrayBuffer(type.size));
    view.setUint32(8, (5 << 16) | 24, true);
    view.setUint32(12, (16 << 16) | 12, true);
    view.setBigUint64(16, 7n, true);
    expect(type.read(view, 0)).toEqual({
      filename: { offset: 24, length: 5 },
      stack: { offset: 12, length: 16 },
      after: 7n,
    });
    expect([type.size, type.align]).toEqual([24, 8]);
  });

  test("accepts names instead of lengths, odd sizes, and empty fields", () => {
    const type = parseTracepointFormat(
      format(
        ["char prev_comm[TASK_COMM_LEN]", 8, 16, 1],
        ["u32 lengths[MANY]", 24, 12, 0],
        ["struct big whole", 36, 24, 0],
        ["u8 rest[0]", 60, 0, 0],
        ["u16 grid[2][3]", 60, 12, 0],
        ["u16 grid", 72, 2, 0],
      ),
      "event",
    );
    expect(fieldsOf(type)).toEqual({
      prev_comm: "cstring(16) at 8",
      lengths: "bytes(12) at 24",
      whole: "bytes(24) at 36",
      grid: "array(u16, 6) at 60",
    });
    const bytes = new Uint8Array(type.size).fill(0xaa);
    const view = new DataView(bytes.buffer);
    type.write(view, 0, {
      prev_comm: "a",
      lengths: new Uint8Array(12),
      whole: new Uint8Array(24),
      grid: [1, 2, 3, 4, 5, 6],
    });
    expect(bytes.subarray(0, 10).toHex()).toBe("00000000000000006100");
  });

  test("throws an error with the format if that has no fields", () => {
    expect(() => parseTracepointFormat("name: x\n", "event")).toThrow("has no fields: name: x");
  });

  test("returns a type with general TypeScript values", () => {
    expectTypeOf<t.Infer<TracepointType>[string]>().toEqualTypeOf<TracepointValue>();
  });
});

bpfTest("tracepointType() works for each tracepoint of this kernel", () => {
  using tracefs = new DetachedMount("tracefs");
  let count = 0;
  for (const category of readdirSync(`${tracefs.path}/events`, { withFileTypes: true })) {
    if (!category.isDirectory() || category.name === "ftrace") continue;
    const events = readdirSync(`${tracefs.path}/events/${category.name}`, { withFileTypes: true });
    for (const event of events.filter((entry) => entry.isDirectory())) {
      const target = `${category.name}/${event.name}`;
      const text = readFileSync(`${tracefs.path}/events/${target}/format`, "utf8");
      const type = parseTracepointFormat(text, target);
      const places = [...text.matchAll(/offset:(\d+);\tsize:([1-9]\d*);/g)];
      const fields = Object.values(type.fields);
      expect(fields.length).toBeLessThanOrEqual(places.length);
      for (const { type: field, offset } of fields) {
        expect(places.some(([, at, size]) => +at! === offset && +size! === field.size)).toBe(true);
      }
      const view = new DataView(new ArrayBuffer(type.size));
      type.write(view, 0, type.read(view, 0));
      count++;
    }
  }
  expect(count).toBeGreaterThan(500);
});

bpfTest("tracepointType() has the layout of the kernel's struct", () => {
  const type = tracepointType("sched/sched_switch");
  expect(type.name).toBe("tracepoint sched/sched_switch");
  const btf = Btf.kernel();
  for (const name of [
    "prev_comm",
    "prev_pid",
    "prev_prio",
    "prev_state",
    "next_comm",
    "next_pid",
  ]) {
    const { offset, size } = btf.field("trace_event_raw_sched_switch", name);
    expect(type.fields[name]).toMatchObject({ offset, type: { size } });
  }
});

bpfTest("the type decodes the context of a program", async () => {
  const event = tracepointType("sched/sched_switch");
  const { r0, r1, r2, r3, r4, r6, r10 } = asm;
  const words = Array.from({ length: event.size / 8 - 1 }, (_, index) => 8 + index * 8);
  using last = new ArrayMap({ value: event, length: 1 });
  using program = new Program({
    section: "tp/sched/sched_switch",
    license: "GPL",
    maps: { last },
    code: [
      asm.mov(r6, r1),
      asm.stdw(r10, -event.size, 0),
      ...words.flatMap((at) => [asm.ldxdw(r0, r6, at), asm.stxdw(r10, at - event.size, r0)]),
      asm.stw(r10, -event.size - 8, 0),
      asm.ldMap(r1, "last"),
      asm.mov(r2, r10),
      asm.add(r2, -event.size - 8),
      asm.mov(r3, r10),
      asm.add(r3, -event.size),
      asm.mov(r4, 0),
      asm.call("map_update_elem"),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
  using _link = program.attach();
  await Bun.sleep(20);
  const switched = last.get(0)!;
  expect(switched["next_comm"]).toMatch(/./);
  expect(switched["next_pid"]).not.toBe(switched["prev_pid"]);
  expect(switched["next_prio"]).toBeWithin(0, 141);
  expect(switched["prev_state"]).toBeTypeOf("bigint");
});

bpfTest("an unknown tracepoint is an error with a suggestion", () => {
  expect(() => tracepointType("sched:sched_switch")).toThrow(
    new TypeError(
      'tracepointType(target): expected category/name, as "sched/sched_switch", got "sched:sched_switch": did you mean "sched/sched_switch"?',
    ),
  );
  for (const target of ["sched", "../x", "sched/../x", "", 5]) {
    expect(() => tracepointType(target as string)).toThrow(TypeError);
  }
  expect(() => tracepointType("sched/none")).toThrow(BpfError);
  expect(() => tracepointType("sched/none")).toThrow("This kernel has no tracepoint sched/none");
});
