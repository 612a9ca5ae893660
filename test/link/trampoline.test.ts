import { describe, expect, test } from "bun:test";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  asm,
  BpfError,
  features,
  HashMap,
  type Link,
  Program,
  RingBuf,
  type SectionName,
  t,
} from "../../src/index.ts";
import { BtfBuilder } from "../../src/btf/builder.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { readLockdown } from "../../src/ffi/security.ts";
import { checkSecurityModule } from "../../src/link/trampoline.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { execCounter } from "./exec_counter.ts";
import { wayTest } from "./way.ts";

const { r0, r1, r2, r6, r10 } = asm;
const code = [asm.mov(r0, 0), asm.exit()];
const kinds = features.attachKinds;

/** A function of all kernels that mkdir(2) calls, and whose result programs of fmod_ret can change. */
const traced = "security_inode_mkdir";

/** Makes and removes a directory, which calls {@link traced} once. */
function makeDirectory(): void {
  const parent = mkdtempSync(join(tmpdir(), "trampoline-"));
  try {
    mkdirSync(join(parent, "inner"));
    rmdirSync(join(parent, "inner"));
  } finally {
    rmdirSync(parent);
  }
}

/** Calls {@link traced} twice: mkdtemp(3) calls it, too. */
const callsPerDirectory = 2;

/** Attaches a program that counts calls by process, and checks that it counts until it is detached. */
function expectCounts(section: SectionName, perCall = 1, options: object = {}): void {
  using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
  using program = execCounter(section, counts);
  {
    using _link = (program as Program).attach(options);
    makeDirectory();
    expect(counts.take(process.pid)).toBe(callsPerDirectory * perCall);
  }
  makeDirectory();
  expect(counts.take(process.pid)).toBeUndefined();
}

for (const section of ["fentry", "fexit"] as const) {
  wayTest(section, () => expectCounts(`${section}/${traced}`));
}

/** A function that test runs of tracing programs call. In it programs may sleep since Linux 6.2. */
const sleepable = "bpf_fentry_test1";

describe("programs that may sleep", () => {
  for (const section of ["fentry", "fexit"] as const) {
    const isOld = !isKernelSince("6.2")
      ? "no function of all kernels before 6.2 allows it"
      : undefined;
    const define = isOld === undefined ? testWith(kinds.get(section)) : testUnless(isOld);
    define(`run in the section ${section}.s`, () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
      using program = execCounter(`${section}.s/${sleepable}`, counts);
      using event = new Program({ section: "fentry/bpf_fentry_test2", license: "GPL", code });
      {
        using _link = program.attach();
        event.testRun();
        expect(counts.take(process.pid)).toBe(1);
      }
      event.testRun();
      expect(counts.take(process.pid)).toBeUndefined();
    });
  }
});

// A session runs at the entry and at the return.
wayTest("fsession", () => expectCounts(`fsession/${traced}`, 2));

/** The code of a program that denies this process an operation. */
const deny = [
  asm.call("get_current_pid_tgid"),
  asm.rsh(r0, 32),
  asm.jne(r0, process.pid, "other"),
  asm.mov(r0, -13),
  asm.exit(),
  asm.label("other"),
  asm.mov(r0, 0),
  asm.exit(),
];

function expectDenial(section: SectionName): void {
  using program: Program = new Program({ section, license: "GPL", code: deny });
  {
    using _link = program.attach();
    expect(makeDirectory).toThrow("EACCES");
  }
  makeDirectory();
}

wayTest("fmod_ret", () => expectDenial(`fmod_ret/${traced}`));

wayTest("lsm", () => expectDenial("lsm/inode_mkdir"));

const sleepableHookTest = isKernelSince("5.11")
  ? testWith(kinds.get("lsm"))
  : testUnless("programs that may sleep can use this hook since 5.11");

sleepableHookTest("a program of lsm.s, which may sleep, runs, too", () => {
  using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
  using program = execCounter("lsm.s/file_open", counts);
  {
    using _link = program.attach();
    closeSync(openSync("/proc/self/stat", "r"));
    expect(counts.take(process.pid)).toBeGreaterThan(0);
  }
  closeSync(openSync("/proc/self/stat", "r"));
  expect(counts.take(process.pid)).toBeUndefined();
});

