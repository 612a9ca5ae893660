/** Tests of `bun-bpf prog load`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArrayMap, HashMap, Program, t } from "../../src/index.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { packageRoot } from "../support/run.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const pinTest = testUnless(bpfObstacle ?? mountObstacle);

/** The JSON output of the command. */
interface Loaded {
  readonly programs: readonly { readonly id: number; readonly path: string }[];
  readonly maps: readonly { readonly id: number; readonly name: string; readonly path?: string }[];
}

let folder = "";
const at = (name: string): string => join(folder, name);

const script = `
import { asm } from ${JSON.stringify(join(packageRoot, "src/index.ts"))};
const { r0, r1, r2, fp } = asm;
const one = { section: "socket", license: "GPL", code: [asm.mov(r0, 1), asm.exit()] };
export default { ...one, name: "one" };
export const counted = {
  ...one,
  code: [asm.stw(fp, -4, 0), asm.ldMap(r1, "counts"), asm.mov(r2, fp), asm.add(r2, -4), asm.call("map_lookup_elem"), asm.mov(r0, 0), asm.exit()],
};
export const rejected = { ...one, code: [asm.exit()] };
export const misspelt = { ...one, licence: "GPL" };
export const jumping = { ...one, code: [asm.ja("nowhere"), asm.exit()] };
export const variables = { ".data": { contents: Uint8Array.of(5, 0, 0, 0) } };
export const object = { variables, programs: { first: one, "second.two": one } };
export const half = { programs: { first: one, second: rejected } };
export const colliding = { variables, programs: { "a.b": one, a_b: one } };
`;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "prog-load-"));
  writeFileSync(at("specs.ts"), script);
  writeFileSync(at("named.ts"), "export const only = 1;");
  writeFileSync(at("empty.ts"), "");
  writeFileSync(at("failing.ts"), 'throw new Error("fails by itself");');
  writeFileSync(at("object.o"), "\x7fELF\x02\x01\x01");
  writeFileSync(at("broken.json"), "{");
  writeFileSync(at("program.unknown"), "text");
});

afterAll(() => rmSync(folder, { recursive: true }));

describe("a program", () => {
  pinTest("of the default export is loaded and pinned", async () => {
    using bpffs = new MountedBpffs();
    const path = join(bpffs.path, "one");
    expect(await cliText(["prog", "load", at("specs.ts"), path])).toBe("");
    using program = Program.open(path, { section: "socket" });
    expect(program.name).toBe("one");
    expect(program.testRun({ data: new Uint8Array(14) }).returnValue).toBe(1);
  });

  pinTest("of another export refers to maps that --map names", async () => {
    using bpffs = new MountedBpffs();
    using counts = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    const path = join(bpffs.path, "counted");
    const map = ["--map", `counts=id:${counts.id}`];
    const { programs, maps } = await cliJson<Loaded>([
      ...["prog", "load", `${at("specs.ts")}#counted`, path],
      ...map,
    ]);
    using program = Program.open(path);
    expect(programs).toEqual([{ id: program.id, type: "socket_filter", name: "", path }] as never);
    expect(maps).toEqual([]);
    expect(program.info().mapIds).toEqual([counts.id]);
  });

  pinTest("is read from JSON, in which large integers are strings", async () => {
    using bpffs = new MountedBpffs();
    const path = join(bpffs.path, "json");
    const nothing = { dst: 0, src: 0, offset: 0 };
    const code = [
      { ...nothing, opcode: 0x18, imm: "18446744073709551615" },
      { ...nothing, opcode: 0x77, imm: 60 },
      { ...nothing, opcode: 0x95, imm: 0 },
    ];
    writeFileSync(at("spec.json"), JSON.stringify({ section: "socket", license: "GPL", code }));
    await cliText(["prog", "load", at("spec.json"), path]);
    using program = Program.open(path);
    expect(program.testRun({ data: new Uint8Array(14) }).returnValue).toBe(15);
  });
});

