import {
  asm,
  type HashMap,
  type LiveMap,
  Program,
  type t,
  type SectionName,
} from "../../src/index.ts";

const { r0, r1, r2, r3, r4, r10 } = asm;

/** Loads a program for the tracepoint of exec, with any section, that counts execs by process id. */
export function execCounter<const S extends SectionName>(section: S, counts: LiveMap): Program<S> {
  return new Program({
    section,
    license: "GPL",
    name: "exec_counter",
    maps: { counts },
    code: [
      asm.call("get_current_pid_tgid"),
      asm.rsh(r0, 32),
      asm.stxw(r10, -4, r0),
      asm.ldMap(r1, "counts"),
      asm.mov(r2, r10),
      asm.add(r2, -4),
      asm.call("map_lookup_elem"),
      asm.jeq(r0, 0, "first"),
      asm.mov(r1, 1),
      asm.atomicAdd(r0, 0, r1),
      asm.ja("out"),
      asm.label("first"),
      asm.stdw(r10, -16, 1),
      asm.ldMap(r1, "counts"),
      asm.mov(r2, r10),
      asm.add(r2, -4),
      asm.mov(r3, r10),
      asm.add(r3, -16),
      asm.mov(r4, 0),
      asm.call("map_update_elem"),
      asm.label("out"),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
}

/** Starts a process, and returns the number of its execs that were counted. */
export async function countChildExecs(
  counts: HashMap<t.Type<number>, t.Type<number>>,
): Promise<number> {
  const child = Bun.spawn(["/bin/true"], { stdout: "ignore" });
  await child.exited;
  return counts.take(child.pid) ?? 0;
}
