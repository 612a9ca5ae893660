import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { asm, HashMap, objectOwners, Program, t } from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";

describe("objectOwners()", () => {
  bpfTest("finds the descriptors of this process", () => {
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    using again = map.dup();
    using program = new Program({
      section: "raw_tp/sched_process_exec",
      license: "GPL",
      maps: { map },
      code: [asm.ldMap(asm.r1, "map"), asm.mov(asm.r0, 0), asm.exit()],
    });
    using link = program.attach();
    const { maps, programs, links } = objectOwners();
    const comm = readFileSync("/proc/self/comm", "utf8").trimEnd();
    const own = (fd: number) => ({ pid: process.pid, comm, fd });
    const descriptors = [map.fd, again.fd].sort((a, b) => a - b);
    expect(maps.get(map.id)).toEqual(descriptors.map(own));
    expect(programs.get(program.info().id)).toEqual([own(program.fd)]);
    expect(links.get(link.info().id)).toEqual([own(link.fd)]);
  });

  bpfTest("finds the descriptors of other processes, with any name", async () => {
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "children/odd_owner.ts")], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    try {
      const { value } = await child.stdout.getReader().read();
      const id = Number(new TextDecoder().decode(value));
      expect(id).toBeGreaterThan(0);
      expect(objectOwners().maps.get(id)).toEqual([
        { pid: child.pid, comm: "odd) \n(name", fd: expect.any(Number) },
      ]);
      child.kill("SIGKILL");
      await child.exited;
      expect(objectOwners().maps.get(id)).toBeUndefined();
    } finally {
      child.kill("SIGKILL");
    }
  });

  bpfTest("finds no owner of an object that only another object holds", () => {
    const map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    const { id } = map;
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { map },
      code: [asm.ldMap(asm.r1, "map"), asm.mov(asm.r0, 0), asm.exit()],
    });
    map[Symbol.dispose]();
    expect(program.info().mapIds).toEqual([id]);
    expect(objectOwners().maps.get(id)).toBeUndefined();
  });

  bpfTest("works while processes start and end, and leaves nothing open", async () => {
    const stdio = ["ignore", "ignore", "ignore"] as const;
    const before = openKernelObjects();
    const children = Array.from({ length: 20 }, () => {
      const child = Bun.spawn(["/bin/true"], { stdio: [...stdio] });
      expect(objectOwners().hidden).toBeGreaterThanOrEqual(0);
      return child.exited;
    });
    await Promise.all(children);
    expect(openKernelObjects()).toEqual(before);
  });
});