/** Returns the cookies that programs see, one for each call. */
function cookiesOf(section: SectionName, attach: (program: Program) => Link): bigint[] {
  using cookies = new RingBuf({ event: t.u64, size: 4096 });
  using program: Program = new Program({
    section,
    license: "GPL",
    maps: { cookies },
    code: [
      asm.mov(r6, r1),
      asm.call("get_current_pid_tgid"),
      asm.rsh(r0, 32),
      asm.jne(r0, process.pid, "out"),
      asm.mov(r1, r6),
      asm.call("get_attach_cookie"),
      asm.stxdw(r10, -8, r0),
      asm.ldMap(r1, "cookies"),
      asm.mov(r2, r10),
      asm.add(r2, -8),
      asm.mov(asm.r3, 8),
      asm.mov(asm.r4, 0),
      asm.call("ringbuf_output"),
      asm.label("out"),
      ...code,
    ],
  });
  const seen: bigint[] = [];
  {
    using _link = attach(program);
    makeDirectory();
    cookies.drain((cookie) => seen.push(cookie));
  }
  makeDirectory();
  cookies.drain((cookie) => seen.push(cookie));
  return seen;
}

wayTest("fentry_cookie", () => {
  const cookie = 0xfedc_ba98_7654_3210n;
  for (const section of ["fentry", "fexit", "fmod_ret"] as const) {
    const seen = cookiesOf(`${section}/${traced}`, (program) =>
      (program as Program<"fentry/x">).attach({ cookie }),
    );
    expect(seen).toEqual([cookie, cookie]);
  }
});

const types = new BtfBuilder();
const int = types.int("int", 4, { isSigned: true });
const takesNothing = types.functionPrototype(int);
const mainType = types.func("main", takesNothing, "global");
const oneType = types.func("one", takesNothing, "global");
const sameType = types.func(
  "same",
  types.functionPrototype(int, [{ name: "number", typeId: int }]),
  "global",
);

/** Loads a program that returns the result of its function `one`, 1, and has a function `same` of another type. */
function loadOne(): Program<"socket"> {
  return new Program({
    section: "socket",
    license: "GPL",
    code: [
      asm.func("main"),
      asm.callFunction("one"),
      asm.mov(r1, r0),
      asm.callFunction("same"),
      asm.exit(),
      ...[asm.func("one"), asm.mov(r0, 1), asm.exit()],
      ...[asm.func("same"), asm.mov(r0, r1), asm.exit()],
    ],
    btf: {
      bytes: types.encode(),
      functions: { main: mainType, one: oneType, same: sameType },
    },
  });
}

function run(program: Program): number {
  return program.testRun({ data: new Uint8Array(14) }).returnValue;
}

function loadReplacement(attachTo: Program): Program<"freplace/one"> {
  return new Program({
    section: "freplace/one",
    license: "GPL",
    code: [asm.mov(r0, 2), asm.exit()],
    attachTo,
  });
}

wayTest("freplace", () => {
  using one = loadOne();
  using two = loadReplacement(one);
  expect(run(one)).toBe(1);
  {
    using link = two.attach();
    expect(run(one)).toBe(2);
    expect(link.info()).toMatchObject({ type: "tracing", attachType: "ext" });
  }
  expect(run(one)).toBe(1);
});

describe("freplace", () => {
  const replacementTest = testWith(kinds.get("freplace"));

  replacementTest("attaches to another program with the option program", () => {
    using one = loadOne();
    using other = loadOne();
    using two = loadReplacement(one);
    {
      using _link = two.attach({ program: other });
      expect([run(one), run(other)]).toEqual([1, 2]);
    }
    {
      using _link = two.attach({ program: one.fd, function: "one" });
      expect([run(one), run(other)]).toEqual([2, 1]);
    }
    expect([run(one), run(other)]).toEqual([1, 1]);
  });

  replacementTest("explains refusals", () => {
    using one = loadOne();
    using two = loadReplacement(one);
    using again = loadReplacement(one);
    {
      using _link = two.attach();
      expect(() => again.attach()).toThrow(/EBUSY .*The function is replaced already/);
    }
    expect(() => two.attach()).toThrow(
      /(EINVAL|ENOENT) .*After its first attachment .* only with the option program/,
    );
    expect(() => two.attach({ program: one, function: "on" })).toThrow(
      /ENOENT .*The program has no function on: did you mean "one"\?/,
    );
    expect(() => two.attach({ program: one, function: "same" })).toThrow(
      /EINVAL .*The function differs in its type/,
    );
    expect(() => two.attach({ function: "main" })).toThrow(
      "attach: function: expected the option program, whose function main is replaced",
    );
    expect(() => two.attach({ program: two })).toThrow(BpfError);
    using _link = two.attach({ program: one });
    expect(run(one)).toBe(2);
  });
});

