import { readFileSync } from "./files.ts";
import {
  CAP_BPF,
  CAP_NET_ADMIN,
  CAP_PERFMON,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
} from "../uapi/system.ts";

/** Bit numbers of the capabilities that BPF needs. */
const capabilityBits = {
  CAP_NET_ADMIN,
  CAP_SYS_ADMIN,
  CAP_SYS_RESOURCE,
  CAP_PERFMON,
  CAP_BPF,
} as const;

/** A capability that an operation of BPF can need, as in capabilities(7). */
export type Capability = keyof typeof capabilityBits;

/** Returns true if this process has a capability in its effective set. */
export function hasCapability(capability: Capability): boolean {
  const text = readFileSync("/proc/self/status", "utf8");
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? "0"}`);
  return ((bits >> BigInt(capabilityBits[capability])) & 1n) === 1n;
}

/** Describes three ways to get capabilities. */
function describeGrants(missing: readonly Capability[]): string {
  // A process that needs CAP_BPF usually needs CAP_PERFMON as well, for tracing and for pointers, so both are named at once.
  const granted: Capability[] = missing.includes("CAP_BPF")
    ? ["CAP_BPF", "CAP_PERFMON", ...missing.filter((name) => !/_(BPF|PERFMON)$/.test(name))]
    : [...missing];
  const list = granted.map((name) => name.toLowerCase()).join(",");
  const options = granted.map((name) => `--cap-add ${name.slice("CAP_".length)}`).join(" ");
  return `run as root (sudo -E), give a compiled script the capabilities (setcap ${list}+ep), or start the container with ${options}`;
}

/**
 * Explains which capabilities of `needed` this process lacks, and how to get them; returns `undefined` if it lacks none.
 * CAP_SYS_ADMIN includes the others, as in the kernel.
 */
export function explainMissing(needed: readonly Capability[]): string | undefined {
  if (isInUserNamespace()) {
    return `This process is in a user namespace, as in a rootless container, but needs ${needed.join(" and ")} in the initial user namespace: run it there`;
  }
  const missing = hasCapability("CAP_SYS_ADMIN")
    ? []
    : needed.filter((capability) => !hasCapability(capability));
  if (missing.length === 0) return undefined;
  return `This process lacks ${missing.join(" and ")}: ${describeGrants(missing)}`;
}

/** Returns true unless all user ids are mapped to themselves, as in the initial user namespace. */
function isInUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    // The file is absent in a kernel without user namespaces.
    return false;
  }
}
