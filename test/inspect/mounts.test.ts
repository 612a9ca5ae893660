import { expect, test } from "bun:test";
import { parseMounts } from "../../src/inspect/pins.ts";

test("BPF file systems are found among all mounts, with their paths as they are", () => {
  const text = [
    "22 1 254:0 / / rw,relatime - ext4 /dev/root rw",
    "30 22 0:26 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700",
    "31 22 0:300 /sub /tmp/a\\040b\\134c\\011 rw master:1 shared:2 - bpf none rw",
    "32 22 0:65537 / /é rw - bpf bpf rw",
    "33 22 0:27 / /tmp/not\\040-\\040bpf rw - tmpfs bpf rw",
    "34 22 0:28 / /proc rw - proc proc rw",
    "",
  ].join("\n");
  expect(parseMounts(text)).toEqual([
    { path: "/sys/fs/bpf", device: 26 },
    { path: "/tmp/a b\\c\t", device: 0x10_0000 + 44 },
    { path: "/é", device: 256 * 0x10_0000 + 1 },
  ]);
  expect(parseMounts("")).toEqual([]);
});
