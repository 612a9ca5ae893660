import { describe, expect } from "bun:test";
import {
  BpfError,
  features,
  KernelSymbols,
  type KprobeMultiLink,
  type SectionName,
} from "../../src/index.ts";
import {
  listSkipped,
  matchingFunctions,
  type SelectedFunctions,
  selectFunctions,
} from "../../src/link/function_patterns.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { testUnless } from "../support/skipping.ts";
import { callGetpgid, callGetsid, Hits, syscallFunction } from "./hits.ts";
import { wayTest } from "./way.ts";

const { attachKinds } = features;
const getpgid = syscallFunction("getpgid");
const getsid = syscallFunction("getsid");
/** A pattern for both functions. */
const both = syscallFunction("get?*id");
/** A function that kprobes use themselves. */
const unprobed = "kprobe_dispatcher";
const multiTest = testWith(attachKinds.get("kprobe.multi"));

/** Calls two functions, and expects a number of runs in all; then expects none after disposal. */
function expectRuns(hits: Hits, link: KprobeMultiLink, runs: number): void {
  {
    using _attached = link;
    callGetpgid();
    callGetsid();
    callGetsid();
    expect(hits.take()).toBe(runs);
  }
  callGetpgid();
  callGetsid();
  expect(hits.take()).toBe(0);
}

for (const kind of ["kprobe.multi", "kretprobe.multi"] as const) {
  wayTest(kind, () => {
    using hits = new Hits();
    using program = hits.program(kind);
    expectRuns(hits, program.attach({ functions: getpgid }), 1);
    expectRuns(hits, program.attach({ functions: [getsid] }), 2);
    expectRuns(hits, program.attach({ functions: [getsid, getpgid, getsid] }), 3);
    expectRuns(hits, program.attach({ functions: both }), 3);
    expectRuns(hits, program.attach({ functions: [both, getpgid] }), 3);
    using targeted = hits.program(`${kind}/${both}`);
    const link = targeted.attach();
    expect(link.functions).toContain(getpgid);
    expect(link.functions).toContain(getsid);
    expectRuns(hits, link, 3);
  });
}

wayTest("kprobe.session", () => {
  using hits = new Hits();
  using program = hits.program("kprobe.session");
  // It runs at the entry and at the return.
  expectRuns(hits, program.attach({ functions: [getpgid, getsid] }), 6);
  expectRuns(hits, program.attach({ functions: both }), 6);
});

wayTest("kprobe.multi_cookie", () => {
  using hits = new Hits();
  using program = hits.program("kprobe.multi", true);
  const expectCookies = (link: KprobeMultiLink, pgid: number, sid: number) => {
    using _attached = link;
    callGetpgid();
    expect(hits.cookie).toBe(pgid);
    callGetsid();
    expect(hits.cookie).toBe(sid);
  };
  expectCookies(
    program.attach({ functions: [getsid, getpgid], cookies: [7n, 2n ** 50n] }),
    2 ** 50,
    7,
  );
  // The first entry that matches a function determines its cookie.
  expectCookies(program.attach({ functions: [getsid, both], cookies: [3n, 5n] }), 5, 3);
  expectCookies(program.attach({ functions: both, cookies: [9n] }), 9, 9);
  const symbols = KernelSymbols.read();
  const addresses = [getsid, getpgid].map((name) => symbols.address(name) as bigint);
  expectCookies(program.attach({ addresses, cookies: [11n, 12n] }), 12, 11);
});

multiTest("addresses stand for functions", () => {
  using hits = new Hits();
  using program = hits.program("kprobe.multi");
  const address = KernelSymbols.read().address(getsid) as bigint;
  const link = program.attach({ addresses: [address] });
  expect([link.functions, link.skipped]).toEqual([[`0x${address.toString(16)}`], []]);
  expectRuns(hits, link, 2);
});

describe("functions that cannot be probed", () => {
  multiTest("are skipped and reported", () => {
    using hits = new Hits();
    using program = hits.program("kprobe.multi");
    const link = program.attach({ functions: [getpgid, unprobed] });
    expect(link.functions).toEqual([getpgid]);
    expect(link.skipped).toEqual([unprobed]);
    expectRuns(hits, link, 1);
  });

  multiTest("are reported for patterns, too", () => {
    using hits = new Hits();
    using program = hits.program("kprobe.multi");
    using link = program.attach({ functions: "kprobe_*" });
    expect(link.skipped).toContain(unprobed);
    expect(link.functions.length).toBeGreaterThan(0);
    expect(link.functions.every((name) => name.startsWith("kprobe_"))).toBe(true);
    expect([...link.functions, ...link.skipped].toSorted()).toEqual(
      matchingFunctions(["kprobe_*"]).toSorted(),
    );
  });

  multiTest("are an error if there are no others", () => {
    using hits = new Hits();
    using program = hits.program("kprobe.multi");
    expect(() => program.attach({ functions: [unprobed] })).toThrow(
      `ENOENT (no such file or directory). The kernel has such functions, but none of them can be probed: ${unprobed}`,
    );
  });
});

/** Selects functions, and fails if the kernel's list cannot be read. */
function selected(...args: Parameters<typeof selectFunctions>): SelectedFunctions {
  const result = selectFunctions(...args);
  if ("unknown" in result) throw new Error(result.unknown);
  return result;
}

