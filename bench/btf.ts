// Opening the kernel's BTF and finding types by kind and name, compared with C and libbpf. Each side runs in separate
// processes, in turn: bun bench/btf.ts
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../src/btf/btf.ts";
import { type BtfKind, kindNumbers } from "../src/btf/format.ts";
import { buildPeer } from "./peer.ts";
import { median, medianRatio } from "./support/statistics.ts";

const rounds = 15;
const count = 1000;
const kinds: readonly BtfKind[] = ["func", "struct", "typedef"];

/** Returns types to find, spread over all types of a kind. Ambiguous names are left out, because C finds only the first one. */
function choose(btf: Btf): string[] {
  const lists = kinds.map((kind) => {
    const ids = [...btf.ids(kind)];
    const step = Math.floor((ids.length * kinds.length) / (count * 1.1));
    return ids
      .filter((_, index) => index % step === step >> 1)
      .map((id) => btf.type(id).name)
      .filter((name) => name !== "" && btf.findAll(kind, name).length === 1)
      .map((name) => `${kindNumbers[kind]} ${name}`);
  });
  // The kinds alternate.
  return Array.from({ length: count + 1 }, (_, index) => {
    const list = lists[index % kinds.length] as string[];
    return list[Math.floor(index / kinds.length)] ?? [];
  }).flat();
}

const folder = mkdtempSync(join(tmpdir(), "btf-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "names");
const names = choose(Btf.kernel());
writeFileSync(file, names.join("\n"));

const finder = join(import.meta.dir, "children/btf_finder.ts");

function runInBun(): string {
  const ran = Bun.spawnSync([process.execPath, finder, file], { stderr: "inherit" });
  if (!ran.success) throw new Error(`${finder}: exit status ${ran.exitCode}`);
  return ran.stdout.toString().trim();
}

const peer = buildPeer("btf");
const steps = [
  "open and find the first",
  `find ${names.length - 1} others`,
  "find these again",
] as const;
const figures = steps.map(() => ({ here: [] as number[], there: [] as number[] }));

function addFigures(side: "here" | "there", printed: string): void {
  for (const [index, text] of printed.split(" ").entries()) {
    figures[index]?.[side].push(Number(text));
  }
}

// Both sides run in turn, so that the load of other machines affects them alike.
for (let round = 0; round < rounds; round++) {
  addFigures("here", runInBun());
  if (peer !== undefined) addFigures("there", peer.run(file));
}

console.log(
  `BTF of the kernel (${Btf.kernel().length} types): milliseconds, medians of ${rounds} rounds\n`,
);
console.log(
  `${"".padEnd(26)}${"bun-bpf".padStart(8)}${"libbpf".padStart(8)}${"relative to C".padStart(15)}`,
);
for (const [index, figure] of figures.entries()) {
  const columns = [
    median(figure.here),
    median(figure.there),
    medianRatio(figure.here, figure.there),
  ];
  const texts = columns.map((column, index) =>
    (Number.isNaN(column) ? "" : column.toFixed(2)).padStart(index === 2 ? 15 : 8),
  );
  console.log(`${(steps[index] ?? "").padEnd(26)}${texts.join("")}`);
}
