import { describe, expect } from "bun:test";
import { existsSync, readdirSync, unlinkSync } from "node:fs";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { DisposedError, HashMap, t, features } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { execCounter, countChildExecs } from "./exec_counter.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";
import { wayTest } from "./way.ts";

/**
 * The ways to attach: the name, the section of the program, the type of the link, and the number of repetitions. Closing a perf
 * event waits for grace periods of the kernel, about 70 ms.
 */
const kinds = [
  ["raw_tp", "raw_tp/sched_process_exec", "raw_tracepoint", repetitions(1000)],
  ["tp_btf", "tp_btf/sched_process_exec", "raw_tracepoint", repetitions(1000)],
  ["tp", "tp/sched/sched_process_exec", "perf_event", repetitions(20, 5)],
] as const;

/** Returns the test function for features of links, which perf events do not have on older kernels. */
function linkTest(type: string): typeof bpfTest {
  const { attachKinds } = features;
  return type === "perf_event" ? testWith(attachKinds.get("perf_event_link")) : bpfTest;
}

for (const [kind, section, type, rounds] of kinds) {
  describe(section, () => {
    wayTest(kind, async () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      using program = execCounter(section, counts);
      expect(await countChildExecs(counts)).toBe(0);
      {
        using link = program.attach();
        expect(await countChildExecs(counts)).toBe(1);
        expect(link.disposed).toBe(false);
      }
      expect(await countChildExecs(counts)).toBe(0);
    });

    linkTest(type)("describes itself", () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      using program = execCounter(section, counts);
      using link = program.attach();
      const info = link.info();
      expect(info).toMatchObject({ type, programId: program.info().id });
      expect(info.id).toBeGreaterThan(0);
      expect(`${link}`).toEndWith(`link to ${section.slice(section.indexOf("/") + 1)}`);
    });

    bpfTest("stays attached after disposal of the program and garbage collection", async () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      const attach = () => {
        using program = execCounter(section, counts);
        program.attach();
      };
      const before = openDescriptors();
      attach();
      // The link object is unreachable from here on; only its descriptors are left.
      const left = openDescriptors().difference(before);
      for (let round = 0; round < 5; round++) Bun.gc(true);
      expect(await countChildExecs(counts)).toBe(1);
      for (const fd of left) new Descriptor(Number(fd), "lost link")[Symbol.dispose]();
      expect(await countChildExecs(counts)).toBe(0);
    });

    linkTest(type)("stays attached while it is pinned", async () => {
      using bpffs = new DetachedMount("bpf");
      const path = `${bpffs.path}/link`;
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      using program = execCounter(section, counts);
      const link = program.attach();
      expect(() => link.unpin()).toThrow("was not pinned by this object: pass the path to unpin()");
      expect(link.pin(path)).toBe(link);
      expect(link.unpin()).toBe(true);
      expect(existsSync(path)).toBe(false);
      expect(link.unpin()).toBe(false);
      link.pin(path);
      link[Symbol.dispose]();
      expect(await countChildExecs(counts)).toBe(1);
      expect(() => link.unpin()).toThrow(DisposedError);
      unlinkSync(path);
      // The kernel detaches the program a grace period after the last pin and descriptor are gone.
      await Bun.sleep(50);
      expect(await countChildExecs(counts)).toBe(0);
    });

    linkTest(type)("rejects update() and detach() with a hint", () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      using program = execCounter(section, counts);
      using link = program.attach();
      expect(() => link.update(program)).toThrow(
        /bpf\(BPF_LINK_UPDATE\): EINVAL.*attach the new program and dispose of this link/,
      );
      expect(() => link.detach()).toThrow(
        /bpf\(BPF_LINK_DETACH\): EOPNOTSUPP.*dispose of the link and remove its pins/,
      );
    });

    bpfTest("leaves nothing open after repeated attaching and disposal", async () => {
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      using program = execCounter(section, counts);
      const before = await settledResources();
      const descriptors = openDescriptors().size;
      for (let round = 0; round < rounds; round++) {
        using _link = program.attach();
      }
      expect(countResources()).toEqual(before);
      expect(openDescriptors().size).toBe(descriptors);
    });
  });
}

/** Returns the open file descriptors of this process. */
function openDescriptors(): Set<string> {
  return new Set(readdirSync("/proc/self/fd"));
}
