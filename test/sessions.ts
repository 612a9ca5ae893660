/**
 * The sessions with the command `bun-bpf` in docs/command.md: command lines and what they print. They are run against objects that
 * are made for them, in a mount namespace with its own BPF file system.
 *
 * The files that the page shows are in the folder in which the command lines are run.
 *
 *   bun test/sessions.ts --write    runs them, and writes the present output into the page where it differs
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blocksOf, namedFilesOf, pageAt } from "./support/markdown.ts";
import { packageRoot, run } from "./support/run.ts";

/** A command line, and what it prints on both streams. */
export interface Step {
  readonly command: string;
  readonly output: string;
}

/** The page with the sessions. */
export const sessionsPage = "docs/command.md";

/** Returns the steps of all `console` blocks of a page. */
export function stepsOf(page: string): Step[] {
  const blocks = blocksOf(pageAt(page)).filter(({ language }) => language === "console");
  return blocks.flatMap(({ code }) =>
    code
      .split(/^\$ /m)
      .slice(1)
      .map((step) => {
        const end = step.indexOf("\n");
        return { command: step.slice(0, end), output: step.slice(end + 1) };
      }),
  );
}

/** The command that gives a shell line a mount namespace with an empty BPF file system. */
export const withOwnBpffs = (line: string): readonly string[] => [
  ...["unshare", "--mount", "sh", "-c"],
  `mount -t bpf bpf /sys/fs/bpf && ${line}`,
];

/** Runs command lines one after another, and returns what each prints. @throws {Error} when the objects cannot be made. */
export async function runCommands(commands: readonly string[]): Promise<Step[]> {
  const folder = mkdtempSync(join(tmpdir(), "sessions-"));
  try {
    const mark = `-- ${crypto.randomUUID()} --`;
    const main = join(packageRoot, "src/cli/main.ts");
    const script = join(folder, "session.sh");
    writeFileSync(join(folder, "bun-bpf"), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
    chmodSync(join(folder, "bun-bpf"), 0o755);
    writeFileSync(script, commands.map((line) => `{ ${line}\n} 2>&1\necho '${mark}'\n`).join(""));
    for (const [name, code] of namedFilesOf(pageAt(sessionsPage))) {
      const library = join(packageRoot, "src/index.ts");
      writeFileSync(
        join(folder, name),
        code.replace('from "bun-bpf"', () => `from "${library}"`),
      );
    }
    const objects = join(import.meta.dir, "support/children/session_objects.ts");
    // The names of the objects are those in the page, so a second run on this machine has to wait.
    const lock = `flock ${join(tmpdir(), "bun-bpf-sessions.lock")}`;
    const line = `PATH="${folder}:$PATH" exec ${lock} ${process.execPath} ${objects} ${script}`;
    const { stdout, stderr } = await run(withOwnBpffs(line), { timeout: 100_000 });
    const outputs = stdout.split(`${mark}\n`).slice(0, -1);
    if (outputs.length !== commands.length) throw new Error(stderr);
    return commands.map((command, index) => ({ command, output: outputs[index] as string }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Columns of tables that differ from run to run. */
const volatileColumns: ReadonlySet<string> = new Set([
  ...["ID", "MAPS", "MEMORY", "LOADED", "OWNERS", "RUNS", "TAG"],
  // The columns of `prog profile`.
  ...["RATE", "EACH", "CPU"],
]);

const isTable = (output: string) => /^ *ID  /.test(output);
const cellsOf = (line: string) => line.trim().split(/ {2,}/);

/** Names of which each row about an object of the sessions has one. */
const ownNames = /peer_counts|uid_limits|job_queue|open_events|note_exec/;

/** Removes the rows of tables that are about objects of other processes. */
function ownRows(output: string): string {
  if (!isTable(output)) return output;
  const rows = output
    .split("\n")
    .filter((line, at) => at === 0 || line === "" || ownNames.test(line));
  const margin = Math.min(...rows.filter((line) => line !== "").map((line) => line.search(/\S/)));
  return rows.map((line) => line.slice(margin)).join("\n");
}

/** Returns output in a form in which that of two runs is the same: without numbers that the kernel chooses, sizes and dates. */
export function comparable(output: string): string {
  const own = ownRows(output);
  const columns = isTable(own) ? cellsOf(own.split("\n", 1)[0] as string) : undefined;
  return own
    .split("\n")
    .map((line, at) => {
      if (columns === undefined || line === "") return withoutNumbers(line);
      if (at === 0) return columns.join(" ");
      const cells = cellsOf(line).map((cell, column) =>
        volatileColumns.has(columns[column] ?? "") ? "#" : withoutNumbers(cell),
      );
      return cells.join(" ");
    })
    .join("\n")
    .trimEnd();
}

function withoutNumbers(line: string): string {
  return line
    .replace(/^(tag: +)\w+$/, "$1#")
    .replace(/^(id: +)\d+$/, "$1#")
    .replace(/\d+ (?=open_events|note_exec|execs|raw_tracepoint )/g, "# ")
    .replace(/map\[id:\d+\]/g, "map[id:#]")
    .replace(/\bbun(?:\.exe)?\(\d+\)( as descriptor \d+)?/g, "bun(#)")
    .replace(/\bBTF \d+/g, "BTF #")
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "#")
    .replace(/[\d.]+ \w+ \(\d+ bytes\)/g, "#")
    .replace(/\d+(?= bytes of (?:instructions|machine code))/g, "#")
    .replace(/^(verified: +)\d+/, "$1#")
    .replace(/\s+/g, " ");
}

/** Returns the output of a run for the page. Lines that say the same as before keep their numbers, except in tables. */
function update(written: string, output: string): string {
  if (isTable(output)) return ownRows(output);
  const before = new Map(written.split("\n").map((line) => [withoutNumbers(line), line]));
  const lines = output.split("\n").map((line) => before.get(withoutNumbers(line)) ?? line);
  return lines.join("\n");
}

if (import.meta.main) {
  if (!process.argv.includes("--write")) throw new Error("usage: bun test/sessions.ts --write");
  const steps = stepsOf(sessionsPage);
  let { text } = pageAt(sessionsPage);
  for (const [index, { command, output }] of (
    await runCommands(steps.map((s) => s.command))
  ).entries()) {
    const { output: written = "" } = steps[index] ?? {};
    if (comparable(written) === comparable(output)) continue;
    const before = `$ ${command}\n${written.trimEnd()}`.trimEnd();
    text = text.replace(before, () =>
      `$ ${command}\n${update(written, output).trimEnd()}`.trimEnd(),
    );
    console.log(`changed: ${command}`);
  }
  writeFileSync(join(packageRoot, sessionsPage), text);
}
