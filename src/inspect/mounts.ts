import { readFileSync } from "node:fs";

/** A mount of a BPF file system. */
export interface BpfMount {
  readonly path: string;
  /** The number of its file system, as `stat` gives it. */
  readonly device: number;
}

/** The BPF file systems that this process sees, in the order of their mounting. */
export function bpfMounts(): BpfMount[] {
  return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** Finds the BPF file systems in the kernel's list of mounts (proc_pid_mountinfo(5)). */
export function parseMounts(text: string): BpfMount[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\d+ \d+ (\d+):(\d+) \S+ (\S+) .*? - bpf /.exec(line);
    if (match === null) return [];
    const [, major, minor, path] = match;
    return [{ path: unescape(path as string), device: deviceNumber(Number(major), Number(minor)) }];
  });
}

/** White space and backslashes in paths are octal there. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** `makedev`: the low 8 bits of the minor number, 12 of the major one, and the rest of the minor one. */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + major * 0x100 + (minor >>> 8) * 0x10_0000;
}
