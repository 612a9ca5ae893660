/** Tests of the source positions, types and relocations of a spec in the kernel. */
import { describe, expect, test } from "bun:test";
import { BtfBuilder } from "../../src/btf/builder.ts";
import { BpfAttr } from "../../src/ffi/bpf.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import {
  asm,
  AssemblerError,
  assemble,
  BpfError,
  Btf,
  type Code,
  type CoreRelocation,
  Program,
  type ProgramSpec,
} from "../../src/index.ts";
import { encodeProgramBtf } from "../../src/program/program_btf.ts";
import { BPF_OBJ_GET_INFO_BY_FD } from "../../src/uapi/commands.ts";
import { GET_INFO_BY_FD, PROG_INFO } from "../../src/uapi/layout.ts";
import { bpftoolObstacle, runBpftool } from "../support/bpftool.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { testUnless } from "../support/skipping.ts";

const { r0, r1, mov, add, exit, func, callFunction, withSource } = asm;
const packet = new Uint8Array(14);

function at(line: number, text: string, column = 3) {
  return { file: "double.ts", line, column, text };
}

const code: Code = [
  func("main"),
  withSource(mov(r1, 20), at(3, "  let x = 20;")),
  withSource(callFunction("double"), at(4, "  x = double(x);")),
  withSource(exit(), at(5, "  return x;")),
  func("double"),
  mov(r0, r1),
  withSource(add(r0, r1), at(9, "  return x + x;", 10)),
  exit(),
];

const spec: ProgramSpec = { section: "socket", name: "double", license: "GPL", code };

/** Reads the kernel's line information about a program: slots, and `line_col` words. */
function lineInfo({ fd }: Program): { readonly slot: number; readonly position: number }[] {
  const recordSize = 16;
  const maxRecords = 64;
  using records = allocateScratch(maxRecords * recordSize);
  using info = allocateScratch(PROG_INFO.sizeof);
  info.view.setUint32(PROG_INFO.nr_line_info, maxRecords, true);
  info.view.setUint32(PROG_INFO.line_info_rec_size, recordSize, true);
  info.view.setBigUint64(PROG_INFO.line_info, BigInt(records.address), true);
  using attr = new BpfAttr(GET_INFO_BY_FD.sizeof);
  attr
    .u32(GET_INFO_BY_FD.bpf_fd, fd)
    .u32(GET_INFO_BY_FD.info_len, PROG_INFO.sizeof)
    .pointer(GET_INFO_BY_FD.info, info)
    .call(BPF_OBJ_GET_INFO_BY_FD, { doing: "read line information" });
  const count = info.view.getUint32(PROG_INFO.nr_line_info, true);
  return Array.from({ length: count }, (_, index) => ({
    slot: records.view.getUint32(index * recordSize, true),
    position: records.view.getUint32(index * recordSize + 12, true),
  }));
}

describe("source positions", () => {
  bpfTest("become line information, with at least one line per function", () => {
    using program = new Program(spec);
    expect(program.testRun({ data: packet }).returnValue).toBe(40);
    expect(program.info().btfId).toBeGreaterThan(0);
    const position = (line: number, column = 3) => (line << 10) | column;
    expect(lineInfo(program)).toEqual([
      { slot: 0, position: position(3) },
      { slot: 1, position: position(4) },
      { slot: 2, position: position(5) },
      { slot: 3, position: 0 },
      { slot: 4, position: position(9, 10) },
    ]);
  });

  bpfTest("appear in the verifier's log, also of a rejected program", () => {
    using program = new Program({ ...spec, log: "verbose" });
    expect(program.log).toMatch(/; +let x = 20;.*\n0: \(b7\) r1 = 20/);
    const bad = [withSource(mov(r1, 0), at(1, "p = null;")), asm.ldxw(r0, r1, 0), exit()];
    expect(() => new Program({ ...spec, code: bad })).toThrow(/; p = null;.*\n/);
  });

  testUnless(bpfObstacle ?? bpftoolObstacle)("appear in the output of bpftool", async () => {
    using program = new Program(spec);
    const { stdout } = await runBpftool("prog", "dump", "xlated", "id", `${program.id}`, "linum");
    const shown = JSON.stringify(JSON.parse(stdout));
    for (const text of ["let x = 20;", "x = double(x);", "return x;", "return x + x;", "double.ts"])
      expect(shown).toContain(text);
  });

  bpfTest("leave no descriptor open, and programs without them load without BTF", async () => {
    using plain = new Program({ ...spec, code: [mov(r0, 0), exit()] });
    expect(plain.info().btfId).toBe(0);
    expect(lineInfo(plain)).toEqual([]);
    const before = await settledResources();
    for (let round = 0; round < 50; round++) {
      using _program = new Program(spec);
    }
    expect(countResources()).toEqual(before);
  });

  bpfTest("are left out if the kernel rejects them", () => {
    // More than the maximum size of BTF, 16 MiB.
    const file = "x".repeat(17 * 2 ** 20);
    using program = new Program({
      ...spec,
      code: [withSource(mov(r0, 7), { file, line: 1 }), exit()],
    });
    expect(program.testRun({ data: packet }).returnValue).toBe(7);
    expect(program.info().btfId).toBe(0);
  });

  bpfTest("are cut to a length that the verifier's log can have in all kernel versions", () => {
    // Each letter takes three bytes.
    const code = [withSource(mov(r0, 7), at(1, "語".repeat(2 ** 16))), exit()];
    using program = new Program({ ...spec, code, log: "verbose" });
    const longest = Math.max(...program.log.split("\n").map((line) => Buffer.byteLength(line)));
    expect(program.log).toContain("; 語語");
    expect(longest).toBeLessThan(1000);
  });

  bpfTest("may have any line and column, and any text", () => {
    const odd = (line: number, column: number, text: string) => ({
      ...at(line, text, column),
      file: "a\0b.ts",
    });
    using program = new Program({
      ...spec,
      code: [
        withSource(mov(r0, 1), odd(2 ** 22, 5, "two\nlines")),
        withSource(mov(r0, 2), odd(7, 1024, "größer\0")),
        exit(),
      ],
    });
    expect(lineInfo(program)).toEqual([
      { slot: 0, position: 5 },
      { slot: 1, position: 7 << 10 },
    ]);
  });
});

