import { describe, expect, test } from "bun:test";
import {
  asm,
  Btf,
  features,
  Program,
  type ProgramOptions,
  type SectionName,
  VerifierError,
} from "../../src/index.ts";
import { modulesWithBtf } from "../../src/btf/btf.ts";
import { BtfBuilder } from "../../src/btf/builder.ts";
import { traceableFunctions } from "../../src/link/function_patterns.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";

const { r0 } = asm;
const code = [asm.mov(r0, 0), asm.exit()];
const kinds = features.attachKinds;

function load(section: SectionName, options: Partial<ProgramOptions> = {}): Program {
  return new Program({ section, license: "GPL", code, ...options });
}

const types = new BtfBuilder();
const int = types.int("int", 4, { isSigned: true });
const prototype = types.functionPrototype(int);
const functions = {
  main: types.func("main", prototype, "global"),
  fixed: types.func("fixed", prototype, "static"),
  open: types.func("open", prototype, "global"),
};
/** The BTF of {@link loadForFunction}'s program, whose function `unused` it does not have. */
const unused = types.func("unused", prototype, "global");
/** A function of another type. */
const other = types.func(
  "open",
  types.functionPrototype(types.int("long", 8, { isSigned: true }), [{ name: "x", typeId: int }]),
  "global",
);
const btf = { bytes: types.encode(), functions };

/** Loads a program with a static and a global function, and another program for one of them. */
function loadForFunction(section: SectionName, options: Partial<ProgramOptions> = {}): Program {
  using attachTo = load("socket", {
    code: [
      asm.func("main"),
      asm.callFunction("fixed"),
      asm.callFunction("open"),
      asm.exit(),
      ...[asm.func("fixed"), ...code],
      ...[asm.func("open"), ...code],
    ],
    btf,
  });
  return load(section, { attachTo, ...options });
}

describe("a program for a function", () => {
  bpfTest("that the kernel lacks is refused with a similar name", () => {
    for (const [section, hint] of [
      ["fentry/vfs_raed", 'no function vfs_raed, .*: did you mean "vfs_read"?'],
      ["fexit.s/vfs_raed", 'no function vfs_raed, .*: did you mean "vfs_read"?'],
      ["iter/tsk", 'no iterator tsk: did you mean "task"?'],
      // The kernel has functions bpf_iter_run_prog() and bpf_iter_reg_target(), which are none.
      ["iter/run_prog", "no iterator run_prog"],
      ["iter.s/reg_target", "no iterator reg_target"],
      ["tp_btf/sched_swich", 'no tracepoint sched_swich, .*: did you mean "sched_switch"?'],
    ] as const) {
      expect(() => load(section)).toThrow(new RegExp(`ENOENT .*${hint.replaceAll("?", "\\?")}`));
    }
  });

  bpfTest("that has no type information is refused with the reason", () => {
    expect(() => load("fentry/asm_exc_page_fault")).toThrow(
      process.arch === "x64"
        ? /ENOENT .*The function exists, but .* Attach a kprobe instead/
        : /ENOENT .*This kernel has no function/,
    );
  });

  bpfTest("of a module that is not loaded is refused", () => {
    expect(() => load("fentry/no_such_module:no_such_function")).toThrow(
      /ENOENT .*No module no_such_module with type information is loaded, which needs Linux 5\.11/,
    );
    expect(() => load("tp_btf/no_such_module:event")).toThrow(/No module no_such_module/);
  });

  bpfTest("is refused by kernels before the version of its section", () => {
    for (const [section, since] of [
      ["fsession/vfs_read", "7.0"],
      ["fentry.multi", "7.2"],
      ["fexit.multi.s/vfs_*", "7.2"],
    ] as const) {
      const name = section.replace("*", "\\*");
      if (isKernelSince(since)) load(section)[Symbol.dispose]();
      else
        expect(() => load(section)).toThrow(new RegExp(`"${name}" need Linux ${since}, and this`));
    }
  });

  testWith(kinds.get("lsm"))("that is a security hook is refused with a similar name", () => {
    expect(() => load("lsm/file_opn")).toThrow(
      /ENOENT .*This kernel has no security hook file_opn: did you mean "file_open"\?/,
    );
  });
});

