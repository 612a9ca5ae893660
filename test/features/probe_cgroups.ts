import { readdirSync } from "node:fs";
import { mountCgroups } from "../../src/features/attach_probes.ts";

/** Returns the cgroups of probes that are running, or that have not removed them. */
export function probeCgroups(): string[] {
  using mount = mountCgroups();
  return readdirSync(mount.path).filter((name) => name.startsWith("bun-bpf"));
}
