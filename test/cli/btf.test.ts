/** Tests of `bun-bpf btf`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asm, Btf, HashMap, Program, t } from "../../src/index.ts";
import { bpftoolObstacle } from "../support/bpftool.ts";
import { commandObstacle } from "../support/commands.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { hostObstacle, testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const kernelObstacle = ((): string | undefined => {
  try {
    Btf.kernel();
    return bpfObstacle;
  } catch (error) {
    return (error as Error).message;
  }
})();
const kernelTest = testUnless(kernelObstacle);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "btf-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface ListedBtf {
  readonly id: number;
  readonly name: string;
  readonly mapIds: readonly number[];
}

const value = t.struct({ pid: t.u32, comm: t.cstring(16) });

describe("btf list", () => {
  bpfTest("prints a line for each BTF, with the maps that have it", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 1 });
    const { btfId } = map.info();
    const lines = (await cliText(["btf", "list"])).trimEnd().split("\n");
    expect(lines[0]?.trim().split(/\s+/)).toEqual(["ID", "NAME", "SIZE", "PROGRAMS", "MAPS"]);
    const line = lines.find((text) => text.trimStart().startsWith(`${btfId} `));
    expect(line).toMatch(new RegExp(`^ *${btfId}  - +\\d+ B  - +${map.id}$`));
    const listed = await cliJson<ListedBtf[]>(["btf", "list"]);
    expect(listed.find(({ id }) => id === btfId)).toMatchObject({
      name: "",
      isKernel: false,
      programIds: [],
      mapIds: [map.id],
    });
  });

  kernelTest("includes the kernel's BTF", async () => {
    const listed = await cliJson<ListedBtf[]>(["btf", "list"]);
    // BTFs have names since kernel 5.11.
    for (const { id, name } of listed) if (name === "vmlinux") expect(id).toBeGreaterThan(0);
  });
});

describe("btf dump", () => {
  bpfTest("prints the types of a map as C, by the map's name and by the BTF id", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 1, name: "cli_typed" });
    const { btfId, btfValueTypeId } = map.info();
    const [dumped, byId] = await Promise.all([
      cli(["btf", "dump", "map:cli_typed"]),
      cli(["btf", "dump", btfId]),
    ]);
    expect(byId).toEqual(dumped);
    // All types of this map are anonymous.
    expect(dumped.stderr).toBe("this BTF has no types with names: --json prints all types\n");
    const byMap = dumped.stdout;
    expect(byMap).toStartWith("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n");
    expect(byMap).toEndWith("#endif /* __VMLINUX_H__ */\n");
    const types = await cliJson<{ id: number }[]>(["btf", "dump", btfId]);
    expect(types.map(({ id }) => id)).toEqual(types.map((_, index) => index + 1));
    expect(types[btfValueTypeId - 1]).toMatchObject({
      kind: "struct",
      size: 20,
      members: [{ name: "pid" }, { name: "comm", bitOffset: 32 }],
    });
  });

  kernelTest("prints a type and the types that it needs", async () => {
    expect(await cliText(["btf", "dump", "vmlinux", "--type", "struct list_head"])).toBe(
      "struct list_head {\n    struct list_head *next;\n    struct list_head *prev;\n};\n\n",
    );
    const text = await cliText(["btf", "dump", "name:vmlinux", "--type", "hrtimer_restart"]);
    expect(text).toMatch(/^enum hrtimer_restart \{\n    HRTIMER_NORESTART = 0,\n/);
  });

  bpfTest("prints an error that names what is missing", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 1, name: "cli_typed" });
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    for (const [args, message] of [
      [["map:cli_typed", "--type", "evnt"], 'there is no type "evnt" in this BTF'],
      [["no_module"], 'there is no BTF of a module with the name "no_module": '],
      [["map:no_map"], 'there is no map with the name "no_map": '],
      [[`prog:id:${program.id}`], `the program ${program.id} has no BTF`],
      [[4294967295], "cannot open the btf with id 4294967295: "],
      [["./absent"], "ENOENT"],
    ] as const) {
      const { stdout, stderr, exitCode } = await cli(["btf", "dump", ...args]);
      expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: 1 });
      expect(stderr).toContain(message);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
    expect((await cli(["btf", "dump", ""])).exitCode).toBe(2);
    expect(map.count()).toBe(0);
  });

  testUnless(kernelObstacle ?? hostObstacle ?? commandObstacle("cc"))(
    "prints a header of the kernel's types that compiles, with all members at their offsets",
    async () => {
      const header = join(folder, "vmlinux.h");
      await Bun.write(header, await cliText(["btf", "dump", "vmlinux"]));
      const checks = assertionsOf(Btf.kernel());
      expect(checks.length).toBeGreaterThan(10_000);
      const source = join(folder, "check.c");
      await Bun.write(source, `#include "vmlinux.h"\n${checks.join("")}`);
      const compiler = ["cc", "-std=gnu11", "-fsyntax-only", "-w", source];
      expect(await run(compiler)).toMatchObject({ stdout: "", stderr: "", exitCode: 0 });
    },
  );

  testUnless(kernelObstacle ?? hostObstacle ?? bpftoolObstacle)(
    "prints the same definitions as bpftool",
    async () => {
      const header = await cliText(["btf", "dump", "vmlinux"]);
      const theirs = await run([
        "bpftool",
        "btf",
        "dump",
        "file",
        "/sys/kernel/btf/vmlinux",
        "format",
        "c",
      ]);
      const definitions = (text: string) =>
        new Set(
          [...text.matchAll(/^((?:struct|union|enum) \w+) \{|^typedef .*?(\w+);$/gm)]
            .map(([, tag, alias]) => tag ?? alias)
            .filter((name) => !/___\d+$/.test(name ?? "")),
        );
      const [ours, bpftools] = [definitions(header), definitions(theirs.stdout)];
      expect([...bpftools.difference(ours)]).toEqual([]);
      expect([...ours.difference(bpftools)]).toEqual([]);
    },
  );
});

/** Makes static assertions in C about the sizes and offsets of structs and unions with unique names. */
function assertionsOf(btf: Btf): string[] {
  const tags = new Map<string, number>();
  for (const kind of ["struct", "union", "enum", "enum64"] as const) {
    for (const id of btf.ids(kind)) {
      const { name } = btf.type(id);
      tags.set(name, (tags.get(name) ?? 0) + 1);
    }
  }
  return (["struct", "union"] as const).flatMap((kind) =>
    [...btf.ids(kind)].flatMap((id) => {
      const { name, size } = btf.type(id);
      if (name === "" || tags.get(name) !== 1) return [];
      const type = `${kind} ${name}`;
      const places = btf.members(id).filter((member) => member.name !== "" && member.bitSize === 0);
      return [
        `_Static_assert(sizeof(${type}) == ${size}, "${name}");\n`,
        ...places.map(
          (member) =>
            `_Static_assert(__builtin_offsetof(${type}, ${member.name}) == ${member.bitOffset / 8}, "${name}.${member.name}");\n`,
        ),
      ];
    }),
  );
}