multiTest("the list of names selects the same functions as that with addresses", () => {
  const patterns = ["vfs_*", "*_show", getpgid];
  const byAddress = selected(patterns);
  const byName = selected(patterns, false);
  expect(byName.addresses).toBeUndefined();
  expect(byName.names.toSorted()).toEqual([...new Set(byAddress.names)].toSorted());
  // A name stands for one function only, and the others with this name are skipped.
  const skipped = listSkipped(patterns, byName.names);
  expect([...skipped, ...byName.names].toSorted()).toEqual(matchingFunctions(patterns).toSorted());
});

multiTest("a name stands for one function, and a pattern for all with the name", () => {
  using hits = new Hits();
  using program = hits.program("kprobe.multi");
  const { names } = selected(["*_show"]);
  const shared = names.find((name, index) => names.indexOf(name) !== index)!;
  const count = names.filter((name) => name === shared).length;
  for (const functions of [[shared], [shared, unprobed]]) {
    using link = program.attach({ functions });
    expect(link.functions).toEqual([shared]);
  }
  using link = program.attach({ functions: [shared, `${shared.slice(0, -1)}?`] });
  expect(link.functions.filter((name) => name === shared)).toHaveLength(count);
});

multiTest("a program attaches to all functions by one link", () => {
  using hits = new Hits();
  using program = hits.program("kprobe.multi");
  {
    using link = program.attach({ functions: "*" });
    expect(link.functions.length).toBeGreaterThan(10_000);
    callGetpgid();
    expect(hits.take()).toBeGreaterThan(1);
    const info = link.info();
    // Reported since kernel 6.6.
    if (info.type === "kprobe_multi" && info.count !== undefined) {
      expect(info.count).toBe(link.functions.length);
    }
  }
  // The program also ran for the functions that detached it.
  hits.take();
  callGetpgid();
  expect(hits.take()).toBe(0);
});

describe("a refused kprobe.multi", () => {
  multiTest("has a similar name, or the cause, and leaves nothing open", async () => {
    using hits = new Hits();
    using program = hits.program("kprobe.multi");
    const before = await settledResources();
    const none = /ENOENT .*This kernel has no function/;
    for (const [functions, text] of [
      ["kernel_clome", 'This kernel has no function kernel_clome: did you mean "kernel_clone"?'],
      [["kernel_clone", "kernel_clome"], 'kernel_clome: did you mean "kernel_clone"?'],
      ["nothing_like_it_*", "This kernel has no function nothing_like_it_*: /proc/kallsyms lists"],
      [["vfs_*", "nothing_like_it_*"], "nothing_like_it_*: /proc/kallsyms lists"],
      ["no_such_module:*", "This kernel has no function no_such_module:*"],
    ] as const) {
      let error: unknown;
      try {
        program.attach({ functions })[Symbol.dispose]();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(BpfError);
      expect((error as BpfError).message).toMatch(none);
      expect((error as BpfError).message).toContain(text);
    }
    expect(() => program.attach({ addresses: [0x1000n] })).toThrow(
      /One of the addresses is not the start of a function that can be probed/,
    );
    expect(countResources()).toEqual(before);
  });

  bpfTest("is refused before the kernel sees it if an option is wrong", () => {
    using hits = new Hits();
    using program = hits.program("kprobe.multi");
    const anyOptions = (value: object) => value as never;
    for (const options of [{}, { functions: "a", addresses: [1n] }]) {
      expect(() => program.attach(anyOptions(options))).toThrow(
        "attach: expected one of the options functions and addresses",
      );
    }
    expect(() => program.attach({ functions: [] })).toThrow(
      /functions: expected at least one name/,
    );
    expect(() => program.attach({ functions: "" })).toThrow(/functions: .*"vfs_\*", got ""/);
    expect(() => program.attach({ functions: ["a", "b c"] })).toThrow(
      /functions\[1\]: .*got "b c"/,
    );
    expect(() => program.attach({ functions: "a", cookies: [1n, 2n] })).toThrow(
      "cookies: expected one for each entry of functions, 1, got 2",
    );
    expect(() => program.attach({ addresses: [] })).toThrow(/addresses: expected at least one/);
    expect(() => program.attach(anyOptions({ addresses: [1] }))).toThrow(
      "attach: addresses[0]: expected an address as a bigint, got 1",
    );
    expect(() => program.attach({ addresses: [1n], cookies: [-1n] })).toThrow(/^cookie: expected/);
  });

  for (const [kind, since] of [
    ["kprobe.multi", "5.18"],
    ["kprobe.session", "6.10"],
  ] as const) {
    testUnless(
      bpfObstacle ?? (attachKinds.get(kind).status === "missing" ? undefined : `it has ${kind}`),
    )(`names what a kernel without ${kind} lacks`, () => {
      using hits = new Hits();
      using program = hits.program(kind as SectionName);
      for (const functions of [getpgid, both]) {
        expect(() => program.attach({ functions })).toThrow(
          new RegExp(
            `EOPNOTSUPP .*This kernel was built without CONFIG_FPROBE|EINVAL .*needs? Linux ${since}`,
          ),
        );
      }
    });
  }
});

multiTest("a kprobe.multi leaves nothing open", async () => {
  using hits = new Hits();
  using program = hits.program("kprobe.multi");
  const before = await settledResources();
  for (let round = 0; round < repetitions(1000, 20); round++) {
    using _link = program.attach({ functions: round % 2 === 0 ? getpgid : both });
  }
  expect(countResources()).toEqual(before);
  callGetpgid();
  expect(hits.take()).toBe(0);
});
