import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { mountCgroups } from "../../src/features/attach_probes.ts";

/** A new cgroup in a private mount of the cgroup2 file system. Disposal removes it, and its processes have to have ended. */
export class TestCgroup implements Disposable {
  readonly #mount: DetachedMount;
  readonly path: string;

  constructor(name = `test-${crypto.randomUUID()}`) {
    this.#mount = mountCgroups();
    this.path = `${this.#mount.path}/${name}`;
    mkdirSync(this.path);
  }

  /** Makes a cgroup in this one, which the caller removes. */
  makeChild(name: string): string {
    const path = `${this.path}/${name}`;
    mkdirSync(path);
    return path;
  }

  /** Moves a process into the cgroup. */
  add(pid: number): void {
    writeFileSync(`${this.path}/cgroup.procs`, `${pid}`);
  }

  [Symbol.dispose](): void {
    // A process that has ended leaves its cgroup a little later.
    for (const deadline = Date.now() + 10_000; ;) {
      if (readFileSync(`${this.path}/cgroup.procs`, "utf8") === "" || Date.now() > deadline) break;
      Bun.sleepSync(10);
    }
    rmdirSync(this.path);
    this.#mount[Symbol.dispose]();
  }
}
