/** Attaches a program, pins the link at the path in the argument, prints the link's id, and waits until it is killed. */
import { writeSync } from "node:fs";
import { asm, Program } from "../../../src/index.ts";

const [path = ""] = process.argv.slice(2);
const program = new Program({
  section: "raw_tp/sched_process_exec",
  name: "way",
  license: "GPL",
  code: [asm.mov(asm.r0, 0), asm.exit()],
});
const link = program.attach().pin(path);
writeSync(1, `${link.id}\n`);
for (;;) Bun.sleepSync(1000);