testWith(kinds.get("iter"))("a program for an iterator is loaded", () => {
  using program = load("iter/task");
  const { target } = program.info();
  // Linux 6.0 reports the target.
  if (target !== undefined) expect(Btf.kernel().type(target.typeId).name).toBe("bpf_iter_task");
});

testWith(kinds.get("lsm_cgroup"))("a program for a security hook of cgroups is loaded", () => {
  using program = load("lsm_cgroup/socket_bind", { code: [asm.mov(r0, 1), asm.exit()] });
  expect(program.type).toBe("lsm");
});

describe("a program of struct_ops", () => {
  testWith(features.programTypes.get("struct_ops"))("is loaded for a function of a struct", () => {
    using program = load("struct_ops/tcp_congestion_ops.ssthresh");
    const { target } = program.info();
    // Linux 6.0 reports the target.
    if (target !== undefined) {
      expect(Btf.kernel().type(target.typeId).name).toBe("tcp_congestion_ops");
    }
    expect(() => load("struct_ops/tcp_congestion_ops.sshthresh")).toThrow(
      /ENOENT .*The struct tcp_congestion_ops has no function sshthresh: did you mean "ssthresh"\?/,
    );
    expect(() => load("struct_ops/tcp_congestion_op.ssthresh")).toThrow(
      /ENOENT .*This kernel has no struct tcp_congestion_op: did you mean "tcp_congestion_ops"\?/,
    );
  });

  test("needs a struct and a function", () => {
    expect(() => load("struct_ops/ssthresh")).toThrow(
      'section: expected a target of the form "tcp_congestion_ops.ssthresh", got "ssthresh"',
    );
  });
});

describe("the verifier's refusal of a function is explained", () => {
  const refusals: readonly (readonly [string, SectionName, RegExp, Partial<ProgramOptions>?])[] = [
    ["fentry", "fentry.s/vfs_read", /vfs_read is not sleepable\n.*Use the section without \.s/],
    ["fmod_ret", "fmod_ret/vfs_read", /vfs_read\(\) is not modifiable\n.*fexit can see the result/],
    ["fentry", "fentry/bpf_log", /\n.*cannot get the arguments .* Attach a kprobe instead/],
    ["lsm", "lsm/file_open", /\n.*GPL-compatible license/, { license: "Proprietary" }],
    // Linux 6.12 disables this hook.
    ...(isKernelSince("6.12")
      ? ([
          ["lsm", "lsm/vm_enough_memory", /\n.*security hook vm_enough_memory\. Choose another/],
        ] as const)
      : []),
  ];
  for (const [kind, section, message, options] of refusals) {
    testWith(kinds.get(kind as "fentry"))(section, () => {
      expect(() => load(section, options)).toThrow(message);
      expect(() => load(section, options)).toThrow(VerifierError);
    });
  }
});

