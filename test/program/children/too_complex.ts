// Loads a program that is too complex for the verifier. Prints the properties of the error as JSON on standard output, and the
// error on standard error: with console.error(), and as an uncaught error after a line of dashes.
import { asm, Program, VerifierError } from "../../../src/index.ts";
import { syscalls } from "../../../src/ffi/libc.ts";
import { BPF_PROG_LOAD } from "../../../src/uapi/commands.ts";

const { r0 } = asm;

let loads = 0;
const { bpf } = syscalls;
Object.assign(syscalls, {
  bpf: (...call: Parameters<typeof bpf>) => {
    if (call[1] === BPF_PROG_LOAD) loads++;
    return bpf(...call);
  },
});

try {
  using _program = new Program({
    section: "socket",
    license: "GPL",
    code: [
      asm.mov(r0, 0),
      asm.label("again"),
      asm.add(r0, 1),
      asm.jlt(r0, 2_000_000, "again"),
      asm.exit(),
    ],
  });
} catch (error) {
  if (!(error instanceof VerifierError)) throw error;
  const { code, reason, hint, message, log } = error;
  const logLength = log.length;
  console.log(
    JSON.stringify({ loads, code, reason, hint, message, logLength, logEnd: log.slice(-500) }),
  );
  console.error(error);
  console.error("--------");
  throw error;
}
