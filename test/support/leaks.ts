import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Names in `/proc` of the files that belong to BPF programs, maps, links and their consumers. */
const kernelObject = /anon_inode:\[?(bpf|btf|perf_event|io_uring)/;

/** Returns descriptions of the kernel objects that this process has open or mapped, by a key that identifies each. */
export function openKernelObjects(): Map<string, string> {
  const open = new Map<string, string>();
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (!kernelObject.test(target)) continue;
      const details = describe(fd);
      open.set(`${fd} ${target} ${details}`, `descriptor ${fd}: ${target}${details}`);
    } catch {
      // The descriptor of the directory listing itself is closed already.
    }
  }
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    if (kernelObject.test(line)) open.set(line, `mapping ${line.replaceAll(/\s+/g, " ")}`);
  }
  return open;
}

/** Returns the type and id of an object, from fdinfo: ` (map_type 1, map_id 7)`. */
function describe(fd: string): string {
  const lines = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").split("\n");
  const details = lines
    .filter((line) => /^(map|prog|link)_(type|id):/.test(line))
    .map((line) => line.replace(/:\s+/, " "));
  return details.length === 0 ? "" : ` (${details.join(", ")})`;
}
