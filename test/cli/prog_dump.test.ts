/** Tests of `bun-bpf prog dump`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asm, HashMap, Program, t } from "../../src/index.ts";
import { bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const { r0, r1, r2, fp } = asm;
const at = (line: number, text: string) => ({ file: "dumped.ts", line, text });

let map: HashMap<t.Type<number>, t.Type<number>>;
let program: Program;
let folder = "";

beforeAll(() => {
  if (bpfObstacle !== undefined) return;
  folder = mkdtempSync(join(tmpdir(), "prog-dump-"));
  map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  program = new Program({
    section: "socket",
    license: "GPL",
    name: "cli_dumped",
    maps: { map },
    code: [
      asm.withSource(asm.stw(fp, -4, 0), at(3, "let key = 0;")),
      asm.ldMap(r1, "map"),
      asm.mov(r2, fp),
      asm.add(r2, -4),
      asm.withSource(asm.call("map_lookup_elem"), at(4, "map.get(key);")),
      asm.withSource(asm.callFunction("seven"), at(5, "return seven();")),
      asm.exit(),
      asm.func("seven"),
      asm.withSource(asm.mov(r0, 7), at(9, "return 7;")),
      asm.exit(),
    ],
  });
});

afterAll(() => {
  program?.[Symbol.dispose]();
  map?.[Symbol.dispose]();
  if (folder !== "") rmSync(folder, { recursive: true });
});

/** The JSON output of the command. */
interface Dumped {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly functions: readonly {
    readonly name: string;
    readonly declaration?: string;
    readonly slot?: number;
    readonly address?: string;
    readonly bytes?: string;
    readonly lines?: readonly { readonly offset: number; readonly source: { line: number } }[];
    readonly instructions?: readonly {
      readonly slot: number;
      readonly bytes: string;
      readonly text: string;
      readonly source?: { readonly line: number };
    }[];
  }[];
}

describe("xlated", () => {
  bpfTest(
    "prints the instructions of each function after its declaration, with lines",
    async () => {
      const text = await cliText(["prog", "dump", "xlated", program.id]);
      const [main = "", seven = ""] = text.split("\n\n");
      expect(main).toMatch(/^int \w+\(.*\):\n; let key = 0; @ dumped\.ts:3\n {3}0: \(62\) /);
      expect(main).toContain(`\n   1: (18) r1 = map[id:${map.id}]\n   3: (bf) r2 = r10\n`);
      expect(main).toContain("; map.get(key); @ dumped.ts:4\n");
      expect(main).toMatch(/; return seven\(\); @ dumped\.ts:5\n +\d+: \(85\) call seven\n/);
      expect(seven).toMatch(
        /^int seven\(void\):\n; return 7; @ dumped\.ts:9\n +\d+: \(b7\) r0 = 7\n +\d+: \(95\) exit\n$/,
      );
    },
  );

  bpfTest("prints only a function, its bytes, and no lines, if asked for", async () => {
    const options = ["--function", "seven", "--opcodes", "--no-lines"];
    const text = await cliText(["prog", "dump", "xlated", program.id, ...options]);
    expect(text.replace(/^ *\d+/gm, "#")).toBe(
      "int seven(void):\n#: b7 00 00 00 07 00 00 00 r0 = 7\n#: 95 00 00 00 00 00 00 00 exit\n",
    );
  });

  bpfTest("prints slots, bytes, texts and lines as JSON", async () => {
    const { functions, ...described } = await cliJson<Dumped>([
      ...["prog", "dump", "xlated", program.id],
    ]);
    const { id, name, type } = program;
    expect(described).toEqual({ id, name, type });
    const [main, seven] = functions;
    expect(main?.instructions?.slice(0, 3)).toMatchObject([
      { slot: 0, opcode: 0x62, bytes: "620afcff00000000", source: at(3, "let key = 0;") },
      { slot: 1, opcode: 0x18, text: `r1 = map[id:${map.id}]` },
      { slot: 3, opcode: 0xbf, text: "r2 = r10" },
    ]);
    expect(seven).toMatchObject({ name: "seven", declaration: "int seven(void)" });
    expect(seven?.instructions?.[0]).toMatchObject({ slot: seven?.slot, text: "r0 = 7" });
  });

  testUnless(bpfObstacle ?? bpftoolObstacle)("prints the same bytes as bpftool", async () => {
    const path = join(folder, "xlated");
    await run(["bpftool", "prog", "dump", "xlated", "id", `${program.id}`, "file", path]);
    const { functions } = await cliJson<Dumped>(["prog", "dump", "xlated", program.id]);
    const ours = functions.flatMap((one) => one.instructions ?? []).map(({ bytes }) => bytes);
    expect(ours.join("")).toBe(readFileSync(path).toString("hex"));
  });
});

