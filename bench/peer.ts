import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A C program beside a benchmark, built for this run. */
export interface Peer {
  /** Its path. */
  readonly program: string;
  /** What it prints, run with these arguments. */
  run(...args: string[]): string;
}

/** Builds `bench/NAME.c` with libbpf, or says why there is nothing to compare with. */
export function buildPeer(name: string): Peer | undefined {
  const compiler = Bun.which("cc") ?? Bun.which("clang");
  if (compiler === null) {
    console.error("no C compiler: nothing to compare with (apt-get install gcc libbpf-dev)\n");
    return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), "peer-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, name);
  const source = join(import.meta.dir, `${name}.c`);
  const built = Bun.spawnSync([compiler, "-O2", source, "-o", program, "-lbpf"]);
  if (!built.success) {
    console.error(`cannot build ${name}.c: is libbpf-dev installed?\n${built.stderr.toString()}`);
    return undefined;
  }
  return {
    program,
    run: (...args) => {
      const ran = Bun.spawnSync([program, ...args]);
      if (!ran.success) throw new Error(`${name} ${args.join(" ")}: exit status ${ran.exitCode}`);
      return ran.stdout.toString().trim();
    },
  };
}
