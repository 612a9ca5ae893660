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
  const program = build(compiler, `${name}.c`, name, "-lbpf");
  if (program === undefined) return undefined;
  return {
    program,
    run: (...args) => {
      const ran = Bun.spawnSync([program, ...args]);
      if (!ran.success) throw new Error(`${name} ${args.join(" ")}: exit status ${ran.exitCode}`);
      return ran.stdout.toString().trim();
    },
  };
}

/** Builds `bench/NAME.bpf.c` to an object file with BPF programs. Returns its path; `undefined`, with a message, if that fails. */
export function buildProgram(name: string): string | undefined {
  const compiler = Bun.which("clang");
  if (compiler !== null)
    return build(compiler, `${name}.bpf.c`, `${name}.o`, "-target", "bpf", "-c");
  console.error("no clang, so no comparison with C: apt-get install clang libbpf-dev\n");
  return undefined;
}

/** Compiles a file of this folder. Returns the path of the output, which is removed when this process ends. */
function build(
  compiler: string,
  source: string,
  output: string,
  ...options: readonly string[]
): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "peer-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, output);
  const command = [compiler, "-O2", join(import.meta.dir, source), "-o", path, ...options];
  const built = Bun.spawnSync(command);
  if (built.success) return path;
  console.error(`cannot build ${source}: is libbpf-dev installed?\n${built.stderr.toString()}`);
  return undefined;
}