/** Returns the machine code as JSON; `undefined` where the kernel interprets programs. */
async function machineCode(): Promise<Dumped | undefined> {
  if (program.info().jitedSize > 0) return cliJson<Dumped>(["prog", "dump", "jited", program.id]);
  const { stderr, exitCode } = await cli(["prog", "dump", "jited", program.id]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("the sysctl net.core.bpf_jit_enable=1");
  return undefined;
}

describe("jited", () => {
  bpfTest("prints the bytes of each function with addresses and lines", async () => {
    const dumped = await machineCode();
    if (dumped === undefined) return;
    const text = await cliText(["prog", "dump", "jited", program.id]);
    for (const { declaration, address, bytes, lines = [] } of dumped.functions) {
      expect(text).toContain(`${declaration}:\n`);
      expect(text).toContain(`\n${address}: `);
      expect(lines.length).toBeGreaterThan(0);
      for (const { source } of lines) expect(text).toContain(` @ dumped.ts:${source.line}\n`);
      const start = text.indexOf(`${declaration}:\n`);
      const end = text.indexOf("\n\n", start);
      const body = text.slice(start, end === -1 ? undefined : end);
      const printed = [...body.matchAll(/^0x[0-9a-f]+: (.*)$/gm)].map(([, hex = ""]) => hex);
      expect(printed.join("").replaceAll(" ", "")).toBe(bytes ?? "");
    }
  });

  bpfTest("prints the machine code of one function as it is with --raw", async () => {
    const dumped = await machineCode();
    if (dumped === undefined) return;
    for (const { name, bytes } of dumped.functions) {
      const args = ["prog", "dump", "jited", `${program.id}`, "--raw", "--function", name];
      const child = Bun.spawn([process.execPath, mainFile, ...args], { stdout: "pipe" });
      expect((await child.stdout.bytes()).toHex()).toBe(bytes ?? "");
    }
    const { stderr, exitCode } = await cli(["prog", "dump", "jited", program.id, "--raw"]);
    expect({ stderr, exitCode }).toEqual({
      stderr: `bun-bpf: --raw prints one function: name one of ${dumped.functions.map(({ name }) => name).join(", ")} with --function\n`,
      exitCode: 2,
    });
  });
});

describe("an error names", () => {
  bpfTest("the mistake", async () => {
    const { id } = program;
    for (const [args, status, message] of [
      [["xlatd", id], 2, "Allowed choices are xlated, jited."],
      [["xlated", id, "--raw"], 2, "--raw is only for `prog dump jited`"],
      [["jited", id, "--opcodes"], 2, "--opcodes is only for `prog dump xlated`"],
      [["jited", id, "--raw", "--json"], 2, "--json and --raw exclude each other"],
      [["xlated", id, "--function", "sevn"], 1, 'no function "sevn": did you mean "seven"?'],
      [["xlated", 4294967295], 1, "4294967295"],
      [["xlated", "cli_dumpd"], 1, 'did you mean "cli_dumped"?'],
      [["xlated", "./absent"], 1, "nothing is pinned at ./absent"],
    ] as const) {
      const { stdout, stderr, exitCode } = await cli(["prog", "dump", ...args]);
      expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
      expect(stderr).toContain(message);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });
});
