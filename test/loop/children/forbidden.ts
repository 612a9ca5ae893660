/** @module Installs a seccomp filter for the given system calls, like that of a container, and waits for a descriptor. */
import { dlopen, ptr } from "bun:ffi";
import { architecture } from "../../../src/ffi/platform.ts";
import { eventLoop, watch } from "../../../src/loop/event_loop.ts";
import * as system from "../../../src/uapi/system.ts";
import { Signal } from "../bridges.ts";

const numbers = new Map<string, number | Record<string, number>>(Object.entries(system));
const forbidden = process.argv.slice(2).map((name) => {
  const ofCall = numbers.get(`SYS_${name}`);
  if (typeof ofCall !== "object") throw new Error(`unknown system call ${name}`);
  return ofCall[architecture];
});

/** Classic BPF: loads the number of the call, and returns EPERM (or another error) for forbidden ones. */
const [load, jumpIfEqual, answer] = [0x20, 0x15, 0x06];
const [refuse, allow] = [0x0005_0000 | Number(process.env["FORBIDDEN_ERRNO"] ?? 1), 0x7fff_0000];
const instructions = [
  [load, 0, 0, 0],
  ...forbidden.flatMap((number) => [
    [jumpIfEqual, 0, 1, number],
    [answer, 0, 0, refuse],
  ]),
  [answer, 0, 0, allow],
] as [number, number, number, number][];
const filter = new Uint8Array(4096);
const view = new DataView(filter.buffer);
for (const [index, [code, jumpTrue, jumpFalse, operand]] of instructions.entries()) {
  view.setUint16(index * 8, code, true);
  view.setUint8(index * 8 + 2, jumpTrue);
  view.setUint8(index * 8 + 3, jumpFalse);
  view.setUint32(index * 8 + 4, operand, true);
}
const { prctl } = dlopen("libc.so.6", {
  prctl: { args: ["i32", "u64", "ptr", "u64", "u64"], returns: "i32" },
}).symbols;
// struct sock_fprog { unsigned short len; struct sock_filter *filter; }
const program = new Uint8Array(16);
const programView = new DataView(program.buffer);
programView.setUint16(0, instructions.length, true);
programView.setBigUint64(8, BigInt(ptr(filter)), true);
const [setNoNewPrivileges, setSeccomp, filterMode] = [38, 22, 2];
// The kernel requires 0 in the third argument, so it can be declared as a pointer.
prctl(setNoNewPrivileges, 1, null, 0, 0);
if (prctl(setSeccomp, filterMode, program, 0, 0) !== 0) throw new Error("seccomp is refused");
if (filter[0] !== load) throw new Error("the filter moved");

const signal = new Signal();
try {
  const watched = watch(
    () => signal.fd,
    () => {
      console.log(`woken by ${eventLoop.bridge}`);
      for (const refusal of eventLoop.refusals) console.log(`not by ${refusal.message}`);
      watched[Symbol.dispose]();
    },
  );
  watched.arm();
  signal.raise();
} catch (error) {
  console.log(String(error));
}
