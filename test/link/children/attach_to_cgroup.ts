/** Attaches a program to the cgroup of the first argument, prints the ids of the programs there, and waits to be killed. */
import { asm, attachedPrograms, Program } from "../../../src/index.ts";

const [, , cgroup = ""] = process.argv;
const program = new Program({
  section: "cgroup_skb/ingress",
  license: "GPL",
  code: [asm.mov(asm.r0, 1), asm.exit()],
});
program.attach({ cgroup });
const programs = attachedPrograms({ cgroup, attachType: "cgroup_inet_ingress" })[0]?.programs ?? [];
console.log(JSON.stringify(programs.map(({ programId }) => programId)));
setInterval(() => {}, 60_000);
