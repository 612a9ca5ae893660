import { describe, expect } from "bun:test";
import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { mkdtempSync, openSync, closeSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BpfError, features, type Link, type SectionName } from "../../src/index.ts";
import { MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/uapi/system.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { calls, Hits, libcPlace } from "./hits.ts";
import { wayTest } from "./way.ts";

const { attachKinds } = features;
const toascii = libcPlace("toascii");
const labs = libcPlace("labs");
const { path } = toascii;
const offsets = [toascii.offset, labs.offset];

/** Calls a function three times, and expects a number of runs; then expects none after disposal. */
function expectRuns(hits: Hits, link: Link, runs: number, call = calls.toascii): void {
  {
    using _attached = link;
    for (let count = 0; count < 3; count++) call();
    expect(hits.take()).toBe(runs);
  }
  call();
  expect(hits.take()).toBe(0);
}

for (const kind of ["uprobe", "uretprobe"] as const) {
  wayTest(kind, () => {
    using hits = new Hits();
    using program = hits.program(kind);
    calls.toascii();
    expect(hits.take()).toBe(0);
    expectRuns(hits, program.attach({ path, offset: toascii.offset }), 3);
    using targeted = hits.program(`${kind}/${path}:${toascii.offset}`);
    expectRuns(hits, targeted.attach(), 3);
    using hexadecimal = hits.program(`${kind}/${path}:0x${toascii.offset.toString(16)}`);
    expectRuns(hits, hexadecimal.attach(), 3);
    using file = hits.program(`${kind}/${path}`);
    expectRuns(hits, file.attach({ offset: toascii.offset }), 3);
  });
}

for (const kind of ["uprobe.multi", "uretprobe.multi"] as const) {
  wayTest(kind, () => {
    using hits = new Hits();
    using program = hits.program(kind);
    expectRuns(hits, program.attach({ path, offsets }), 3);
    expectRuns(hits, program.attach({ path, offsets }), 3, calls.labs);
    expectRuns(hits, program.attach({ path, offsets: [labs.offset] }), 0);
    using targeted = hits.program(`${kind}/${path}:${toascii.offset}`);
    expectRuns(hits, targeted.attach(), 3);
  });
}

wayTest("uprobe.session", () => {
  using hits = new Hits();
  using program = hits.program("uprobe.session");
  // It runs at the entry and at the return.
  expectRuns(hits, program.attach({ path, offsets }), 6);
});

wayTest("uprobe.multi_cookie", () => {
  using hits = new Hits();
  using program = hits.program("uprobe.multi", true);
  using _link = program.attach({ path, offsets, cookies: [7n, 2n ** 50n] });
  calls.toascii();
  expect(hits.cookie).toBe(7);
  calls.labs();
  expect(hits.cookie).toBe(2 ** 50);
});

testWith(attachKinds.get("uprobe"), attachKinds.get("perf_event_cookie"))(
  "the cookie of a uprobe is passed to the program",
  () => {
    using hits = new Hits();
    using program = hits.program("uprobe", true);
    using _link = program.attach({ path, offset: toascii.offset, cookie: 77n });
    calls.toascii();
    expect(hits.cookie).toBe(77);
  },
);

testWith(attachKinds.get("uprobe"))("cookies need Linux 5.15, and the error says so", () => {
  using hits = new Hits();
  using program = hits.program("uprobe");
  const attach = () => program.attach({ path, offset: toascii.offset, cookie: 77n });
  if (attachKinds.get("perf_event_cookie").available) return attach()[Symbol.dispose]();
  expect(attach).toThrow(/EINVAL.*Cookies of perf events need Linux 5.15: leave out the cookie/);
});

describe("the option pid", () => {
  for (const [kind, places] of [
    ["uprobe", { offset: toascii.offset }],
    ["uprobe.multi", { offsets }],
  ] as const) {
    testWith(attachKinds.get(kind))(`restricts a ${kind} to one process`, async () => {
      using hits = new Hits();
      using program = hits.program(kind as SectionName);
      expectRuns(hits, program.attach({ path, ...places, pid: process.pid }), 3);
      const child = Bun.spawn(["sh", "-c", "echo started; exec sleep 60"]);
      try {
        // Until the kernel has completed exec, the child of vfork has the memory of this process, so its uprobes fire here.
        await child.stdout.getReader().read();
        expectRuns(hits, program.attach({ path, ...places, pid: child.pid }), 0);
      } finally {
        child.kill("SIGKILL");
        await child.exited;
      }
      expect(() => program.attach({ path, ...places, pid: child.pid })).toThrow(
        new RegExp(`ESRCH.*There is no process ${child.pid}$`),
      );
    });
  }
});

for (const [section, kind, places] of [
  ["uprobe.s", "uprobe", { offset: toascii.offset }],
  ["uretprobe.s", "uretprobe", { offset: toascii.offset }],
  ["uprobe.multi.s", "uprobe.multi", { offsets }],
  ["uretprobe.multi.s", "uretprobe.multi", { offsets }],
] as const) {
  testWith(attachKinds.get(kind), attachKinds.get("uprobe.multi"))(
    `programs of section ${section} run`,
    () => {
      using hits = new Hits();
      using program = hits.program(section as SectionName);
      expectRuns(hits, program.attach({ path, ...places }), 3);
    },
  );
}

testWith(attachKinds.get("uprobe"))("two programs at one place both run", () => {
  using hits = new Hits();
  using program = hits.program("uprobe");
  using _one = program.attach({ path, offset: toascii.offset });
  using _other = program.attach({ path, offset: toascii.offset });
  calls.toascii();
  expect(hits.take()).toBe(2);
});

describe("reference counters", () => {
  const page = 4096;
  const counterOffset = page - 4;
  const nop = process.arch === "x64" ? [0x90, 0x90, 0x90, 0x90] : [0x1f, 0x20, 0x03, 0xd5];

  /** Calls `body` with the path of a mapped file, and a function that reads the counter in the mapping. */
  function withMappedFile(body: (path: string, count: () => number) => void): void {
    const folder = mkdtempSync(join(tmpdir(), "uprobe-"));
    const file = join(folder, "code");
    const bytes = Buffer.alloc(page);
    for (let i = 0; i < 16; i++) bytes.set(nop, i * 4);
    writeFileSync(file, bytes);
    const { mmap, munmap } = dlopen("libc.so.6", {
      mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: "ptr" },
      munmap: { args: ["ptr", "u64"], returns: "i32" },
    }).symbols;
    const fd = openSync(file, "r");
    const executable = 4;
    const map = (protection: number) => mmap(null, page, protection, MAP_PRIVATE, fd, 0) as Pointer;
    const code = map(PROT_READ | executable);
    const data = map(PROT_READ | PROT_WRITE);
    closeSync(fd);
    try {
      const view = new DataView(toArrayBuffer(data, 0, page));
      // The counter has 16 bits.
      body(file, () => view.getUint16(counterOffset, true));
    } finally {
      munmap(code, page);
      munmap(data, page);
      rmSync(folder, { recursive: true });
    }
  }

  for (const [kind, places] of [
    ["uprobe", { offset: 4, referenceOffset: counterOffset }],
    ["uprobe.multi", { offsets: [4, 8], referenceOffsets: [counterOffset, 0] }],
  ] as const) {
    testWith(attachKinds.get(kind))(`are incremented while a ${kind} is attached`, () => {
      using hits = new Hits();
      using program = hits.program(kind as SectionName);
      withMappedFile((file, count) => {
        expect(count()).toBe(0);
        {
          using _link = program.attach({ path: file, ...places });
          expect(count()).toBe(1);
        }
        expect(count()).toBe(0);
      });
    });
  }
});

