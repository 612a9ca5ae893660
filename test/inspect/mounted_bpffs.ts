import { mkdirSync, mkdtempSync, renameSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A BPF file system that is mounted at a folder of its own until it is disposed of. */
export class MountedBpffs implements Disposable {
  readonly path: string;

  /** @param name of the folder, which may be an odd one; @throws {Error} where this process may not mount */
  constructor(name = "bpffs-") {
    this.path = mkdtempSync(join(tmpdir(), name));
    const { success, stderr } = Bun.spawnSync(["mount", "-t", "bpf", "bpf", this.path]);
    if (success) return;
    rmdirSync(this.path);
    throw new Error(`mount: ${stderr.toString().trim()}`);
  }

  /** Makes folders in one another, 45 of 200 characters: deeper than the path of a file may be long. */
  makeDeepTree(): void {
    const name = "d".repeat(200);
    const chain = join(this.path, ...Array.from({ length: 15 }, () => name));
    const upper = join(this.path, "upper");
    mkdirSync(chain, { recursive: true });
    for (let round = 0; round < 2; round++) {
      renameSync(join(this.path, name), upper);
      mkdirSync(chain, { recursive: true });
      renameSync(upper, join(chain, name));
    }
  }

  [Symbol.dispose](): void {
    Bun.spawnSync(["umount", this.path]);
    // Only an empty folder goes: what is in a mount that stayed is left alone.
    rmdirSync(this.path);
  }
}

/** Why none can be mounted here, or `undefined` where it can. */
export const mountObstacle: string | undefined = findObstacle();

function findObstacle(): string | undefined {
  try {
    new MountedBpffs()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
