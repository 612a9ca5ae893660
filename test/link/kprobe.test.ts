import { describe, expect } from "bun:test";
import { BpfError, features, KernelSymbols, type Link, type SectionName } from "../../src/index.ts";
import { findFunctions, listFunctions } from "../../src/symbols/functions.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { callGetpgid, callGetsid, Hits, syscallFunction } from "./hits.ts";
import { wayTest } from "./way.ts";

const { attachKinds } = features;
const getpgid = syscallFunction("getpgid");
const kprobeTest = testWith(attachKinds.get("kprobe"));

/** Calls getpgid three times, and expects three runs; then expects none after disposal. */
function expectRuns(hits: Hits, link: Link): void {
  {
    using _attached = link;
    for (let count = 0; count < 3; count++) callGetpgid();
    expect(hits.take()).toBe(3);
    callGetsid();
    expect(hits.take()).toBe(0);
  }
  callGetpgid();
  expect(hits.take()).toBe(0);
}

for (const kind of ["kprobe", "kretprobe"] as const) {
  wayTest(kind, () => {
    using hits = new Hits();
    using program = hits.program(kind);
    callGetpgid();
    expect(hits.take()).toBe(0);
    expectRuns(hits, program.attach({ function: getpgid }));
    using targeted = hits.program(`${kind}/${getpgid}`);
    expectRuns(hits, targeted.attach());
  });

  kprobeTest(`a ${kind} attaches to an address`, () => {
    using hits = new Hits();
    using program = hits.program(kind);
    const address = KernelSymbols.read().address(getpgid) as bigint;
    const link = program.attach({ address });
    expect(`${link}`).toBe(`${kind} link to 0x${address.toString(16)}`);
    expectRuns(hits, link);
  });
}

for (const section of ["ksyscall", "kretsyscall"] as const) {
  kprobeTest(`a ${section} attaches to the function of a system call`, () => {
    using hits = new Hits();
    using program = hits.program(section);
    const link = program.attach({ syscall: "getpgid" });
    expect(`${link}`).toEndWith("probe link to getpgid");
    expectRuns(hits, link);
    using targeted = hits.program(`${section}/getpgid`);
    expectRuns(hits, targeted.attach());
  });
}

kprobeTest(
  "a kprobe attaches to an instruction inside of a function, and to no place inside of one",
  () => {
    using hits = new Hits();
    using program = hits.program("kprobe");
    const outcomes = Array.from({ length: 16 }, (_, index) => {
      try {
        using _link = program.attach({ function: getpgid, offset: index + 1 });
        callGetpgid();
        return hits.take() === 1 ? "runs" : "does not run";
      } catch (error) {
        // EINVAL for instructions that the kernel itself changes.
        const { code, hint } = error as BpfError;
        if (code !== "EINVAL") {
          expect([code, hint]).toEqual(["EILSEQ", "This is not the start of an instruction"]);
        }
        return "refused";
      }
    });
    expect(outcomes).toContain("runs");
    expect(outcomes).toContain("refused");
    expect(outcomes).not.toContain("does not run");
    const offset = outcomes.indexOf("runs") + 1;
    for (const text of [`${offset}`, `0x${offset.toString(16)}`]) {
      using targeted = hits.program(`kprobe/${getpgid}+${text}`);
      const link = targeted.attach();
      expect(`${link}`).toBe(`kprobe link to ${getpgid}+0x${offset.toString(16)}`);
      expectRuns(hits, link);
    }
  },
);

testWith(attachKinds.get("kprobe"), attachKinds.get("perf_event_cookie"))(
  "the cookie of a kprobe is passed to the program",
  () => {
    using hits = new Hits();
    for (const section of ["kprobe", "kretprobe"] as const) {
      using program = hits.program(section, true);
      using _link = program.attach({ function: getpgid, cookie: 77n });
      callGetpgid();
      expect(hits.cookie).toBe(77);
    }
    using program = hits.program("ksyscall", true);
    using _link = program.attach({ syscall: "getpgid", cookie: 2n ** 50n });
    callGetpgid();
    expect(hits.cookie).toBe(2 ** 50);
  },
);

