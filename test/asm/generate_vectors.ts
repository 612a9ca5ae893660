/**
 * Generates vectors.json: `bun test/asm/generate_vectors.ts`. It requires LLVM 14 or newer (llvm-mc, clang
 * and llc); the tests do not.
 */
import { assembled, compiled } from "./encodings.ts";

const SOURCE = `
  #define wide long
  #define narrow int
  #define F(name, type, op) type name(type *p, type v) { return __sync_##op(p, v); }
  F(a, wide, fetch_and_add) F(b, wide, fetch_and_or) F(c, wide, fetch_and_and)
  F(d, wide, fetch_and_xor) F(e, wide, lock_test_and_set)
  F(f, narrow, fetch_and_add) F(g, narrow, fetch_and_or) F(h, narrow, fetch_and_and)
  F(i, narrow, fetch_and_xor) F(j, narrow, lock_test_and_set)
  wide k(wide *p, wide o, wide n) { return __sync_val_compare_and_swap(p, o, n); }
  narrow l(narrow *p, narrow o, narrow n) { return __sync_val_compare_and_swap(p, o, n); }
`;

function run(command: readonly string[], input: string): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...command], { stdin: Buffer.from(input) });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

/** Returns the instructions in LLVM's output: their texts and bytes. */
function encodings(output: string): { readonly text: string; readonly bytes: string }[] {
  return output.split("\n").flatMap((line) => {
    const [, text, bytes] = /^\s*(.*?)\s*# encoding: \[(.*)\]/.exec(line) ?? [];
    if (text === undefined || bytes === undefined) return [];
    return [{ text, bytes: bytes.replaceAll("0x", "").replaceAll(",", " ") }];
  });
}

const machine = ["-mcpu=v3", "-mattr=+alu32"];
const source = assembled.map(({ text }) => `${text}\n`).join("");
const fromText = encodings(
  run(["llvm-mc", "-triple", "bpfel", ...machine, "--show-encoding"], source),
);
if (fromText.length !== assembled.length) throw new Error("llvm-mc lost a line");

const ir = run(
  ["clang", "-target", "bpf", "-mcpu=v3", "-O2", "-S", "-emit-llvm", "-x", "c", "-", "-o", "-"],
  SOURCE,
);
const fromC = encodings(run(["llc", "-march=bpfel", ...machine, "-show-mc-encoding"], ir));
const lost = compiled.filter(({ text }) => !fromC.some((line) => line.text === text));
if (lost.length > 0) throw new Error(`llc made other code: ${lost.map(({ text }) => text).join()}`);
const vectors = Object.fromEntries([
  // The text of the row: LLVM prints it slightly differently.
  ...assembled.map(({ text }, index) => [text, fromText[index]?.bytes]),
  ...compiled.map(({ text }) => [text, fromC.find((line) => line.text === text)?.bytes]),
]);
await Bun.write(
  new URL("vectors.json", import.meta.url),
  `${JSON.stringify(vectors, undefined, 2)}\n`,
);