describe("info()", () => {
  testWith(attachKinds.get("uprobe.multi"))("has the places of a uprobe.multi", () => {
    using hits = new Hits();
    using program = hits.program("uretprobe.multi");
    using link = program.attach({ path, offsets, cookies: [1n, 2n], pid: process.pid });
    expect(`${link}`).toBe(`uprobe_multi link to 2 places in ${path}`);
    const info = link.info();
    expect(info).toMatchObject({ type: "uprobe_multi", programId: program.id });
    // Reported since kernel 6.8.
    if (info.type !== "uprobe_multi" || info.count === undefined) return;
    expect(info).toMatchObject({
      count: 2,
      offsets: offsets.map(BigInt),
      cookies: [1n, 2n],
      flags: 1,
    });
  });

  testWith(attachKinds.get("uprobe"))("has the type of a uprobe, with a link or without", () => {
    using hits = new Hits();
    using program = hits.program("uprobe");
    using link = program.attach({ path, offset: toascii.offset });
    expect(`${link}`).toBe(`uprobe link to ${path}+0x${toascii.offset.toString(16)}`);
    expect(link.info()).toMatchObject({ type: "perf_event", programId: program.id });
    const hasLinks = attachKinds.get("perf_event_link").available;
    expect(link.info().id > 0).toBe(hasLinks);
    if (!hasLinks) {
      link.detach();
      calls.toascii();
      expect(hits.take()).toBe(0);
    }
  });
});

