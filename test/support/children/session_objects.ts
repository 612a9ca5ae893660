// Makes the objects of the sessions in docs/command.md, and runs a shell script that shows them: session_objects.ts SCRIPT
// It expects a BPF file system at /sys/fs/bpf that no other process uses.
import { dirname } from "node:path";
import { asm, HashMap, Program, Queue, RingBuf, t } from "../../../src/index.ts";

const [script = ""] = process.argv.slice(2);
const { r0, r1, r2, r3, r4, fp } = asm;

using counts = new HashMap({
  key: t.ipv4,
  value: t.struct({ packets: t.u64, bytes: t.u64 }),
  maxEntries: 1024,
  name: "peer_counts",
});
// The map has one entry, because the order of several entries differs from map to map.
counts.set("192.0.2.1", { packets: 3n, bytes: 2n ** 60n });
counts.pin("/sys/fs/bpf/peer_counts");

using limits = new HashMap({ key: t.u32, value: t.u64, maxEntries: 16, name: "uid_limits" });
limits.set(1000, 50n);

using jobs = new Queue({ value: t.u32, maxEntries: 8, name: "job_queue" });
jobs.push(7).push(8);

using events = new RingBuf({ size: 4096, event: t.u64, name: "open_events" });
using program = new Program({
  section: "raw_tp/sched_process_exec",
  name: "note_exec",
  license: "GPL",
  maps: { events },
  code: [
    asm.stdw(fp, -8, 42),
    asm.ldMap(r1, "events"),
    asm.mov(r2, fp),
    asm.add(r2, -8),
    asm.mov(r3, 8),
    asm.mov(r4, 0),
    asm.call("ringbuf_output"),
    asm.mov(r0, 0),
    asm.exit(),
  ],
});
using link = program.attach();
link.pin("/sys/fs/bpf/note_exec");

const shell = Bun.spawn(["bash", script], {
  cwd: dirname(script),
  stdio: ["ignore", "inherit", "inherit"],
});
process.exitCode = await shell.exited;