testWith(kinds.get("fexit"))("a function of a BPF program is traced", () => {
  using one = loadOne();
  using results = new RingBuf({ event: t.u64, size: 4096 });
  using program = new Program({
    section: "fexit/one",
    license: "GPL",
    maps: { results },
    attachTo: one,
    code: [
      // The function takes nothing, so its result is the first value of the context.
      asm.ldxdw(r0, r1, 0),
      asm.stxdw(r10, -8, r0),
      asm.ldMap(r1, "results"),
      asm.mov(r2, r10),
      asm.add(r2, -8),
      asm.mov(asm.r3, 8),
      asm.mov(asm.r4, 0),
      asm.call("ringbuf_output"),
      ...code,
    ],
  });
  const seen: bigint[] = [];
  {
    using _link = program.attach();
    run(one);
    results.drain((result) => seen.push(result));
  }
  run(one);
  results.drain((result) => seen.push(result));
  expect(seen.map((result) => BigInt.asUintN(32, result))).toEqual([1n]);
});

/** Linux 5.13 lets a program be attached again. */
const canAttachAgain = isKernelSince("5.13");

function loadTraced(): Program<"fentry/security_inode_mkdir"> {
  return new Program({ section: `fentry/${traced}`, license: "GPL", code });
}

describe("attaching to a function", () => {
  testWith(kinds.get("fentry"))("twice with the same program is refused", () => {
    using program = loadTraced();
    using link = program.attach();
    expect(`${link}`).toBe(`fentry link to ${traced}`);
    expect(link.info()).toMatchObject({ type: "tracing", attachType: "trace_fentry" });
    expect(() => program.attach()).toThrow(
      canAttachAgain
        ? /EBUSY .*The program is attached to this function already/
        : /ENOENT .*Before Linux 5\.13 a program can be attached only once/,
    );
  });

  testWith(kinds.get("fentry"))("has cookies since Linux 5.19", () => {
    using program = loadTraced();
    expect(() => program.attach({ cookie: -1n })).toThrow(TypeError);
    const attach = () => program.attach({ cookie: 7n });
    if (kinds.get("fentry_cookie").available) attach()[Symbol.dispose]();
    else expect(attach).toThrow(/EINVAL .*Cookies .* need Linux 5\.19: leave out the cookie/);
  });

  testWith(kinds.get("fentry"))("is possible a hundred times, and leaves nothing", () => {
    using program = loadTraced();
    for (let round = 0; round < 100; round++) {
      using loaded = canAttachAgain ? undefined : loadTraced();
      (loaded ?? program).attach()[Symbol.dispose]();
    }
  });

  testWith(kinds.get("fentry"))("that cannot be traced is refused", () => {
    using program = new Program({ section: "fentry/int3_exception_notify", license: "GPL", code });
    expect(() => program.attach()).toThrow(
      /(EBUSY|EINVAL) .*The kernel does not let the function be traced \(notrace\)/,
    );
  });

  testWith(kinds.get("fentry"))("of more programs than the kernel calls is refused", () => {
    using programs = new DisposableStack();
    const attach = () => programs.use(programs.use(loadTraced()).attach());
    expect(() => {
      for (let count = 0; count <= 40; count++) attach();
    }).toThrow(/E2BIG .*as many programs as a trampoline can call/);
  });
});

describe("the error", () => {
  const isLocked = kinds.get("fentry").status === "refused" && readLockdown() === "integrity";
  const lockdownTest = testUnless(isLocked ? undefined : "the kernel does not refuse fentry");

  lockdownTest("of the kernel's lockdown names it", () => {
    for (const section of [`fentry/${traced}`, `fmod_ret/${traced}`, "lsm/inode_mkdir"] as const) {
      expect(() => new Program({ section, license: "GPL", code })).toThrow(
        /EPERM .*something else forbids it: most likely the kernel's lockdown \(integrity\)/,
      );
    }
  });
});

test("attaching to a security hook that the kernel never calls is refused", () => {
  const check = (names: readonly string[]) =>
    checkSecurityModule("attach to the security hook file_open", { names });
  check(["capability", "bpf"]);
  expect(() => check(["capability", "landlock"])).toThrow(
    /^cannot attach to the security hook file_open: .*EOPNOTSUPP .*The kernel would never run the program: bpf is not among .* Boot with lsm=landlock,bpf/,
  );
  // If the modules are not known, the program may run.
  checkSecurityModule("attach", { unknown: "securityfs is not mounted" });
});

test("functions are named by identifiers", () => {
  for (const section of ["fentry/a b", "fentry/a-b", "lsm/x:y:z", "fentry/:x"] as const) {
    expect(() => new Program({ section, license: "GPL", code })).toThrow(
      'section: expected a target of the form "vfs_read", got',
    );
  }
});
