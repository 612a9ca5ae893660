import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A C program with the same work as a benchmark, built for this run. */
export interface Peer {
  /** The path of the program. */
  readonly program: string;
  /** Runs the program with these arguments. Returns its output. */
  run(...args: string[]): string;
}

/** Builds `bench/NAME.c` with libbpf. If that fails, prints the reason and returns `undefined`. */
export function buildPeer(name: string): Peer | undefined {
  const compiler = Bun.which("cc") ?? Bun.which("clang");
  if (compiler === null) {
    console.error("no C compiler, so no comparison with C: apt-get install gcc libbpf-dev\n");
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
