import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ArrayMap,
  asm,
  Btf,
  type Code,
  disassemble,
  features,
  HashMap,
  KernelSymbols,
  Program,
  t,
} from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";

const { r0, r1, r2, r10 } = asm;

const file = "count.ts";
const at = (line: number, text: string) => ({ file, line, column: 3, text });

/** A program of two functions, with source lines, that uses two maps and two helpers. */
const lined: Code = [
  asm.func("main"),
  asm.withSource(asm.mov(r1, 20), at(10, "let x = 20;")),
  asm.withSource(asm.callFunction("twice"), at(11, "twice(x);")),
  asm.withSource(asm.stw(r10, -4, 1), at(12, "map.get(1);")),
  asm.ldMap(r1, "map"),
  asm.mov(r2, r10),
  asm.add(r2, -4),
  asm.call("map_lookup_elem"),
  asm.withSource(asm.ldMapValue(r1, "array", 8), at(13, "now();")),
  asm.call("ktime_get_ns"),
  asm.withSource(asm.mov(r0, 0), at(14, "return 0;")),
  asm.exit(),
  asm.func("twice"),
  asm.withSource(asm.mov(r0, r1), at(2, "return n + n;")),
  asm.add(r0, r1),
  asm.exit(),
];

/** Loads {@link lined}, with its maps. */
function load() {
  using opened = new DisposableStack();
  const map = opened.use(new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 }));
  const value = t.struct({ first: t.u64, second: t.u64 });
  const array = opened.use(new ArrayMap({ value, length: 1 }));
  const program = opened.use(
    new Program({ section: "tc", license: "GPL", code: lined, maps: { map, array } }),
  );
  const all = opened.move();
  return { program, map, array, [Symbol.dispose]: () => all[Symbol.dispose]() };
}

/** True if the kernel runs machine code, and does not interpret. */
function isJited(program: Program): boolean {
  return program.info().jitedSize > 0;
}

