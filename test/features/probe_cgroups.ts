import { readdirSync } from "node:fs";
import { mountCgroups } from "../../src/features/attach_probes.ts";

/** The cgroups of trials that there are: those that are under way, or have left theirs behind. */
export function probeCgroups(): string[] {
  using mount = mountCgroups();
  return readdirSync(mount.path).filter((name) => name.startsWith("bun-bpf"));
}
