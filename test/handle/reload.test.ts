/** Scripts under `bun --hot`: a reload disposes of everything that the old code has opened and not kept. */
import { describe, expect } from "bun:test";
import { join } from "node:path";
import { RingBuf, t } from "../../src/index.ts";
import { Producer } from "../ring/producer.ts";
import { HotScript } from "../support/hot_script.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot } from "../support/run.ts";

const event = t.u32;

/** The code at the start of each script. */
const prelude = `
import { readdirSync, readlinkSync } from "node:fs";
import * as bpf from ${JSON.stringify(join(packageRoot, "src/index.ts"))};
const { asm, ArrayMap, BpfFileSystem, HashMap, keepAcrossReloads, Program, RingBuf, t } = bpf;
// begin
/** Counts the open descriptors of a kind. */
const open = (kind: RegExp) =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return kind.test(readlinkSync("/proc/self/fd/" + fd));
    } catch {
      return false; // the descriptor of the listing itself
    }
  }).length;
const objects = () => ({ maps: open(/^anon_inode:bpf-map/), programs: open(/^anon_inode:bpf-prog/), links: open(/^anon_inode:bpf.link/) });
const kept = globalThis as any;
const attach = () =>
  new Program({
    section: "raw_tp/sched_process_exec",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  }).attach();
`;

/** Creates a ring that a script opens by its id, and a program that writes to it. */
function sharedRing(): { ring: RingBuf<typeof event>; producer: Producer } & Disposable {
  const ring = new RingBuf({ size: 65_536, event });
  const producer = new Producer(ring);
  return {
    ring,
    producer,
    [Symbol.dispose]() {
      producer[Symbol.dispose]();
      ring[Symbol.dispose]();
    },
  };
}

describe("after a reload", () => {
  bpfTest("only the new subscription reads a ring", async () => {
    using shared = sharedRing();
    await using script = new HotScript(`${prelude}
      const ring = RingBuf.fromId(${shared.ring.id}, { event: t.u32 });
      ring.subscribe((value) => report({ value }));
      report({ ready: true });
    `);
    const putAll = async (first: number, last: number) => {
      for (let value = first; value <= last; value++) {
        shared.producer.putNumber(value);
        // In small batches, so that many wake the consumer.
        if (value % 10 === 0) await Bun.sleep(1);
      }
      await script.waitFor(({ value }) => value === last);
    };
    await script.waitFor(({ ready }) => ready === true);
    await putAll(1, 30);
    const { evaluation: second } = await script.save();
    await putAll(101, 400);
    const { evaluation: third } = await script.save();
    await putAll(501, 530);
    const delivered = script.reports.filter(({ value }) => value !== undefined);
    const numbers = (first: number, last: number) =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index);
    expect(delivered.map(({ value }) => value)).toEqual([
      ...numbers(1, 30),
      ...numbers(101, 400),
      ...numbers(501, 530),
    ]);
    // On a slow machine one save can cause two reloads.
    const wrong = delivered.filter(
      ({ value, evaluation }) =>
        evaluation < (Number(value) > 500 ? third : Number(value) > 100 ? second : 1),
    );
    expect(wrong).toEqual([]);
  });

  bpfTest(
    "links are detached and all other objects are closed, also while they are in use",
    async () => {
      await using script = new HotScript(`${prelude}
      const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "counts" });
      const array = new ArrayMap({ value: t.u32, length: 4, mmap: true });
      const { view } = array;
      new BpfFileSystem();
      attach();
      const ring = new RingBuf({ size: 4096, event: t.u32 });
      void (async () => {
        for await (const _event of ring);
        report({ over: "iteration" });
      })();
      // A constructor that fails because the memory cannot be mapped leaves an object that a reload has to tolerate.
      try {
        RingBuf.fromId(ring.id, { event: t.u32, flags: ["rdonly"] });
      } catch ({ code }) {
        if (code !== "EACCES") throw new Error("the construction failed too early: " + code);
      }
      const old = kept.old;
      kept.old = { map, view };
      let error: unknown;
      try {
        old?.map.get(1);
      } catch ({ name, message }) {
        error = { name, message };
      }
      report({ ready: true, ...objects(), length: old?.view.buffer.byteLength, error });
    `);
      const first = await script.waitFor(({ ready }) => ready === true);
      const { maps, programs, links } = first;
      expect({ maps, programs, links }).toEqual({ maps: 3, programs: 1, links: 1 });
      for (let round = 0; round < 2; round++) {
        expect(await script.save()).toMatchObject({
          ...{ maps, programs, links, length: 0 },
          error: {
            name: "DisposedError",
            message:
              'hash map "counts" of code that bun --hot has replaced (see keepAcrossReloads) is disposed: it cannot be used any more',
          },
        });
        await script.waitFor(
          ({ evaluation, over }) => evaluation === round + 1 && over === "iteration",
        );
      }
      expect(await script.end()).toBe("");
    },
  );

  bpfTest("kept objects stay open, and their consumers end", async () => {
    using shared = sharedRing();
    await using script = new HotScript(`${prelude}
      const map = (kept.map ??= keepAcrossReloads(
        new HashMap({ key: t.u32, value: t.u32, maxEntries: 64 }),
      ));
      map.set(evaluation, 1);
      keepAcrossReloads((kept.link ??= keepAcrossReloads(attach())));
      const ring = (kept.ring ??= keepAcrossReloads(
        RingBuf.fromId(${shared.ring.id}, { event: t.u32 }),
      ));
      ring.subscribe((value) => report({ value }));
      report({ ready: true, keys: [...map.keys()].sort(), links: objects().links, id: kept.link.id });
    `);
    const { id } = await script.waitFor(({ ready }) => ready === true);
    for (let value = 1; value <= 2; value++) {
      const { evaluation, keys, links, id: same } = await script.save();
      expect(keys).toHaveLength(evaluation);
      expect([links, same]).toEqual([1, id]);
      shared.producer.putNumber(value);
      const report = await script.waitFor((each) => each.value === value);
      expect(report.evaluation).toBeGreaterThanOrEqual(evaluation);
    }
    expect(await script.end()).toBe("");
  });

  bpfTest("a subscription that was kept with its ring continues", async () => {
    using shared = sharedRing();
    await using script = new HotScript(`${prelude}
      if (evaluation === 1) {
        const ring = keepAcrossReloads(RingBuf.fromId(${shared.ring.id}, { event: t.u32 }));
        keepAcrossReloads(ring.subscribe((value) => report({ value })));
      }
      report({ ready: true });
    `);
    await script.waitFor(({ ready }) => ready === true);
    await script.save();
    shared.producer.putNumber(7);
    expect(await script.waitFor(({ value }) => value === 7)).toMatchObject({ evaluation: 1 });
  });
});