/** Returns types of a program, with a kernel struct of which they have one member. */
function ownTypes() {
  const types = new BtfBuilder();
  const int = types.int("int", 4, { isSigned: true });
  const task = types.struct("task_struct", 4, [{ name: "pid", typeId: int, bitOffset: 0 }]);
  const main = types.func("named", types.functionPrototype(int), "static");
  return { btf: { bytes: types.encode(), functions: { "": main } }, task };
}

describe("types of a spec", () => {
  bpfTest("are loaded with the program", () => {
    const { btf } = ownTypes();
    using program = new Program({ ...spec, btf, code: [mov(r0, 7), exit()] });
    const types = Btf.fromId(program.info().btfId);
    expect(types.find("func", "named")).toBeDefined();
    expect(types.find("struct", "task_struct")).toBeDefined();
    expect(program.testRun({ data: packet }).returnValue).toBe(7);
  });

  bpfTest("may have a longer header", () => {
    const { btf } = ownTypes();
    const bytes = Buffer.concat([
      btf.bytes.subarray(0, 24),
      Buffer.alloc(8),
      btf.bytes.subarray(24),
    ]);
    bytes.writeUInt32LE(32, 4);
    using program = new Program({ ...spec, btf: { ...btf, bytes }, code: [mov(r0, 7), exit()] });
    expect(Btf.fromId(program.info().btfId).find("func", "named")).toBeDefined();
  });

  test("are rejected if they are not BTF, or lack a function", () => {
    const { btf } = ownTypes();
    expect(() => encodeProgramBtf(assemble(code), btf)).toThrow(
      'btf: functions: the type id of the function "main" is missing',
    );
    for (const [wrong, message] of [
      [null, "btf: expected an object, got null"],
      [
        { bytes: btf.bytes },
        "btf: functions: expected an object of type ids by function name, got undefined",
      ],
      [{ ...btf, function: {} }, 'did you mean "functions"?'],
    ] as const) {
      const given = wrong as unknown as typeof btf;
      expect(() => encodeProgramBtf(assemble(code), given)).toThrow(message);
    }
    const bytes = new Uint8Array(3);
    expect(() => encodeProgramBtf(assemble([mov(r0, 0), exit()]), { ...btf, bytes })).toThrow(
      "btf: bytes: expected raw BTF",
    );
  });
});

describe("relocations", () => {
  const { btf, task } = ownTypes();
  /** Returns a program whose relocated instruction has a number that is only correct for the program's own types. */
  const relocated = (relocation: CoreRelocation, number = 0): Code => [
    { ...mov(r0, number), relocation },
    exit(),
  ];

  const relocationTest = testUnless(
    bpfObstacle ??
      (isKernelSince("5.17") ? undefined : "the kernel resolves relocations from 5.17 on") ??
      (Btf.kernel().find("struct", "task_struct") === undefined ? "no types" : undefined),
  );

  test("are rejected if their kind is unknown", () => {
    const unknown = { kind: "field_offset", typeId: task, access: "0:0" } as unknown;
    const program = assemble(relocated(unknown as CoreRelocation));
    expect(() => encodeProgramBtf(program, btf)).toThrow(
      'unknown kind "field_offset": known names',
    );
  });

  relocationTest("are resolved by the kernel", () => {
    const offset = { kind: "field_byte_offset", typeId: task, access: "0:0" } as const;
    using program = new Program({ ...spec, btf, code: relocated(offset) });
    const { offset: expected } = Btf.kernel().field("task_struct", "pid");
    expect(expected).toBeGreaterThan(0);
    expect(program.testRun({ data: packet }).returnValue).toBe(expected);
    const exists = { kind: "type_exists", typeId: task, access: "0" } as const;
    using other = new Program({ ...spec, btf, code: relocated(exists, 1) });
    expect(other.testRun({ data: packet }).returnValue).toBe(1);
  });

  testUnless(bpfObstacle ?? (isKernelSince("5.17") ? "the kernel resolves them" : undefined))(
    "are an error that names the first version of kernels that resolve them",
    () => {
      const offset = { kind: "field_byte_offset", typeId: task, access: "0:0" } as const;
      const load = () => new Program({ ...spec, btf, code: relocated(offset) });
      expect(load).toThrow(BpfError);
      expect(load).toThrow("which need Linux 5.17");
    },
  );

  test("are rejected without the types to which they refer", () => {
    const offset = { kind: "field_byte_offset", typeId: task, access: "0:0" } as const;
    expect(() => encodeProgramBtf(assemble(relocated(offset)))).toThrow(AssemblerError);
  });

  test("are kept in a clone of the spec", () => {
    const offset = { kind: "field_byte_offset", typeId: task, access: "0:0" } as const;
    const whole: ProgramSpec = { ...spec, btf, code: [...code, relocated(offset)] };
    expect(structuredClone(whole)).toEqual(whole);
  });
});
