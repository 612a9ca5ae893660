import { mkdirSync, mkdtempSync, renameSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A BPF file system that is mounted at a new directory until it is disposed of. */
export class MountedBpffs implements Disposable {
  readonly path: string;

  /** @param name the prefix of the directory's name @throws {Error} if this process may not mount. */
  constructor(name = "bpffs-") {
    this.path = mkdtempSync(join(tmpdir(), name));
    const { success, stderr } = Bun.spawnSync(["mount", "-t", "bpf", "bpf", this.path]);
    if (success) return;
    rmdirSync(this.path);
    throw new Error(`mount: ${stderr.toString().trim()}`);
  }

  /** Makes 45 nested directories with names of 200 characters, whose path is longer than the kernel accepts. */
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
    // Fails if the file system is still mounted, and removes nothing in it.
    rmdirSync(this.path);
  }
}

/** The reason why this process cannot mount a BPF file system; `undefined` if it can. */
export const mountObstacle: string | undefined = findObstacle();

function findObstacle(): string | undefined {
  try {
    new MountedBpffs()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