describe("a refused uprobe", () => {
  const missing = path.replace(/libc\.so\.\d$/, "libc.so.x");
  for (const kind of ["uprobe", "uprobe.multi"] as const) {
    const place = (offset: number) =>
      (kind === "uprobe" ? { offset } : { offsets: [0, offset] }) as object;
    testWith(attachKinds.get(kind))(`has the cause: ${kind}`, async () => {
      using hits = new Hits();
      using program = hits.program(kind as SectionName);
      const before = await settledResources();
      for (const [options, code, cause] of [
        [{ path: missing, ...place(0) }, "ENOENT", `There is no file ${missing}: did you mean`],
        [{ path: "/tmp", ...place(0) }, undefined, "/tmp is not a regular file"],
        [{ path, ...place(2 ** 40) }, "EINVAL", "The offset 0x10000000000 is past the end of the"],
      ] as const) {
        let error: unknown;
        try {
          program.attach(options)[Symbol.dispose]();
        } catch (thrown) {
          error = thrown;
        }
        expect(error).toBeInstanceOf(BpfError);
        if (code !== undefined) expect((error as BpfError).code).toBe(code);
        expect((error as BpfError).message).toContain(cause);
      }
      expect(countResources()).toEqual(before);
    });
  }

  bpfTest("is refused before the kernel sees it if an option is wrong", () => {
    using hits = new Hits();
    using single = hits.program("uprobe");
    using multi = hits.program("uprobe.multi");
    using symbol = hits.program("uprobe//bin/true:main");
    using targeted = hits.program("uprobe//bin/true:8");
    const anyOptions = (value: object) => value as never;
    expect(() => single.attach(anyOptions({}))).toThrow(
      'attach: path: expected a target of the form "/usr/bin/bash:0x31f40", got undefined',
    );
    // @ts-expect-error the offset is missing
    expect(() => single.attach({ path })).toThrow(/^attach: offset: expected an integer/);
    expect(() => single.attach({ path, offset: -1 })).toThrow(RangeError);
    expect(() => single.attach({ path, offset: 0, pid: 0 })).toThrow(/^attach: pid: expected/);
    expect(() => single.attach({ path, offset: 0, referenceOffset: 2 ** 32 })).toThrow(
      /^attach: referenceOffset: expected an integer from 0 to 4294967295/,
    );
    expect(() => single.attach({ path, offset: 0, cookie: -1n })).toThrow(/^cookie: expected/);
    expect(() => single.attach(anyOptions({ path, offsets: [1] }))).toThrow(
      'unknown option "offsets": did you mean "offset"?',
    );
    expect(() => symbol.attach()).toThrow(
      /does not find symbols in files yet.*got the symbol "main"/,
    );
    expect(() => targeted.attach({ offset: 1 })).toThrow(
      'section "uprobe//bin/true:8" names the target already: expected no option "offset"',
    );
    expect(() => multi.attach({ path, offsets: [] })).toThrow(/offsets: expected at least one/);
    expect(() => multi.attach({ path, offsets: [1.5] })).toThrow(/^attach: offsets\[0\]: expected/);
    expect(() => multi.attach({ path, offsets: [1], cookies: [] })).toThrow(
      "cookies: expected one for each offset, 1, got 0",
    );
    expect(() => multi.attach({ path, offsets: [1], referenceOffsets: [1, 2] })).toThrow(
      "referenceOffsets: expected one for each of the 1 offsets, got 2",
    );
  });

  bpfTest("names the kernel version where the kernel has no links to several places", () => {
    using hits = new Hits();
    for (const [kind, version] of [
      ["uprobe.multi", "6.6"],
      ["uprobe.session", "6.13"],
    ] as const) {
      if (attachKinds.get(kind).available) continue;
      using program = hits.program(kind);
      expect(() => program.attach({ path, offsets })).toThrow(
        new RegExp(`EINVAL.*need.? Linux ${version}`),
      );
    }
  });
});

for (const [kind, places, rounds] of [
  ["uprobe", { offset: toascii.offset }, repetitions(20, 5)],
  ["uprobe.multi", { offsets }, repetitions(50, 5)],
] as const) {
  testWith(attachKinds.get(kind))(`a ${kind} leaves nothing open`, async () => {
    using hits = new Hits();
    using program = hits.program(kind as SectionName);
    const before = await settledResources();
    for (let round = 0; round < rounds; round++) {
      using _link = program.attach({ path, ...places });
    }
    expect(countResources()).toEqual(before);
    calls.toascii();
    expect(hits.take()).toBe(0);
  });
}

for (const section of ["uprobe", "uretprobe"] as const) {
  testWith(attachKinds.get(section))(
    `${section}: the hint names CAP_SYS_ADMIN if it is missing`,
    async () => {
      const code = `
      import { dlopen } from "bun:ffi";
      import { asm, Program } from "./src/index.ts";
      using program = new Program({
        section: "${section}",
        license: "GPL",
        code: [asm.mov(asm.r0, 0), asm.exit()],
      });
      const { capset } = dlopen("libc.so.6", { capset: { args: ["ptr", "ptr"], returns: "i32" } }).symbols;
      // CAP_PERFMON and CAP_BPF, in the second word of each set.
      const bits = (1 << (38 - 32)) | (1 << (39 - 32));
      capset(new Uint32Array([0x20080522, 0]), new Uint32Array([0, 0, 0, bits, bits, 0]));
      try {
        using link = program.attach({ path: "${path}", offset: ${toascii.offset} });
      } catch (error) {
        console.log(error.name, error.code, error.hint);
      }`;
      const { stdout, stderr } = await runBun(["-e", code]);
      expect(stderr).toBe("");
      // Linux 5.8 to 6.15 allow it, except for stable versions since July 2025.
      if (stdout !== "") {
        expect(stdout).toMatch(
          /^BpfError (EACCES|EPERM) This process lacks CAP_SYS_ADMIN: run as root/,
        );
      }
    },
  );
}
