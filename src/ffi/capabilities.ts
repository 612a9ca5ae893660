import { readFileSync } from "node:fs";

/** Bits of the capabilities that BPF asks for (include/uapi/linux/capability.h). */
const capabilityBits = {
  CAP_NET_ADMIN: 12n,
  CAP_SYS_ADMIN: 21n,
  CAP_SYS_RESOURCE: 24n,
  CAP_PERFMON: 38n,
  CAP_BPF: 39n,
} as const;

/** A capability that BPF asks for. */
export type Capability = keyof typeof capabilityBits;

/** Whether this process has a capability in its effective set. */
export function hasCapability(capability: Capability): boolean {
  const text = readFileSync("/proc/self/status", "utf8");
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? "0"}`);
  return ((bits >> capabilityBits[capability]) & 1n) === 1n;
}

const howToGrant =
  "run as root (sudo -E), give the Bun binary the capabilities (setcap cap_bpf,cap_perfmon+ep), or start the container with --cap-add BPF --cap-add PERFMON";

/**
 * Explains a refusal for want of privilege: names what is missing, of `needed`, and how to get it.
 * CAP_SYS_ADMIN stands for all others, as it does in the kernel.
 */
export function explainPermission(needed: readonly Capability[]): string {
  const missing = hasCapability("CAP_SYS_ADMIN")
    ? []
    : needed.filter((capability) => !hasCapability(capability));
  if (missing.length > 0) {
    return `This process lacks ${missing.join(" and ")}: ${howToGrant}`;
  }
  const lockdown = readLockdown();
  if (lockdown !== undefined && lockdown !== "none") {
    return `The kernel is locked down (${lockdown} in /sys/kernel/security/lockdown), which forbids this`;
  }
  return `This process has ${needed.join(" and ")}, so something else forbids it: a seccomp filter or security module of the container, or the kernel's configuration`;
}

function readLockdown(): string | undefined {
  try {
    return /\[(\w+)\]/.exec(readFileSync("/sys/kernel/security/lockdown", "utf8"))?.[1];
  } catch {
    // No such file without securityfs or the lockdown module: then nothing is locked down by it.
    return undefined;
  }
}
