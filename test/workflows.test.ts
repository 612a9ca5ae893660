/** The workflows of GitHub name scripts, files and kernels that exist, and keep to the rules for permissions and versions. */
import { describe, expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { targets } from "./kernels/targets.ts";
import { packageRoot } from "./support/run.ts";
import { hostTest, isGuest } from "./support/skipping.ts";

interface Step {
  readonly run?: string;
  readonly uses?: string;
}

interface Job {
  readonly uses?: string;
  readonly steps?: readonly Step[];
  readonly "timeout-minutes"?: number;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly strategy?: { readonly matrix: { readonly kernel?: readonly string[] } };
}

interface Workflow {
  readonly permissions?: Readonly<Record<string, string>>;
  readonly jobs?: Readonly<Record<string, Job>>;
  readonly runs?: Job;
}

const folder = join(packageRoot, ".github");
const files = isGuest ? [] : [...new Bun.Glob("**/*.yml").scanSync(folder)].sort();
const texts = new Map(files.map((file) => [file, readFileSync(join(folder, file), "utf8")]));
const documents = new Map(
  [...texts].map(([file, text]) => [file, Bun.YAML.parse(text) as Workflow]),
);
const workflows = [...documents].filter(([file]) => file.startsWith("workflows/"));
const jobs = workflows.flatMap(([file, { jobs = {} }]) =>
  Object.entries(jobs).map(([name, job]) => ({ name: `${file}: ${name}`, ...job })),
);
const steps = [...jobs, ...[...documents.values()].flatMap(({ runs }) => runs ?? [])].flatMap(
  ({ steps = [] }) => steps,
);
const commands = steps.flatMap(({ run }) => run ?? []).join("\n");

describe("the workflows", () => {
  hostTest("run scripts of package.json and files that exist", () => {
    const { scripts } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const names = [...commands.matchAll(/\b(?:npm|bun) run ([\w:]+)|\bnpm (test)\b/g)].map(
      ([, script, test]) => script ?? test,
    );
    expect(names).toContain("test");
    expect(names.filter((name) => scripts[`${name}`] === undefined)).toEqual([]);
    const paths = [...commands.matchAll(/(?<=^|\s)(?:\.ci|test|bench|examples)\/\S+/gm)].map(
      String,
    );
    const local = [...jobs, ...steps].flatMap(({ uses }) => (uses?.startsWith("./") ? [uses] : []));
    expect(paths).toContain(".ci/run");
    expect([...paths, ...local].filter((path) => !existsSync(join(packageRoot, path)))).toEqual([]);
  });

  hostTest(
    "pass values to commands as environment variables, which the shell does not parse",
    () => {
      expect(commands).toContain("$GITHUB_REF_NAME");
      expect(commands).not.toContain("${{");
    },
  );

  hostTest("use actions by their major version", () => {
    const actions = steps
      .flatMap(({ uses }) => uses ?? [])
      .filter((uses) => !uses.startsWith("./"));
    expect(actions.length).toBeGreaterThan(3);
    expect(actions.filter((uses) => !/^[\w-]+\/[\w-]+@v\d+$/.test(uses))).toEqual([]);
  });

  hostTest("can only read, but for the job that publishes", () => {
    for (const [file, { permissions }] of workflows) {
      expect({ file, permissions }).toEqual({ file, permissions: { contents: "read" } });
    }
    const withMore = jobs.filter(({ permissions }) => permissions !== undefined);
    expect(withMore.map(({ name, permissions }) => [name, permissions])).toEqual([
      ["workflows/release.yml: publish", { "id-token": "write" }],
    ]);
  });

  hostTest("limit the time of each job", () => {
    const own = jobs.filter(({ uses }) => uses === undefined);
    expect(own.filter((job) => job["timeout-minutes"] === undefined)).toEqual([]);
  });

  hostTest("test all kernels", () => {
    const matrices = jobs.flatMap(({ strategy }) => strategy?.matrix.kernel ?? []);
    const names = targets.map(({ name }) => name);
    expect(matrices).toEqual([...names, ...names]);
  });
});
