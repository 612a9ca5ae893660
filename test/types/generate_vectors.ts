// Compiles and runs vectors.c, and writes its output to vectors.json: `bun test/types/generate_vectors.ts [file]`.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Layout and sample values of a struct in C. Samples are bytes in hexadecimal. */
export interface CLayout {
  size: number;
  align: number;
  offsets: Record<string, number>;
  samples: Record<string, string>;
}

/** Path of a C compiler, if there is one. */
export const compiler: string | null = Bun.which("cc") ?? Bun.which("gcc") ?? Bun.which("clang");

/** Compiles and runs vectors.c, and returns its output. */
export async function generate(cc: string): Promise<Record<string, CLayout>> {
  const directory = mkdtempSync(join(tmpdir(), "bun-bpf-vectors-"));
  try {
    const program = join(directory, "vectors");
    const source = join(import.meta.dir, "vectors.c");
    await Bun.$`${cc} -std=gnu11 -Wall -Wextra -o ${program} ${source}`.quiet();
    return parse(await Bun.$`${program}`.text());
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function parse(output: string): Record<string, CLayout> {
  const layouts: Record<string, CLayout> = {};
  let layout: CLayout = { size: 0, align: 0, offsets: {}, samples: {} };
  for (const line of output.trim().split("\n")) {
    const [what, name = "", ...rest] = line.split(" ");
    if (what === "struct") {
      layout = { size: Number(rest[0]), align: Number(rest[1]), offsets: {}, samples: {} };
      layouts[name] = layout;
    } else if (what === "field") {
      layout.offsets[name] = Number(rest[0]);
    } else {
      layout.samples[Object.keys(layout.samples).length] = name;
    }
  }
  return layouts;
}

if (import.meta.main) {
  if (compiler === null) throw new Error("no C compiler: install gcc or clang");
  const file = process.argv[2] ?? join(import.meta.dir, "vectors.json");
  await Bun.write(file, `${JSON.stringify(await generate(compiler), null, 2)}\n`);
}