describe("translatedCode()", () => {
  bpfTest("has the functions with their names, instructions and source lines", () => {
    using loaded = load();
    const { program, map, array } = loaded;
    const functions = program.translatedCode() ?? [];
    expect(functions.map(({ name, declaration }) => [name, declaration])).toEqual([
      ["main", "int main(void)"],
      ["twice", "int twice(void)"],
    ]);
    const [main, twice] = functions.map(({ name, instructions }) =>
      disassemble([asm.func(name), ...instructions]),
    );
    expect(main).toStartWith(
      `func main\n; let x = 20; @ count.ts:10\n   0: (b7) r1 = 20\n; twice(x); @ count.ts:11\n   1: (85) call twice\n; map.get(1); @ count.ts:12\n   2: (62) *(u32 *)(r10 -4) = 1\n   3: (18) r1 = map[id:${map.id}]\n`,
    );
    // The kernel inlines the look-up, or calls the function of the map type.
    expect(main).toMatch(/\(85\) call \w*map_lookup_elem/);
    expect(main).toContain(`r1 = map[id:${array.id}][0]+8\n`);
    expect(main).toMatch(/call bpf_ktime_get_ns\n|call unknown#0/);
    expect(twice).toBe(
      "func twice\n; return n + n; @ count.ts:2\n   0: (bf) r0 = r1\n   1: (0f) r0 += r1\n   2: (95) exit",
    );
    expect(functions[0]?.instructions[0]?.source).toEqual(at(10, "let x = 20;"));
    const slots = (functions[0]?.instructions ?? []).length + 2;
    expect(functions.map(({ slot }) => slot)).toEqual([0, slots]);
    expect(program.info().translatedSize).toBe((slots + 3) * 8);
  });

  bpfTest("numbers functions without names as the verifier does", () => {
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [asm.callFunction("other"), asm.exit(), asm.func("other"), asm.mov(r0, 7), asm.exit()],
    });
    const functions = program.translatedCode() ?? [];
    expect(functions.map(({ name, slot, declaration }) => [name, slot, declaration])).toEqual([
      ["func#0", 0, undefined],
      ["func#1", 2, undefined],
    ]);
    expect(disassemble(functions[0]?.instructions ?? [])).toBe(
      "   0: (85) call func#1\n   1: (95) exit",
    );
    expect(functions[0]?.instructions[0]?.source).toBeUndefined();
  });

  bpfTest("names functions that are more than 32,767 slots away", () => {
    const count = 90;
    const names = Array.from({ length: count }, (_, index) => `f${index}`);
    const body = Array.from({ length: 500 }, () => asm.mov(r0, 1));
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [
        asm.func("main"),
        asm.withSource(asm.mov(r0, 0), at(1, "main")),
        names.map((name) => asm.callFunction(name)),
        asm.exit(),
        names.map((name) => [asm.func(name), body, asm.exit()]),
      ],
    });
    const [main, ...others] = program.translatedCode() ?? [];
    expect(others.map(({ name }) => name)).toEqual(names);
    const called = main?.instructions.slice(1, 1 + count).map(({ reference }) => reference);
    expect(called).toEqual(names.map((name) => ({ kind: "function", name })));
  });

  testWith(features.instructions.get("callbacks"))("names the callbacks of helpers", () => {
    using values = new ArrayMap({ value: t.u32, length: 1 });
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { values },
      code: [
        asm.ldMap(r1, "values"),
        asm.ldFunc(r2, "each"),
        asm.mov(asm.r3, 0),
        asm.mov(asm.r4, 0),
        asm.call("for_each_map_elem"),
        asm.exit(),
        asm.func("each"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
    const [main] = program.translatedCode() ?? [];
    expect(disassemble(main?.instructions ?? [])).toContain("r2 = subprog[each]");
  });

  testUnless(
    bpfObstacle ??
      (Btf.kernel().find("func", "bpf_rcu_read_lock") === undefined
        ? "the kernel has no bpf_rcu_read_lock() before 6.2"
        : undefined),
  )("names kernel functions", () => {
    using program = new Program({
      section: "tc",
      license: "GPL",
      code: [
        asm.callKernelFunction("bpf_rcu_read_lock"),
        asm.callKernelFunction("bpf_rcu_read_unlock"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
    const [main] = program.translatedCode() ?? [];
    expect(disassemble(main?.instructions ?? [])).toBe(
      "   0: (85) call bpf_rcu_read_lock\n   1: (85) call bpf_rcu_read_unlock\n   2: (b7) r0 = 0\n   3: (95) exit",
    );
  });

  bpfTest("is readable in a program that was opened by its id", () => {
    using loaded = load();
    using again = Program.fromId(loaded.program.id);
    expect(again.translatedCode()).toEqual(loaded.program.translatedCode());
    expect(again.machineCode()).toEqual(loaded.program.machineCode());
  });
});

describe("machineCode()", () => {
  bpfTest("has the bytes, the addresses and the source lines of each function", () => {
    using loaded = load();
    const { program } = loaded;
    const functions = program.machineCode() ?? [];
    if (!isJited(program)) {
      expect(functions).toEqual([]);
      return;
    }
    expect(functions.map(({ name }) => name)).toEqual(["main", "twice"]);
    const size = functions.reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(size).toBe(program.info().jitedSize);
    for (const { bytes, address } of functions) {
      expect(bytes.some((byte) => byte !== 0)).toBe(true);
      expect(address).toBeGreaterThan(2n ** 63n);
    }
    const [main, twice] = functions.map(({ lines }) => lines);
    expect(main?.map(({ source }) => source.line)).toEqual([10, 11, 12, 13, 14]);
    const offsets = main?.map(({ offset }) => offset) ?? [];
    expect(offsets).toEqual(offsets.toSorted((one, other) => one - other));
    expect(offsets.every((offset) => offset < (functions[0]?.bytes.length ?? 0))).toBe(true);
    expect(twice?.map(({ source }) => source)).toEqual([at(2, "return n + n;")]);
  });

  bpfTest("has the addresses at which the kernel's symbol table has the functions", () => {
    using loaded = load();
    const symbols = KernelSymbols.read();
    for (const { name, tag, address } of loaded.program.machineCode() ?? []) {
      const symbol = symbols.lookup(address);
      // The sysctl net.core.bpf_jit_kallsyms shows programs in the table.
      if (symbol?.module !== "bpf") continue;
      // The main function has the tag of the whole program there, on newer kernels.
      const tags = name === "main" ? [tag, loaded.program.info().tag] : [tag];
      expect(tags.map((of) => `bpf_prog_${of}_${name}`)).toContain(symbol.name);
      expect(symbol.offset).toBe(0);
    }
  });
});

describe("code is hidden", () => {
  const child = join(import.meta.dir, "children/hidden_code.ts");
  const capBpf = "39";
  const isUnprivilegedAllowed = features.settings.unprivileged === "allowed";

  bpfTest("from processes without capabilities", async () => {
    const { stdout, stderr } = await runBun([child]);
    expect(stderr).toBe("");
    // Some kernels refuse the whole call, unless unprivileged users may use bpf(2).
    const refused = { code: "EPERM" };
    const expected = [{ machine: "undefined" }, ...(isUnprivilegedAllowed ? [] : [refused])];
    expect(expected).toContainEqual(JSON.parse(stdout));
  });

  const hidesAddresses = Number(readFileSync("/proc/sys/kernel/perf_event_paranoid", "utf8")) > 1;
  testUnless(
    bpfObstacle ??
      (hidesAddresses ? undefined : "this kernel shows its addresses to all processes"),
  )("in part from processes that may not see kernel addresses", async () => {
    const { stdout, stderr } = await runBun([child, capBpf]);
    expect(stderr).toBe("");
    // Without the address of the helper, its name is unknown.
    const names = [["func#0", [null, null, null]]];
    expect(JSON.parse(stdout)).toEqual({ names, machine: "undefined" });
  });
});

testUnless(bpfObstacle ?? bpftoolObstacle)("code agrees with bpftool", async () => {
  using loaded = load();
  const { program } = loaded;
  const id = `${program.id}`;
  const shown = await bpftoolJson<readonly Readonly<Record<string, unknown>>[]>(
    "prog",
    "dump",
    "xlated",
    "id",
    id,
    "opcodes",
  );
  const opcodes = shown.flatMap((item) => {
    const code = (item as { opcodes?: { code?: string } }).opcodes?.code;
    return code === undefined ? [] : [Number(code)];
  });
  const ours = (program.translatedCode() ?? []).flatMap(({ instructions }) =>
    instructions.map(({ opcode }) => opcode),
  );
  expect(ours).toEqual(opcodes);
});
