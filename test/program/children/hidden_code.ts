// Prints as JSON the types of a program's code after all capabilities were dropped, or all but those given.
import { dlopen } from "bun:ffi";
import { asm, BpfError, Program } from "../../../src/index.ts";

const version3 = 0x20080522;
const { capset } = dlopen("libc.so.6", {
  capset: { args: ["ptr", "ptr"], returns: "i32" },
}).symbols;

function load() {
  return new Program({
    section: "socket",
    license: "GPL",
    code: [asm.call("ktime_get_ns"), asm.mov(asm.r0, 7), asm.exit()],
  });
}

const before = load();
const kept = process.argv.slice(2).reduce((bits, number) => bits | (1n << BigInt(number)), 0n);
const [low, high] = [Number(kept & 0xffffffffn), Number(kept >> 32n)];
// struct __user_cap_data_struct { effective, permitted, inheritable }, twice.
if (capset(new Uint32Array([version3, 0]), new Uint32Array([low, low, 0, high, high, 0])) !== 0) {
  throw new Error("capset refused to drop the capabilities of this process");
}
// The kernel decides about addresses by the capabilities with which the descriptor was opened.
const program = kept === 0n ? before : load();
try {
  const names = program
    .translatedCode()
    ?.map(({ name, instructions }) => [name, instructions.map(({ reference }) => reference?.kind)]);
  console.log(JSON.stringify({ names, machine: typeof program.machineCode() }));
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(JSON.stringify({ code: error.code }));
}
