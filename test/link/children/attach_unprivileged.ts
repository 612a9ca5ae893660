/** Loads programs, drops all capabilities, and prints the error of attaching each of them, to the cgroup of the first argument. */
import { openSync } from "node:fs";
import { queryPrograms } from "../../../src/ffi/bpf_link.ts";
import { asm, attachedPrograms, Program, type SectionName, SockMap } from "../../../src/index.ts";

function allow<const S extends SectionName>(section: S): Program<S> {
  return new Program({ section, license: "GPL", code: [asm.mov(asm.r0, 1), asm.exit()] });
}

using packets = allow("cgroup_skb/ingress");
using lookup = allow("sk_lookup");
using message = allow("sk_msg");
using map = new SockMap({ length: 1 });
// The directory is opened while the process may.
const cgroup = openSync(process.argv[2] ?? "", "r");

await import("../../support/drop_capabilities.ts");

const messages: Record<string, string> = {};
function expectFailure(way: string, attach: () => unknown): void {
  try {
    attach();
  } catch (error) {
    messages[way] = (error as Error).message;
  }
}

for (const method of ["link", "attach"] as const) {
  expectFailure(`cgroup by ${method}`, () => packets.attach({ cgroup, method }));
}
expectFailure("sk_lookup", () => lookup.attach());
expectFailure("sk_msg", () => message.attach({ map, method: "attach" }));
expectFailure("programs of a cgroup", () =>
  attachedPrograms({ cgroup, attachType: "cgroup_inet_ingress" }),
);
expectFailure("query of a cgroup", () =>
  queryPrograms(cgroup, "cgroup_inet_ingress", { doing: "list programs" }),
);
expectFailure("programs of a namespace", () =>
  attachedPrograms({ netns: process.pid, attachType: "sk_lookup" }),
);
expectFailure("programs of a map", () => attachedPrograms({ map, attachType: "sk_msg_verdict" }));
console.log(JSON.stringify(messages));