describe("a program for a function of another program", () => {
  const replacementTest = testWith(kinds.get("freplace"));

  replacementTest("is refused if the function is static or not part of the program", () => {
    expect(() => loadForFunction("freplace/fixed")).toThrow(/can replace only global functions/);
    expect(() => loadForFunction("freplace/unused")).toThrow(
      /The other program does not call unused/,
    );
    expect(unused).toBeGreaterThan(0);
  });

  replacementTest("is refused if its type differs", () => {
    expect(() =>
      loadForFunction("freplace/open", {
        btf: { bytes: btf.bytes, functions: { "": other } },
      }),
    ).toThrow(/needs the type of the function that it replaces/);
  });

  bpfTest("is refused if the other program lacks the function or its names", () => {
    expect(() => loadForFunction("fentry/fixd")).toThrow(
      /ENOENT .*The program has no function fixd: did you mean "fixed"\?/,
    );
    using plain = load("socket");
    expect(() => load("freplace/main", { attachTo: plain })).toThrow(
      /ENOENT .*The program was loaded without BTF/,
    );
  });

  test("takes the option attachTo where it belongs", () => {
    expect(() => load("freplace/main")).toThrow(
      'attachTo: section "freplace/main" needs the program whose function it replaces',
    );
    for (const section of ["socket", "lsm/file_open", "fmod_ret/vfs_read"] as const) {
      expect(() => load(section, { attachTo: 3 })).toThrow(
        `attachTo: section "${section}" is not for functions of other programs`,
      );
    }
    expect(() => load("fentry/main", { attachTo: -1 })).toThrow(RangeError);
    expect(() => load("fentry/main", { attachTo: "x" as never })).toThrow(TypeError);
  });

  testWith(kinds.get("fentry"))("is loaded", () => {
    for (const section of ["fentry/fixed", "fexit/open", "fentry/main"] as const) {
      using program = loadForFunction(section);
      expect(program.type).toBe("tracing");
      using again = Program.fromFd(program.fd, { section });
      expect(again.section).toBe(section);
      const { target } = program.info();
      const wrong = () => Program.fromFd(program.fd, { section: "fentry/vfs_read" });
      if (target === undefined || target.btfId === 0) wrong()[Symbol.dispose]();
      else expect(wrong).toThrow("was loaded for another target");
    }
  });
});

/** A function of a loaded module that can be traced; `undefined` if no module has BTF. */
function findModuleFunction(): { readonly module: string; readonly name: string } | undefined {
  if (bpfObstacle !== undefined) return undefined;
  const traceable = traceableFunctions();
  const kernel = Btf.kernel();
  for (const module of modulesWithBtf()) {
    const btf = Btf.module(module);
    for (let id = kernel.length; id < btf.length; id++) {
      const { kind, name } = btf.type(id);
      const isUnique = kind === "func" && btf.findAll("func", name).length === 1;
      if (isUnique && traceable?.has(name)) return { module, name };
    }
  }
  return undefined;
}

describe("a program for a function of a module", () => {
  const found = findModuleFunction();
  const { module, name } = found ?? { module: "", name: "" };
  const define =
    found === undefined
      ? testUnless("no module with type information is loaded")
      : testWith(kinds.get("fentry"));

  define("is loaded and attached, with or without the name of the module", () => {
    for (const section of [`fentry/${name}`, `fentry/${module}:${name}`] as const) {
      using program = new Program({ section, license: "GPL", code });
      using link = program.attach();
      expect(`${link}`).toBe(`fentry link to ${section.slice("fentry/".length)}`);
      const { target } = program.info();
      if (target !== undefined)
        expect(Btf.fromId(target.btfId).type(target.typeId).name).toBe(name);
      using again = Program.fromFd(program.fd, { section });
      expect(again.section).toBe(section);
      const wrong = () => Program.fromFd(program.fd, { section: "fentry/vfs_read" });
      if (target === undefined) wrong()[Symbol.dispose]();
      else expect(wrong).toThrow("was loaded for another target");
    }
  });

  define("is refused if the module does not have it", () => {
    expect(() => load(`fentry/${module}:${name}x`)).toThrow(
      new RegExp(`ENOENT .*The module ${module} has no function ${name}x.*did you mean "${name}"`),
    );
    // The kernel itself has this function, but not the module.
    expect(() => load(`fentry/${module}:vfs_read`)).toThrow(
      /ENOENT .*The module \w+ has no function vfs_read, but the kernel itself has one/,
    );
    expect(() => load(`fentry/${module}x:${name}`)).toThrow(
      new RegExp(`ENOENT .*No module ${module}x .*: did you mean "${module}"`),
    );
  });
});

describe("Btf.module()", () => {
  bpfTest("is refused for a module that is not loaded", () => {
    expect(() => Btf.module("no_such_module")).toThrow(/ENOENT/);
    for (const name of ["", "../vmlinux", "a/b", 1 as never]) {
      expect(() => Btf.module(name)).toThrow("name: expected the name of a module");
    }
  });
});
