import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { keyring } from "./tools.ts";

/** Debian's mirror, and the archive of releases that the mirror no longer has. */
const mirrors = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
const downloadTimeout = 600_000;

/**
 * A release of Debian for one architecture. apt reads it with separate directories, independent of the packages on this machine,
 * and verifies the signature of the index and the checksum of each package.
 */
export class Archive {
  readonly #suite: string;
  readonly #architecture: string;
  readonly #folder: string;
  readonly #packages: string;

  /** @param cache the directory for all downloads */
  constructor(suite: string, architecture: string, cache: string) {
    this.#suite = suite;
    this.#architecture = architecture;
    this.#folder = join(cache, "index", `${suite}-${architecture}`);
    this.#packages = join(cache, "packages");
  }

  /** Reads the index. @throws {Error} with the message of apt. */
  async update(): Promise<void> {
    for (const folder of ["lists/partial", "cache/archives/partial"]) {
      mkdirSync(join(this.#folder, folder), { recursive: true });
    }
    const refusals: string[] = [];
    for (const uri of mirrors) {
      writeFileSync(
        join(this.#folder, "debian.sources"),
        `Types: deb\nURIs: ${uri}\nSuites: ${this.#suite}\nComponents: main\nSigned-By: ${keyring}\n`,
      );
      const { exitCode, stderr } = await this.#apt("apt-get", "update", "--error-on=any");
      if (exitCode === 0) return;
      refusals.push(stderr.trim());
    }
    throw new Error(`cannot read the index of Debian ${this.#suite}: ${refusals.join("\n")}`);
  }

  /** Returns the names of a package's dependencies (the first alternatives). @throws {Error} if there is no such package. */
  async dependencies(name: string): Promise<string[]> {
    const text = await this.#show(name);
    const lists = Array.from(text.matchAll(/^(?:Pre-)?Depends: (.*)$/gm), ([, list = ""]) => list);
    return lists.flatMap((list) => list.split(", ")).map((item) => item.split(/[ :|]/)[0] ?? "");
  }

  /** Downloads and unpacks a package, unless it was unpacked before. Returns its directory. */
  async unpacked(name: string): Promise<string> {
    const version = /^Version: (.*)$/m.exec(await this.#show(name))?.[1] ?? "";
    const folder = join(this.#packages, `${name}_${version}_${this.#architecture}`);
    if (existsSync(folder)) return folder;
    const downloads = `${folder}.part`;
    mkdirSync(downloads, { recursive: true });
    const download = await this.#apt("apt-get", "download", `${name}=${version}`, downloads);
    if (download.exitCode !== 0) throw new Error(`cannot download ${name}: ${download.stderr}`);
    const [file = ""] = readdirSync(downloads).filter((entry) => entry.endsWith(".deb"));
    const contents = join(downloads, "contents");
    const unpacking = await run(["dpkg-deb", "--extract", join(downloads, file), contents]);
    if (unpacking.exitCode !== 0) throw new Error(`cannot unpack ${file}: ${unpacking.stderr}`);
    // The directory is renamed at the end, so that an interruption leaves no incomplete one.
    renameSync(contents, folder);
    rmSync(downloads, { recursive: true });
    return folder;
  }

  async #show(name: string): Promise<string> {
    const { exitCode, stdout, stderr } = await this.#apt("apt-cache", "show", name);
    if (exitCode !== 0) throw new Error(`Debian ${this.#suite} has no package ${name}: ${stderr}`);
    return stdout;
  }

  #apt(program: "apt-get" | "apt-cache", command: string, argument: string, cwd = this.#folder) {
    const options = {
      "Dir::Etc::sourcelist": join(this.#folder, "debian.sources"),
      "Dir::Etc::sourceparts": "-",
      "Dir::State::lists": join(this.#folder, "lists"),
      // Ignores the packages that this machine has installed.
      "Dir::State::status": "/dev/null",
      "Dir::Cache": join(this.#folder, "cache"),
      "APT::Architecture": this.#architecture,
      "APT::Architectures": this.#architecture,
      "APT::Cache::AllVersions": "false",
      // apt's sandbox user cannot write to this user's home directory.
      "APT::Sandbox::User": "root",
      "Acquire::Languages": "none",
      // The index of a release that is no longer updated has expired.
      "Acquire::Check-Valid-Until": "false",
      "Acquire::Retries": "3",
    };
    const flags = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    return run([program, ...flags, command, argument], { cwd, timeout: downloadTimeout });
  }
}