describe("an object", () => {
  pinTest("has its programs pinned in one folder, and its maps in another", async () => {
    using bpffs = new MountedBpffs();
    const [path, mapPath] = [join(bpffs.path, "programs"), join(bpffs.path, "maps")];
    const loaded = await cliJson<Loaded>([
      ...["prog", "load", `${at("specs.ts")}#object`, path],
      ...["--pin-maps", mapPath],
    ]);
    expect(loaded.programs.map((one) => one.path)).toEqual([
      join(path, "first"),
      join(path, "second_two"),
    ]);
    expect(loaded.maps).toMatchObject([{ name: ".data", path: join(mapPath, "_data") }]);
    using second = Program.open(join(path, "second_two"));
    expect(second.id).toBe(loaded.programs[1]?.id ?? 0);
    using data = ArrayMap.open(join(mapPath, "_data"), { value: t.u32 });
    expect([...data.values()]).toEqual([5]);
  });

  pinTest("leaves no pin and no folder if a program or pin is refused", async () => {
    using bpffs = new MountedBpffs();
    for (const name of ["half", "colliding"]) {
      const path = join(bpffs.path, name);
      const { stdout, exitCode } = await cli([
        ...["prog", "load", `${at("specs.ts")}#${name}`, path],
        ...["--pin-maps", join(bpffs.path, "maps")],
      ]);
      expect({ name, stdout, exitCode }).toEqual({ name, stdout: "", exitCode: 1 });
    }
    // The kernel creates these two files for each BPF file system of the initial user namespace.
    const own = readdirSync(bpffs.path).filter((name) => !name.endsWith(".debug"));
    expect(own).toEqual([]);
  });
});

describe("an error names", () => {
  pinTest("the verifier's reason, in lines", async () => {
    using bpffs = new MountedBpffs();
    const { stderr, exitCode } = await cli([
      ...["prog", "load", `${at("specs.ts")}#rejected`, join(bpffs.path, "x")],
    ]);
    expect(exitCode).toBe(1);
    const [first, ...more] = stderr.split("\n");
    expect(first).toBe(
      "bun-bpf: cannot load the socket program: the verifier rejected it: R0 !read_ok",
    );
    expect(more.length).toBeGreaterThan(3);
  });

  pinTest("the remedy, if the path is not on a BPF file system", async () => {
    const path = at("pin");
    const { stderr, exitCode } = await cli(["prog", "load", at("specs.ts"), path]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(
      "A pin must be on a BPF file system: mount one with `mount -t bpf bpf",
    );
    expect(existsSync(path)).toBe(false);
    expect((await cli(["prog", "load", `${at("specs.ts")}#object`, path])).exitCode).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  test.each([
    ["object.o", [], 1, "it is an object file (ELF), and bun-bpf cannot load object files yet"],
    ["program.unknown", [], 1, "it is neither a script (.ts, .js) nor JSON (.json)"],
    ["absent.ts", [], 1, "cannot read "],
    ["broken.json", [], 1, "cannot parse "],
    ["failing.ts", [], 1, "failing.ts: fails by itself"],
    ["empty.ts", [], 1, "it exports nothing"],
    ["named.ts", [], 1, "it has no default export: name one of its exports, as in "],
    ["specs.ts#objekt", [], 1, 'it has no export "objekt": did you mean "object"?'],
    ["named.ts#only", [], 1, "expected a ProgramSpec (with section, code and license)"],
    ["specs.ts#misspelt", [], 1, 'unknown option "licence": did you mean "license"?'],
    ["specs.ts#jumping", [], 1, "nowhere"],
    ["specs.ts", ["--pin-maps", "/sys/fs/bpf/x"], 2, "--pin-maps is only for an ObjectSpec"],
    ["specs.ts#object", ["--map", "a=1"], 2, "--map is only for a ProgramSpec"],
    ["specs.ts", ["--map", "a"], 2, "Expected a name and a map"],
  ])("the mistake in %p %p", async (name, options, status, message) => {
    const source = join(folder, name);
    const { stdout, stderr, exitCode } = await cli([
      ...["prog", "load", source, "/sys/fs/bpf/absent"],
      ...options,
    ]);
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: status });
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});
