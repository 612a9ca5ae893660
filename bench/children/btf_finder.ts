// Look-ups in the kernel's BTF, as in bench/btf.c: bun btf_finder.ts FILE. Prints milliseconds.
import { readFileSync } from "node:fs";
import { Btf } from "../../src/btf/btf.ts";
import { kindNames } from "../../src/btf/format.ts";

const wanted = readFileSync(process.argv[2] as string, "utf8")
  .trim()
  .split("\n")
  .map((line) => {
    const [kind = "", name = ""] = line.split(" ");
    return { kind: kindNames[Number(kind) as keyof typeof kindNames], name };
  });
const [first, ...others] = wanted;

function find(btf: Btf, list: typeof wanted): void {
  for (const { kind, name } of list) {
    if (btf.find(kind, name) === undefined) throw new Error(`no ${kind} ${name}`);
  }
}

const started = performance.now();
const btf = Btf.kernel();
if (first !== undefined) find(btf, [first]);
const opened = performance.now();
find(btf, others);
const found = performance.now();
find(btf, others);
const again = performance.now();
console.log(opened - started, found - opened, again - found);
