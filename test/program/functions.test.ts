import { expect, spyOn } from "bun:test";
import { readFileSync } from "node:fs";
import { BtfBuilder } from "../../src/btf/builder.ts";
import {
  ArrayMap,
  asm,
  Btf,
  type Code,
  features,
  Program,
  t,
  VerifierError,
  type SectionName,
} from "../../src/index.ts";
import { bpfTest, bpfObstacle } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";

const { r0, r1, r2, r3, r4, r6, r10 } = asm;
const { mov, add, ldFunc, func, call, callFunction, exit } = asm;
const packet = new Uint8Array(14);

function run(code: Code, section: SectionName = "socket", maps = {}): number {
  using program = new Program({ section, license: "GPL", code, maps });
  return program.testRun(section === "socket" ? { data: packet } : {}).returnValue;
}

bpfTest("a program calls its own functions", () => {
  const code = [
    mov(r1, 20),
    callFunction("double"),
    mov(r1, r0),
    callFunction("increment"),
    exit(),
    func("increment"),
    mov(r0, r1),
    add(r0, 1),
    exit(),
    func("double"),
    mov(r0, r1),
    add(r0, r1),
    exit(),
  ];
  expect(run(code)).toBe(41);
});

testWith(features.helpers("socket_filter").get("loop"))(
  "a helper calls a function of the program back",
  () => {
    const code = [
      func("main"),
      mov(r1, 10),
      ldFunc(r2, "step"),
      mov(r3, 0),
      mov(r4, 0),
      call("loop"),
      exit(),
      func("step"),
      mov(r0, 0),
      exit(),
    ];
    expect(run(code)).toBe(10);
  },
);

testWith(features.instructions.get("callbacks"))(
  "a callback gets its arguments, in a program with other functions",
  () => {
    using values = new ArrayMap({ value: t.u32, length: 8 });
    values.setMany(Array.from({ length: 8 }, (_, index) => [index, index * 10] as const));
    const code = [
      // Functions may have names that are not C identifiers.
      asm.stdw(r10, -8, 0),
      asm.ldMap(r1, "values"),
      ldFunc(r2, "sum up!"),
      mov(r3, r10),
      add(r3, -8),
      mov(r4, 0),
      call("for_each_map_elem"),
      asm.ldxdw(r1, r10, -8),
      callFunction("2nd"),
      exit(),
      func("2nd"),
      mov(r0, r1),
      exit(),
      func("sum up!"),
      // The arguments are (map, key, value, context).
      asm.ldxw(r1, r3, 0),
      asm.ldxdw(r2, r4, 0),
      add(r2, r1),
      asm.stxdw(r4, 0, r2),
      mov(r0, 0),
      exit(),
    ];
    expect(run(code, "socket", { values })).toBe(280);
  },
);

testWith(features.helpers("socket_filter").get("loop"))(
  "loading the types of functions leaves no descriptor open",
  () => {
    const code = [
      ...[mov(r1, 1), ldFunc(r2, "step"), mov(r3, 0), mov(r4, 0), call("loop"), exit()],
      ...[func("step"), mov(r0, 0), exit()],
    ];
    const before = countResources();
    for (let round = 0; round < 100; round++) run(code);
    expect(countResources()).toEqual(before);
  },
);

const variableTest = testUnless(
  bpfObstacle ??
    (Btf.kernel().find("var", "bpf_prog_active") === undefined
      ? "the kernel's type information has no variables"
      : undefined),
);

variableTest("a program reads a variable of the kernel", () => {
  const code = [
    asm.ldKernelSymbol(r1, "bpf_prog_active"),
    call("this_cpu_ptr"),
    asm.ldxw(r6, r0, 0),
    mov(r0, 1),
    exit(),
  ];
  // The kernel looks up the address in its symbol table, which has variables only with CONFIG_KALLSYMS_ALL.
  if (/ bpf_prog_active$/m.test(readFileSync("/proc/kallsyms", "utf8"))) {
    expect(run(code)).toBe(1);
  } else {
    expect(() => run(code)).toThrow("find the address for kernel symbol 'bpf_prog_active'");
  }
  expect(() => run([asm.ldKernelSymbol(r1, "no_such_var"), mov(r0, 0), exit()])).toThrow(
    "the kernel's type information has no var no_such_var",
  );
});

bpfTest("a name of several kernel variables refers to the first one", () => {
  const types = new BtfBuilder();
  for (const size of [4, 8]) types.variable("twice", types.int(`number${size}`, size), "static");
  const parsed = Btf.parse(types.encode());
  using _ = spyOn(Btf, "kernel").mockReturnValue(parsed);
  // The kernel looks the id up in its own BTF, where it is not a variable.
  expect(() => run([asm.ldKernelSymbol(r1, "twice"), mov(r0, 0), exit()])).toThrow(VerifierError);
});

const lockAndUnlock = ["bpf_rcu_read_lock", "bpf_rcu_read_unlock"] as const;

const kernelFunctionTest = testUnless(
  bpfObstacle ??
    (Btf.kernel().find("func", lockAndUnlock[0]) === undefined
      ? "the kernel has no bpf_rcu_read_lock() before 6.2"
      : undefined),
);

kernelFunctionTest("a program calls a function of the kernel", () => {
  const code = [...lockAndUnlock.map((name) => asm.callKernelFunction(name)), mov(r0, 3), exit()];
  expect(run(code, "syscall")).toBe(3);
  expect(() => run([asm.callKernelFunction("no_such_func"), exit()])).toThrow(
    "the kernel's type information has no func no_such_func",
  );
  expect(() => run([asm.callKernelFunction("bpf_rcu_read_lokc"), exit()])).toThrow(
    'no func bpf_rcu_read_lokc: did you mean "bpf_rcu_read_lock"?',
  );
});