kprobeTest("cookies need Linux 5.15, and the error says so", () => {
  using hits = new Hits();
  using program = hits.program("kprobe");
  const attach = () => program.attach({ function: getpgid, cookie: 77n });
  if (attachKinds.get("perf_event_cookie").available) return attach()[Symbol.dispose]();
  expect(attach).toThrow(/EINVAL.*Cookies of perf events need Linux 5.15: leave out the cookie/);
});

kprobeTest("two programs at one function both run", () => {
  using hits = new Hits();
  using program = hits.program("kprobe");
  using _one = program.attach({ function: getpgid });
  using _other = program.attach({ function: getpgid });
  callGetpgid();
  expect(hits.take()).toBe(2);
});

kprobeTest("info() describes a kprobe, with a link of the kernel or without", () => {
  using hits = new Hits();
  using program = hits.program("kprobe");
  using link = program.attach({ function: getpgid });
  expect(link.info()).toMatchObject({ type: "perf_event", programId: program.id });
  const hasLinks = attachKinds.get("perf_event_link").available;
  expect(link.info().id > 0).toBe(hasLinks);
  if (hasLinks) return;
  expect(() => link.id).toThrow(/without a link of the kernel/);
  link.detach();
  callGetpgid();
  expect(hits.take()).toBe(0);
});

/** Returns the name of the first function that shares its name with others. */
function sharedName(): string {
  const seen = new Set<string>();
  for (const { name, module } of listFunctions()) {
    if (module !== undefined) continue;
    if (seen.has(name)) return name;
    seen.add(name);
  }
  throw new Error("all functions have different names");
}

