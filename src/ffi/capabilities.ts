import { readFileSync } from "./files.ts";
import {
  CAP_BPF,
  CAP_NET_ADMIN,
  CAP_PERFMON,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
} from "../uapi/system.ts";

/** Bits of the capabilities that BPF asks for. */
const capabilityBits = {
  CAP_NET_ADMIN,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
  CAP_PERFMON,
  CAP_BPF,
} as const;

/** A capability that BPF asks for. */
export type Capability = keyof typeof capabilityBits;

/** Whether this process has a capability in its effective set. */
export function hasCapability(capability: Capability): boolean {
  const text = readFileSync("/proc/self/status", "utf8");
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? "0"}`);
  return ((bits >> BigInt(capabilityBits[capability])) & 1n) === 1n;
}

/** How a process gets capabilities, in the three usual ways. */
function howToGrant(missing: readonly Capability[]): string {
  // Whoever needs CAP_BPF needs CAP_PERFMON next, for tracing and for pointers: better to be told once.
  const granted: Capability[] = missing.includes("CAP_BPF")
    ? ["CAP_BPF", "CAP_PERFMON", ...missing.filter((name) => !/_(BPF|PERFMON)$/.test(name))]
    : [...missing];
  const list = granted.map((name) => name.toLowerCase()).join(",");
  const options = granted.map((name) => `--cap-add ${name.slice("CAP_".length)}`).join(" ");
  return `run as root (sudo -E), give a compiled script the capabilities (setcap ${list}+ep), or start the container with ${options}`;
}

/**
 * What of `needed` this process lacks, in a sentence with how to get it; `undefined` where it lacks nothing. CAP_SYS_ADMIN stands
 * for all others, as it does in the kernel.
 */
export function explainMissing(needed: readonly Capability[]): string | undefined {
  if (isInUserNamespace()) {
    return `This process is in a user namespace, as in a rootless container: ${needed.join(" and ")} ${needed.length === 1 ? "counts" : "count"} in the initial user namespace only, so run it there`;
  }
  const missing = hasCapability("CAP_SYS_ADMIN")
    ? []
    : needed.filter((capability) => !hasCapability(capability));
  if (missing.length === 0) return undefined;
  return `This process lacks ${missing.join(" and ")}: ${howToGrant(missing)}`;
}

/** Whether this process's user ids are not the system's own: the initial namespace maps all of them to themselves. */
function isInUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    // A kernel without user namespaces has no such file.
    return false;
  }
}
