/** Tests of the errors of attaching to cgroups, and of the errors without capabilities. */
import { describe, expect } from "bun:test";
import {
  closeSync,
  globSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  asm,
  attachedPrograms,
  type AttachedTarget,
  BpfError,
  features,
  Program,
} from "../../src/index.ts";
import { TestCgroup } from "../support/cgroups.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";

const cgroupTest = testWith(features.attachKinds.get("cgroup/bind4"));

function allow(): Program<"cgroup/bind4"> {
  return new Program({
    section: "cgroup/bind4",
    license: "GPL",
    code: [asm.mov(asm.r0, 1), asm.exit()],
  });
}

const methods = ["link", "attach"] as const;

describe("attaching to a cgroup is refused with a hint for", () => {
  cgroupTest("a path that does not exist, with a similar name", () => {
    using cgroup = new TestCgroup();
    using program = allow();
    const child = cgroup.makeChild("database");
    try {
      expect(() => program.attach({ cgroup: `${cgroup.path}/databse` })).toThrow(
        /cannot open the cgroup .*databse: open: ENOENT .*There is no such cgroup: did you mean "database"\?/,
      );
      expect(() => program.attach({ cgroup: `${cgroup.path}/x/y` })).toThrow(
        /ENOENT .*mkdir creates one/,
      );
    } finally {
      rmdirSync(child);
    }
  });

  cgroupTest("a file, and a directory of another file system", () => {
    using program = allow();
    const folder = mkdtempSync(join(tmpdir(), "cgroup-"));
    try {
      writeFileSync(join(folder, "file"), "");
      expect(() => program.attach({ cgroup: join(folder, "file") })).toThrow(
        /ENOTDIR .*A cgroup is a directory of the cgroup2 file system/,
      );
      for (const method of methods) {
        expect(() => program.attach({ cgroup: folder, method })).toThrow(
          /cannot attach to the cgroup .*\(cgroup_inet4_bind\): .*: EBADF .*This is not a cgroup: pass a directory of the cgroup2/,
        );
      }
      expect(() => attachedPrograms({ cgroup: folder, attachType: "cgroup_inet4_bind" })).toThrow(
        /cannot list the programs of the cgroup .*EBADF .*This is not a cgroup: pass a directory of the cgroup2/,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  const [version1] = globSync("/sys/fs/cgroup/*/cgroup.clone_children");
  testUnless(
    bpfObstacle ?? (version1 === undefined ? "no cgroups of version 1 are mounted" : undefined),
  )("a cgroup of version 1", () => {
    using program = allow();
    expect(() => program.attach({ cgroup: dirname(version1 as string) })).toThrow(
      /EBADF .*The cgroup is one of version 1, which cannot have programs/,
    );
  });

  cgroupTest("a cgroup that was removed", () => {
    using cgroup = new TestCgroup();
    using program = allow();
    const path = cgroup.makeChild("removed");
    const fd = openSync(path, "r");
    try {
      rmdirSync(path);
      for (const method of methods) {
        expect(() => program.attach({ cgroup: fd, method })).toThrow(
          /ENOENT .*The cgroup was removed/,
        );
      }
    } finally {
      closeSync(fd);
    }
  });

  cgroupTest("a program that was loaded for another attach type", () => {
    using cgroup = new TestCgroup();
    using program = allow();
    for (const method of methods) {
      expect(() => program.attachAs("cgroup/connect4", { cgroup: cgroup.path, method })).toThrow(
        /EINVAL .*it was loaded for another attach type than cgroup_inet4_connect/,
      );
    }
  });

  cgroupTest("more than 64 programs", () => {
    using cgroup = new TestCgroup();
    using program = allow();
    using stack = new DisposableStack();
    const attach = () => stack.use(program.attach({ cgroup: cgroup.path }));
    for (let count = 0; count < 64; count++) attach();
    expect(attach).toThrow(/E2BIG .*at most 64 programs/);
  });

  cgroupTest("an argument of the wrong form", () => {
    using program = allow();
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach()).toThrow(
      'expected a cgroup (path or descriptor) as option "cgroup"',
    );
    expect(() => program.attach({ cgroup: "" })).toThrow('expected the path of a cgroup, got ""');
    expect(() => program.attach({ cgroup: -1 })).toThrow("a descriptor from 0");
    expect(() => program.attach({ cgroup: 1023 })).toThrow("EBADF");
    for (const [target, message] of [
      [{ cgroup: "/", attachType: "cgroup_inet4_bnd" }, 'did you mean "cgroup_inet4_bind"?'],
      [{}, "expected one of the options interface, cgroup, netns and map"],
      [{ cgroup: "/", attachType: "sockops" }, "unknown attachType"],
      [{ cgroup: "/", attachType: "cgroup_device", netns: 1 }, 'unknown option "netns"'],
      [undefined, "expected an object, got undefined"],
    ] as const) {
      expect(() => attachedPrograms(target as AttachedTarget)).toThrow(message);
    }
  });

  cgroupTest("a hook that cgroups do not have", () => {
    using cgroup = new TestCgroup();
    expect(() => attachedPrograms({ cgroup: cgroup.path, attachType: "xdp" })).toThrow(BpfError);
  });
});

cgroupTest("a process without capabilities is told which ones it lacks", async () => {
  using cgroup = new TestCgroup();
  const child = join(import.meta.dir, "children/attach_unprivileged.ts");
  const { stdout, stderr } = await runBun([child, cgroup.path.replace("self", `${process.pid}`)]);
  const messages: Record<string, string> = JSON.parse(stdout || "{}");
  expect(stderr).toBe("");
  // Attaching a loaded program to other places is allowed to any process on newer kernels.
  for (const way of [
    ...["cgroup by link", "cgroup by attach", "programs of a cgroup", "query of a cgroup"],
  ]) {
    expect(Object.keys(messages)).toContain(way);
  }
  for (const [way, message] of Object.entries(messages)) {
    expect(message, way).toMatch(/(EPERM|EINVAL) .*This process lacks .*CAP_NET_ADMIN/);
  }
});
