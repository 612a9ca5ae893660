/** Ends processes by SIGKILL while programs are attached: nothing stays attached, except what was pinned or has no link. */
import type { Subprocess } from "bun";
import { describe, expect } from "bun:test";
import { rmdirSync, unlinkSync } from "node:fs";
import { mountCgroups } from "../../src/features/attach_probes.ts";
import { inNewNetworkNamespace, openNetworkNamespace } from "../../src/ffi/namespace.ts";
import { BpfFileSystem, features, listLinks, listPrograms } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot } from "../support/run.ts";
import { type Attached, ways } from "./all_ways.ts";
import { eventually } from "./eventually.ts";

const timeoutMs = 300_000;

function start(child: string, ...args: readonly string[]): Subprocess<"ignore", "pipe", "inherit"> {
  const command = [process.execPath, `test/link/children/${child}`, ...args];
  return Bun.spawn(command, { cwd: packageRoot, stdout: "pipe", stderr: "inherit" });
}

/** Kills a child that has printed a line. Calls a function with the line before. */
async function kill(
  child: ReturnType<typeof start>,
  whileAttached: (line: string) => void,
): Promise<void> {
  try {
    whileAttached(await firstLine(child.stdout));
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
}

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true });
    if (text.includes("\n")) return text.split("\n")[0] ?? "";
  }
  throw new Error("the child ended before it had attached its programs");
}

function programIds(): Set<number> {
  return new Set(Array.from(listPrograms(), ({ id }) => id));
}

function linkIds(): Set<number> {
  return new Set(Array.from(listLinks(), ({ id }) => id));
}

/** Returns the ways whose program or link is still in the kernel. */
function kindsLeft(attached: readonly Attached[]): string[] {
  const [programs, links] = [programIds(), linkIds()];
  return attached
    .filter(({ programId, linkId }) => programs.has(programId) || links.has(linkId ?? 0))
    .map(({ kind }) => kind);
}

bpfTest(
  "SIGKILL detaches all programs, except those on cgroups that were attached without a link",
  async () => {
    const kinds = ways.map(({ kind }) => kind);
    const available = kinds.filter((kind) => features.attachKinds.get(kind).available);
    expect(available).toContain("raw_tp");
    let attached: readonly Attached[] = [];
    await kill(start("attach_and_wait.ts", ...available), (line) => {
      attached = JSON.parse(line) as Attached[];
      expect(attached.map(({ kind }) => kind)).toEqual(available);
      const [programs, links] = [programIds(), linkIds()];
      for (const { kind, programId, linkId } of attached) {
        expect(programs.has(programId), kind).toBe(true);
        if (linkId !== undefined) expect(links.has(linkId), kind).toBe(true);
      }
    });
    const left = () => kindsLeft(attached);
    const onCgroups = attached.filter(
      ({ linkId, cgroup }) => linkId === undefined && cgroup !== undefined,
    );
    const survivors = onCgroups.map(({ kind }) => kind);
    await eventually(() => left().length === survivors.length);
    expect(left()).toEqual(survivors);
    // The kernel detaches these when their cgroup is removed.
    using mount = mountCgroups();
    for (const { cgroup } of attached) {
      if (cgroup !== undefined) rmdirSync(`${mount.path}/${cgroup}`);
    }
    await eventually(() => left().length === 0);
    expect(left()).toEqual([]);
  },
  timeoutMs,
);

bpfTest("a pinned link stays attached after SIGKILL", async () => {
  using bpffs = new BpfFileSystem();
  // The path is valid in this process only.
  const path = `${bpffs.path.replace("/self/", `/${process.pid}/`)}/link`;
  let linkId = 0;
  await kill(start("pin_and_wait.ts", path), (line) => {
    linkId = Number(line);
    expect(linkIds()).toContain(linkId);
  });
  // Longer than the kernel needs to detach a program whose link is not pinned.
  await Bun.sleep(200);
  expect(linkIds()).toContain(linkId);
  unlinkSync(path);
  expect(await eventually(() => !linkIds().has(linkId))).toBe(true);
});

describe("in a network namespace that stays, SIGKILL", () => {
  for (const { kind, row } of ways) {
    if (row.place !== "loopback" && row.place !== "own netns") continue;
    testWith(features.attachKinds.get(kind))(
      `detaches a program that was attached by ${kind} only if it has a link`,
      async () => {
        const { netns, child } = inNewNetworkNamespace(() => ({
          netns: openNetworkNamespace(),
          child: start("attach_here.ts", kind),
        }));
        const attached: Attached[] = [];
        {
          using _netns = netns;
          await kill(child, (line) => attached.push(JSON.parse(line) as Attached));
          const survivors = attached
            .filter(({ linkId }) => linkId === undefined)
            .map(({ kind }) => kind);
          await eventually(() => kindsLeft(attached).length === survivors.length);
          // Longer than the kernel needs to detach a program whose link is closed.
          await Bun.sleep(200);
          expect(kindsLeft(attached)).toEqual(survivors);
        }
        // The kernel removes the interfaces with their programs.
        await eventually(() => kindsLeft(attached).length === 0);
        expect(kindsLeft(attached)).toEqual([]);
      },
      timeoutMs,
    );
  }
});
