/** Tests of the order and the modes of programs in cgroups, and of the lists of programs. */
import { describe, expect } from "bun:test";
import { readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import {
  asm,
  attachedPrograms,
  type CgroupOptions,
  DisposedError,
  features,
  Program,
} from "../../src/index.ts";
import { TestCgroup } from "../support/cgroups.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testWith } from "../support/needs.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { repetitions } from "../support/effort.ts";
import { testUnless } from "../support/skipping.ts";

const attachType = "cgroup_inet_ingress";
const cgroupTest = testWith(features.attachKinds.get("cgroup_skb/ingress"));
const linkTest = testWith(features.attachKinds.get("cgroup_link"));
const isOrdered = isKernelSince("6.17");
const orderTest = testUnless(bpfObstacle ?? (isOrdered ? undefined : "the order needs Linux 6.17"));
const preorderTest = testUnless(
  bpfObstacle ?? (isOrdered ? undefined : "preorder by links needs Linux 6.17"),
);

function allow(): Program<"cgroup_skb/ingress"> {
  return new Program({
    section: "cgroup_skb/ingress",
    license: "GPL",
    code: [asm.mov(asm.r0, 1), asm.exit()],
  });
}

function idsIn(cgroup: string, effective = false): number[] {
  const programs = attachedPrograms({ cgroup, attachType, effective })[0]?.programs ?? [];
  return programs.map(({ programId }) => programId);
}

/** Programs and links of a test. All are disposed of at its end, the links first. */
class Attached implements Disposable {
  readonly cgroup = new TestCgroup();
  readonly #stack = new DisposableStack();

  constructor() {
    this.#stack.use(this.cgroup);
  }

  /** Attaches a new program, and returns both. */
  attach(options: Partial<CgroupOptions> = {}) {
    const program = this.#stack.use(allow());
    const link = program.attach({ cgroup: this.cgroup.path, ...options });
    this.#stack.use(link);
    return { program, link, id: program.id };
  }

  ids(effective = false): number[] {
    return idsIn(this.cgroup.path, effective);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

describe("the order of programs", () => {
  cgroupTest("is that of attaching, with and without links", () => {
    using attached = new Attached();
    expect(attached.ids()).toEqual([]);
    const ids = (["attach", undefined, "attach"] as const).map(
      (method) => attached.attach({ ...(method !== undefined && { method }) }).id,
    );
    expect(attached.ids()).toEqual(ids);
    expect(attachedPrograms({ cgroup: attached.cgroup.path, attachType })).toMatchObject([
      { cgroupMode: "multi" },
    ]);
  });

  orderTest("of links is relative to links", () => {
    using attached = new Attached();
    const first = attached.attach();
    const second = attached.attach();
    const between = attached.attach({ before: second.link });
    const last = attached.attach({ after: "all" });
    const afterFirst = attached.attach({ after: first.link });
    const start = attached.attach({ before: "all" });
    const expected = [start, first, afterFirst, between, second, last].map(({ id }) => id);
    expect(attached.ids()).toEqual(expected);
  });

  orderTest("of programs without links is relative to such programs", () => {
    using attached = new Attached();
    const method = "attach";
    const first = attached.attach({ method });
    const before = attached.attach({ method, before: first.program });
    const after = attached.attach({ method, after: before.program });
    const start = attached.attach({ method, before: "all" });
    expect(attached.ids()).toEqual([start, before, after, first].map(({ id }) => id));
  });

  orderTest("is relative to programs of the same cgroup only", () => {
    using attached = new Attached();
    using other = new Attached();
    const { link, program } = other.attach();
    expect(() => attached.attach({ before: link })).toThrow(
      /ENOENT .*The link of the option before or after is not attached to this cgroup/,
    );
    expect(() => attached.attach({ after: program, method: "attach" })).toThrow(
      /ENOENT .*The program of the option before or after is not attached to this cgroup/,
    );
    expect(attached.ids()).toEqual([]);
  });

  orderTest("is relative to the id of a link or a program", () => {
    using attached = new Attached();
    const link = attached.attach();
    const beforeLink = attached.attach({ before: { linkId: link.link.id } });
    const direct = attached.attach({ method: "attach" });
    const method = "attach";
    const beforeDirect = attached.attach({ method, before: { programId: direct.id } });
    const expected = [beforeLink, link, beforeDirect, direct].map(({ id }) => id);
    expect(attached.ids()).toEqual(expected);
    expect(() => attached.attach({ after: { linkId: 0x7fff_ffff } })).toThrow(
      /ENOENT .*The link of the option before or after is not attached to this cgroup/,
    );
    expect(() => attached.attach({ method, after: { programId: 0x7fff_ffff } })).toThrow(
      /ENOENT .*The program of the option before or after is not attached to this cgroup/,
    );
    expect(() => attached.attach({ before: { programId: link.id }, method: "link" })).toThrow(
      "expected a link: a program that is attached by",
    );
    expect(attached.ids()).toEqual(expected);
  });

  orderTest("is that of the expected revision, or nothing is attached", () => {
    using attached = new Attached();
    const revision = () => {
      const { cgroup } = attached;
      return attachedPrograms({ cgroup: cgroup.path, attachType })[0]?.revision ?? 0n;
    };
    for (const method of ["link", "attach"] as const) {
      const expectedRevision = revision();
      expect(expectedRevision).toBeGreaterThan(0n);
      attached.attach({ method, expectedRevision });
      const ids = attached.ids();
      expect(revision()).toBeGreaterThan(expectedRevision);
      const refused = () => attached.attach({ method, expectedRevision });
      expect(refused).toThrow(/ESTALE.*read them again with attachedPrograms\(\)/);
      expect(attached.ids()).toEqual(ids);
    }
    expect(attached.ids()).toHaveLength(2);
  });

  testUnless(bpfObstacle ?? (isOrdered ? "the kernel has the order" : undefined))(
    "needs Linux 6.17",
    () => {
      using attached = new Attached();
      attached.attach({ method: "attach" });
      for (const method of ["link", "attach"] as const) {
        expect(() => attached.attach({ method, before: "all" })).toThrow("needs Linux 6.17");
      }
      expect(() => attached.attach({ method: "link", preorder: true })).toThrow("needs Linux 6.17");
      // These kernels would ignore the revision.
      for (const method of ["link", "attach"] as const) {
        expect(() => attached.attach({ method, expectedRevision: 9n })).toThrow(
          "The option expectedRevision needs Linux 6.17 for cgroups",
        );
      }
      expect(attached.ids()).toHaveLength(1);
    },
  );

  cgroupTest("is checked before the call", () => {
    using attached = new Attached();
    const { program, link } = attached.attach();
    const direct = attached.attach({ method: "attach" });
    for (const [options, message] of [
      [{ before: "all", after: "all" }, "expected one of the options before and after, got both"],
      [{ before: program, method: "link" }, "expected a link: a program that is attached by"],
      [{ after: link, method: "attach" }, isLink(link) ? "expected a program: with" : "no link"],
      [{ before: direct.link }, "which is attached without a link: pass its program"],
      [
        { before: "first" },
        'before: expected a program, a link, { programId }, { linkId } or "all", got "first"',
      ],
    ] as const) {
      expect(() => attached.attach(options as Partial<CgroupOptions>)).toThrow(message);
    }
    expect(attached.ids()).toHaveLength(2);
  });

  preorderTest("begins with programs of ancestors that have the option preorder", () => {
    using attached = new Attached();
    using stack = new DisposableStack();
    const path = attached.cgroup.makeChild("inner");
    stack.defer(() => rmdirSync(path));
    const ancestor = attached.attach();
    const early = attached.attach({ preorder: true });
    const inner = stack.use(allow());
    stack.use(inner.attach({ cgroup: path }));
    expect(idsIn(path, true)).toEqual([early.id, inner.id, ancestor.id]);
    expect(idsIn(path)).toEqual([inner.id]);
    expect(() => attached.attach({ preorder: true, before: ancestor.link })).toThrow(
      /EINVAL .*must have the same preorder option/,
    );
  });

  cgroupTest("is seen by two processes that attach to the same cgroup", async () => {
    using attached = new Attached();
    const own = attached.attach().id;
    const child = Bun.spawn(
      [process.execPath, join(import.meta.dir, "children/attach_to_cgroup.ts"), pathOf(attached)],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    const output = child.stdout.getReader();
    const seen = JSON.parse(new TextDecoder().decode((await output.read()).value));
    const [, theirs] = seen;
    expect(seen).toEqual([own, theirs]);
    const last = attached.attach().id;
    expect(attached.ids()).toEqual([own, theirs, last]);
    // The kernel detaches the link of a process that is killed.
    child.kill("SIGKILL");
    await child.exited;
    for (const deadline = Date.now() + 10_000; Date.now() < deadline; await Bun.sleep(10)) {
      if (attached.ids().length === 2) break;
    }
    expect(attached.ids()).toEqual([own, last]);
  });
});

/** Returns the path of a cgroup for other processes. */
function pathOf({ cgroup }: Attached): string {
  return cgroup.path.replace("/self/", `/${process.pid}/`);
}

function isLink(link: { pin(path: string): unknown }): boolean {
  return link.constructor.name === "Link";
}

describe("the mode of programs", () => {
  cgroupTest("override has one program, which the next one replaces", () => {
    using attached = new Attached();
    const first = attached.attach({ mode: "override" });
    expect(attached.ids()).toEqual([first.id]);
    const second = attached.attach({ mode: "override" });
    expect(attached.ids()).toEqual([second.id]);
    expect(attachedPrograms({ cgroup: attached.cgroup.path, attachType })).toMatchObject([
      { cgroupMode: "override" },
    ]);
    // The first one is not attached any more, so that its disposal must not detach the second one.
    first.link[Symbol.dispose]();
    expect(attached.ids()).toEqual([second.id]);
    second.link[Symbol.dispose]();
    expect(attached.ids()).toEqual([]);
  });

  cgroupTest("override lets a program of a descendant run instead", () => {
    using attached = new Attached();
    using stack = new DisposableStack();
    const path = attached.cgroup.makeChild("inner");
    stack.defer(() => rmdirSync(path));
    const { id } = attached.attach({ mode: "override" });
    expect(idsIn(path, true)).toEqual([id]);
    const inner = stack.use(allow());
    stack.use(inner.attach({ cgroup: path, mode: "override" }));
    expect(idsIn(path, true)).toEqual([inner.id]);
  });

  cgroupTest("exclusive forbids programs of descendants", () => {
    using attached = new Attached();
    using stack = new DisposableStack();
    const path = attached.cgroup.makeChild("inner");
    stack.defer(() => rmdirSync(path));
    attached.attach({ mode: "exclusive" });
    const inner = stack.use(allow());
    for (const options of [{}, { method: "attach" }, { mode: "override" }] as const) {
      expect(() => inner.attach({ cgroup: path, ...options })).toThrow(
        /EPERM .*The program of the ancestor .* has the mode "exclusive"/,
      );
    }
    expect(idsIn(path)).toEqual([]);
  });

  cgroupTest("is the same for all programs of a cgroup", () => {
    using attached = new Attached();
    attached.attach({ mode: "override" });
    expect(() => attached.attach()).toThrow(
      /EPERM .*The cgroup has a program in mode "override".*pass mode: "override"/,
    );
    expect(() => attached.attach({ mode: "exclusive" })).toThrow('pass mode: "override"');
    using other = new Attached();
    other.attach();
    expect(() => other.attach({ mode: "exclusive" })).toThrow('pass mode: "multi"');
  });

  cgroupTest("is checked before the call", () => {
    using attached = new Attached();
    const { program } = attached.attach({ method: "attach" });
    for (const [options, message] of [
      [{ mode: "mutli" }, 'attach: mode: unknown "mutli": did you mean "multi"?'],
      [{ mode: "override", method: "link" }, 'the option mode needs method: "attach"'],
      [{ replace: program, method: "link" }, 'the option replace needs method: "attach"'],
      [{ replace: program, mode: "override" }, 'attach: replace: expected mode "multi"'],
      [{ replace: 5 }, "attach: replace: expected a program, got 5"],
      [{ method: "links" }, 'attach: method: expected "link" or "attach", got "links"'],
      [{ preorder: 1 }, "attach: preorder: expected true or false, got 1"],
      [{ mod: "multi" }, 'unknown option "mod": did you mean "mode"?'],
    ] as const) {
      expect(() => attached.attach(options as Partial<CgroupOptions>)).toThrow(message);
    }
    expect(attached.ids()).toEqual([program.id]);
  });
});

describe("a program without a link", () => {
  cgroupTest("is replaced in its place by the option replace", () => {
    using attached = new Attached();
    const [first, second] = [attached.attach({ method: "attach" }), attached.attach()];
    const third = attached.attach({ replace: first.program });
    expect(attached.ids()).toEqual([third.id, second.id]);
    expect(() => attached.attach({ replace: first.program })).toThrow(
      /ENOENT .*The program of the option replace is not attached to this cgroup/,
    );
    first.link[Symbol.dispose]();
    expect(attached.ids()).toEqual([third.id, second.id]);
    third.link[Symbol.dispose]();
    expect(attached.ids()).toEqual([second.id]);
  });

  for (const mode of ["multi", "override", "exclusive"] as const) {
    cgroupTest(`can be updated in mode ${mode}`, () => {
      using attached = new Attached();
      using other = allow();
      const { program, link } = attached.attach({ method: "attach", mode });
      expect(() => link.update(other, { expected: other })).toThrow(
        /EPERM .*The attachment has another program than the expected one/,
      );
      expect(attached.ids()).toEqual([program.id]);
      expect(link.update(other, { expected: program })).toBe(link);
      expect(attached.ids()).toEqual([other.id]);
      expect(link.info()).toMatchObject({ id: 0, type: "cgroup", programId: other.id, attachType });
      link.detach().detach();
      expect(attached.ids()).toEqual([]);
      link[Symbol.dispose]();
      expect(() => link.info()).toThrow(DisposedError);
    });
  }

  cgroupTest("is not replaced after another one took its place", () => {
    using attached = new Attached();
    using other = allow();
    const first = attached.attach({ mode: "override" });
    const second = attached.attach({ mode: "override" });
    expect(() => first.link.update(other)).toThrow("The program is not attached any more");
    expect(attached.ids()).toEqual([second.id]);
  });

  cgroupTest("is not attached twice", () => {
    using attached = new Attached();
    const { program } = attached.attach({ method: "attach" });
    expect(() => program.attach({ cgroup: attached.cgroup.path, method: "attach" })).toThrow(
      /EINVAL .*The program is attached to this cgroup already/,
    );
  });

  cgroupTest("stays attached after disposal of the program", () => {
    using attached = new Attached();
    const { program, link, id } = attached.attach({ method: "attach" });
    program[Symbol.dispose]();
    expect(attached.ids()).toEqual([id]);
    link[Symbol.dispose]();
    expect(attached.ids()).toEqual([]);
  });
});

for (const method of ["link", "attach"] as const) {
  linkTest(`attaching and detaching repeatedly leaves nothing (method ${method})`, async () => {
    using attached = new Attached();
    using program = allow();
    const before = await settledResources();
    const descriptors = readdirSync("/proc/self/fd").length;
    for (let round = repetitions(10_000, 100); round > 0; round--) {
      using _link = program.attach({ cgroup: attached.cgroup.path, method });
    }
    expect(attached.ids()).toEqual([]);
    expect(countResources()).toEqual(before);
    expect(readdirSync("/proc/self/fd")).toHaveLength(descriptors);
  });
}

linkTest("a link of a removed cgroup is not attached any more", async () => {
  using stack = new DisposableStack();
  using attached = new Attached();
  const path = attached.cgroup.makeChild("removed");
  using program = allow();
  const link = stack.use(program.attach({ cgroup: path }));
  const direct = stack.use(program.attach({ cgroup: path, method: "attach" }));
  rmdirSync(path);
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; await Bun.sleep(10)) {
    if ((link.info() as { cgroupId?: bigint }).cgroupId === undefined) break;
  }
  expect(link.info()).toMatchObject({ cgroupId: undefined });
  direct.detach();
});
