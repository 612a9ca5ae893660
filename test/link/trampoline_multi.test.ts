import { describe, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asm, Btf, features, HashMap, Program, type SectionName, t } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { execCounter } from "./exec_counter.ts";
import { wayTest } from "./way.ts";

const code = [asm.mov(asm.r0, 0), asm.exit()];
const multiTest = testWith(features.attachKinds.get("fentry.multi"));
const kernelId = (name: string) => Btf.kernel().find("func", name) as number;

/** Makes a directory and removes it, which calls security_inode_mkdir() and security_inode_rmdir() once each. */
function makeDirectory(): void {
  rmdirSync(mkdtempSync(join(tmpdir(), "trampoline-")));
}

function expectCounts(section: SectionName, options: object, count: number): void {
  using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
  using program = execCounter(section, counts);
  {
    using _link = (program as Program).attach(options);
    makeDirectory();
    expect(counts.take(process.pid)).toBe(count);
  }
  makeDirectory();
  expect(counts.take(process.pid)).toBeUndefined();
}

const both = ["security_inode_mkdir", "security_inode_rmdir"];

for (const section of ["fentry.multi", "fexit.multi", "fsession.multi"] as const) {
  // A session runs at the entry and at the return.
  const perCall = section === "fsession.multi" ? 2 : 1;
  wayTest(section, () => {
    expectCounts(section, { functions: both }, 2 * perCall);
    expectCounts(`${section}/security_inode_mkdi?`, {}, perCall);
    expectCounts(section, { ids: both.map(kernelId) }, 2 * perCall);
  });
}

describe("attaching to many functions", () => {
  const load = () => new Program({ section: "fentry.multi", license: "GPL", code });

  multiTest("attaches to those that match, and reports the others with the reason", () => {
    using program = load();
    using link = program.attach({ functions: ["vfs_*", "bpf_log*", "memcpy"] });
    expect(link.functions).toContain("vfs_read");
    expect(link.functions.length).toBeGreaterThan(50);
    expect(link.functions).not.toContain("bpf_log");
    expect(link.skipped).toEqual([...link.reasons.keys()]);
    expect(link.reasons.get("bpf_log")).toBe("it takes a variable number of arguments");
    expect(link.reasons.get("memcpy")).toBe("the kernel does not let it be traced (notrace)");
    expect(link.info()).toMatchObject({ type: "tracing_multi", programId: program.id });
    expect(`${link}`).toBe(`fentry.multi link to ${link.functions.length} functions`);
  });

  multiTest("skips functions that only the kernel knows to be impossible", () => {
    using program = new Program({ section: "fexit.multi", license: "GPL", code });
    using link = program.attach({ functions: ["do_exit", "vfs_read", "vfs_write"] });
    expect(link.functions).toEqual(["vfs_read", "vfs_write"]);
    expect([...link.reasons]).toEqual([
      ["do_exit", "the kernel refuses programs of this section for it"],
    ]);
  });

  multiTest("does not search functions that the kernel refuses among all of them", () => {
    using program = new Program({ section: "fexit.multi", license: "GPL", code });
    expect(() => program.attach({ functions: "*" })).toThrow(
      /The kernel refuses at least one of the functions.* The \d{5} functions are too many to find which: attach to fewer/,
    );
  });

  multiTest("passes the cookie of each function", () => {
    using seen = new HashMap({ key: t.u64, value: t.u64Number, maxEntries: 16 });
    using program = new Program({
      section: "fentry.multi",
      license: "GPL",
      maps: { seen },
      code: [
        asm.mov(asm.r6, asm.r1),
        asm.call("get_current_pid_tgid"),
        asm.rsh(asm.r0, 32),
        asm.stxdw(asm.r10, -16, asm.r0),
        asm.jne(asm.r0, process.pid, "out"),
        asm.mov(asm.r1, asm.r6),
        asm.call("get_attach_cookie"),
        asm.stxdw(asm.r10, -8, asm.r0),
        asm.ldMap(asm.r1, "seen"),
        asm.mov(asm.r2, asm.r10),
        asm.add(asm.r2, -8),
        asm.mov(asm.r3, asm.r10),
        asm.add(asm.r3, -16),
        asm.mov(asm.r4, 0),
        asm.call("map_update_elem"),
        asm.label("out"),
        ...code,
      ],
    });
    const cookies = [0xffff_ffff_ffff_ffffn, 7n];
    const targets = [
      { functions: both },
      { functions: ["security_inode_mkdi?", "security_inode_rmdi*"] },
      { ids: both.map(kernelId) },
    ] as const;
    for (const target of targets) {
      using _link = program.attach({ ...target, cookies });
      const parent = mkdtempSync(join(tmpdir(), "trampoline-"));
      mkdirSync(join(parent, "inner"));
      rmdirSync(join(parent, "inner"));
      expect(new Set(seen.keys())).toEqual(new Set(cookies));
      rmdirSync(parent);
      seen.clear();
    }
  });

  multiTest("rejects wrong options before the kernel sees them", () => {
    using program = load();
    const oneOf = "attach: expected one of the options functions and ids";
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({})).toThrow(oneOf);
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ functions: "vfs_read", ids: [1] })).toThrow(oneOf);
    expect(() => program.attach({ functions: [] })).toThrow("expected at least one name");
    expect(() => program.attach({ functions: "a b" })).toThrow(
      'attach: functions: expected a target of the form "vfs_*", got "a b"',
    );
    for (const ids of [[], [0], [2 ** 31], [1, 1], [kernelId("vfs_read"), kernelId("vfs_read")]]) {
      expect(() => program.attach({ ids })).toThrow("attach: ids: expected");
    }
    expect(() => program.attach({ functions: both, cookies: [1n] })).toThrow(
      "cookies: expected one for each entry of functions, 2, got 1",
    );
  });

  multiTest("explains what the kernel refuses", () => {
    using program = load();
    expect(() => program.attach({ functions: "no_such_function_*" })).toThrow(
      /ENOENT .*This kernel has no function no_such_function_\*/,
    );
    expect(() => program.attach({ functions: ["vfs_read", "vfs_reed"] })).toThrow(
      /ENOENT .*This kernel has no function vfs_reed: did you mean "vfs_read"\?/,
    );
    expect(() => program.attach({ functions: "nf_tables:nft_*" })).toThrow(
      /ENOENT .*The link cannot have functions of modules, such as nf_tables:nft_\*/,
    );
    expect(() => program.attach({ functions: "bpf_log" })).toThrow(
      /None of the functions \(1\) can be attached to\. bpf_log: it takes a variable number/,
    );
    expect(() => program.attach({ functions: ["memcpy"] })).toThrow(
      /None of the functions \(1\) can be attached to\. memcpy: the kernel does not let it be traced/,
    );
    expect(() => program.attach({ ids: [kernelId("bpf_log")] })).toThrow(
      /EINVAL .*The kernel refuses at least one of the functions/,
    );
    using _link = program.attach({ functions: "vfs_read" });
    expect(() => program.attach({ functions: "vfs_*" })).toThrow(
      /EBUSY .*The program is attached to one of these functions already/,
    );
  });

  multiTest("attaches to more than a thousand functions", () => {
    using program = load();
    using link = program.attach({ functions: "bpf_*" });
    expect(link.functions.length).toBeGreaterThan(1000);
    expect(link.skipped.length).toBeLessThan(link.functions.length / 2);
  });
});