describe("a refused kprobe", () => {
  kprobeTest("has the addresses of all functions that share the name", () => {
    using hits = new Hits();
    const shared = sharedName();
    const found = findFunctions(shared);
    expect(found.length).toBeGreaterThan(1);
    for (const section of ["kprobe", "kretprobe"] as const) {
      using program = hits.program(section);
      let error: unknown;
      try {
        program.attach({ function: shared })[Symbol.dispose]();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ name: "BpfError", code: "EADDRNOTAVAIL" });
      expect((error as Error).message).toContain(
        `${found.length} functions have this name: ${found
          .slice(0, 12)
          .map(({ address }) => `0x${address.toString(16)}`)
          .join(", ")}`,
      );
      expect((error as Error).message).toContain("Pass the address of one as the option address");
    }
  });

  kprobeTest("has a similar name, or the cause, and leaves nothing open", async () => {
    using hits = new Hits();
    using kprobe = hits.program("kprobe");
    using kretprobe = hits.program("kretprobe");
    using ksyscall = hits.program("ksyscall");
    const before = await settledResources();
    const refusals: readonly (readonly [() => Link, codes: readonly string[], text: string])[] = [
      [
        () => kprobe.attach({ function: "kernel_clome" }),
        ["ENOENT"],
        'This kernel has no function kernel_clome: did you mean "kernel_clone"?',
      ],
      [
        () => kprobe.attach({ function: "nothing_like_it_at_all" }),
        ["ENOENT"],
        "This kernel has no function nothing_like_it_at_all: /proc/kallsyms lists the functions",
      ],
      [
        () => kprobe.attach({ function: "some_module:kernel_clone" }),
        ["ENOENT"],
        'This kernel has no function some_module:kernel_clone: did you mean "kernel_clone"?',
      ],
      [
        () => kprobe.attach({ function: "kprobe_dispatcher" }),
        ["EINVAL"],
        "the function is one of those in which probes would be recursive",
      ],
      [
        () => kprobe.attach({ function: "kernel_clone", offset: 100_000_000 }),
        // Since Linux 6.2 or so ENOENT.
        ["ENOENT", "EINVAL"],
        "outside of",
      ],
      [
        () => kprobe.attach({ address: 0x1000n }),
        ["ENOENT", "EINVAL"],
        "attach to the address 0x1000",
      ],
      [
        () => kretprobe.attach({ function: "kprobe_dispatcher" }),
        ["EINVAL"],
        "cannot attach to the return of the function kprobe_dispatcher: perf_event_open: EINVAL",
      ],
      [
        () => ksyscall.attach({ syscall: "opennat" }),
        ["ENOENT"],
        'This kernel has no system call opennat: did you mean "openat"?',
      ],
    ];
    for (const [attach, codes, text] of refusals) {
      let error: unknown;
      try {
        attach()[Symbol.dispose]();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(BpfError);
      expect(codes).toContain((error as BpfError).code);
      expect((error as BpfError).message).toContain(text);
    }
    expect(countResources()).toEqual(before);
  });

  bpfTest("is refused before the kernel sees it if an option is wrong", () => {
    using hits = new Hits();
    using kprobe = hits.program("kprobe");
    using kretprobe = hits.program("kretprobe");
    using targeted = hits.program("kprobe/kernel_clone+4");
    using ksyscall = hits.program("ksyscall");
    const anyOptions = (value: object) => value as never;
    for (const options of [{}, { function: "a", address: 1n }]) {
      expect(() => kprobe.attach(anyOptions(options))).toThrow(
        "attach: expected one of the options function and address",
      );
    }
    // @ts-expect-error an address has no offset
    expect(() => kprobe.attach({ address: 1n, offset: 1 })).toThrow(TypeError);
    expect(() => kprobe.attach({ function: "" })).toThrow(
      'attach: function: expected a target of the form "vfs_read", got ""',
    );
    expect(() => kprobe.attach({ function: "vfs_read+8" })).toThrow(/of the form "vfs_read"/);
    expect(() => kprobe.attach({ function: "vfs_read", offset: -1 })).toThrow(
      "attach: offset: expected a number of bytes of at least 0, got -1",
    );
    expect(() => kprobe.attach(anyOptions({ address: 5 }))).toThrow(
      "attach: address: expected an address as a bigint, got 5",
    );
    expect(() => kprobe.attach({ address: 0n })).toThrow(RangeError);
    expect(() => kprobe.attach(anyOptions({ address: 5n, offset: 1 }))).toThrow(
      "attach: offset: expected none with an address",
    );
    expect(() => kprobe.attach({ function: "vfs_read", cookie: 2n ** 64n })).toThrow(/^cookie/);
    expect(() => kretprobe.attach(anyOptions({ function: "vfs_read", offset: 1 }))).toThrow(
      'attach: unknown option "offset"',
    );
    expect(() => targeted.attach(anyOptions({ function: "vfs_read" }))).toThrow(
      'section "kprobe/kernel_clone+4" names the target already: expected no option "function"',
    );
    expect(() => ksyscall.attach(anyOptions({}))).toThrow(
      'attach: syscall: expected a target of the form "openat", got undefined',
    );
    expect(() => hits.program("kprobe/vfs_read+x" as SectionName)).toThrow(
      /of the form "vfs_read\+8"/,
    );
  });

  testUnless(
    bpfObstacle ?? (attachKinds.get("kprobe").status === "missing" ? undefined : "it has kprobes"),
  )("names what a kernel without kprobes lacks", () => {
    using hits = new Hits();
    using program = hits.program(`kprobe/${getpgid}`);
    expect(() => program.attach()).toThrow(
      /^cannot attach to the function .*: open: ENOENT .*(This kernel was built without|Probes need Linux 4.17 with) CONFIG_KPROBE_EVENTS/,
    );
  });

  kprobeTest("names the capability that a process lacks", async () => {
    const code = `
      import { asm, Program } from "./src/index.ts";
      using program = new Program({
        section: "kprobe/${getpgid}",
        license: "GPL",
        code: [asm.mov(asm.r0, 0), asm.exit()],
      });
      await import("./test/support/drop_capabilities.ts");
      try {
        program.attach();
      } catch (error) {
        console.log(error.name, error.code, error.hint);
      }`;
    const { stdout, stderr } = await runBun(["-e", code]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^BpfError (EACCES|EPERM) This process lacks CAP_/);
  });
});

kprobeTest("a kprobe leaves nothing open", async () => {
  using hits = new Hits();
  using program = hits.program("kprobe");
  const before = await settledResources();
  for (let round = 0; round < repetitions(10_000, 20); round++) {
    using _link = program.attach({ function: getpgid });
  }
  expect(countResources()).toEqual(before);
  callGetpgid();
  expect(hits.take()).toBe(0);
});
