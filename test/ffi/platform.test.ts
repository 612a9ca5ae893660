import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { packageRoot, runBun } from "../support/run.ts";

const index = JSON.stringify(join(packageRoot, "src/index.ts"));

/** Returns the output of a script that simulates another platform, builds a type and instructions, and creates a map. */
async function pretend(where: string): Promise<string[]> {
  const program = `
${where}
const { asm, assemble, HashMap, t } = await import(${index});
console.log(assemble([asm.mov(asm.r0, 0), asm.exit()]).slots, t.struct({ a: t.u32 }).size);
try {
  new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
} catch (error) {
  console.log(String(error));
}`;
  const { stdout, stderr } = await runBun(["-e", program]);
  return [...stdout.trimEnd().split("\n"), ...(stderr === "" ? [] : [stderr])];
}

describe("on an unsupported platform", () => {
  test.each([
    [
      "another system",
      'Object.defineProperty(process, "platform", { value: "darwin" });',
      "Error: bun-bpf needs Linux: BPF is part of its kernel, and this is darwin",
    ],
    [
      "another architecture",
      'Object.defineProperty(process, "arch", { value: "riscv64" });',
      "Error: bun-bpf supports x86-64 and arm64 only, and this is riscv64",
    ],
    [
      "an older Bun",
      'Object.defineProperty(process.versions, "bun", { value: "1.3.0" });',
      "Error: bun-bpf needs Bun 1.4.5 or later, and this is 1.3.0: run `bun upgrade`",
    ],
  ])(
    "types and instructions work, and a map throws an error that says why: %s",
    async (_where, code, message) => {
      expect(await pretend(code)).toEqual(["2 4", message]);
    },
  );
});
