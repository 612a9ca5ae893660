import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { packageRoot, run } from "../support/run.ts";
import { Archive } from "./archive.ts";
import { cached } from "./cached.ts";
import type { Architecture } from "./targets.ts";

/** The Debian release of the guests' C library and programs. */
const suite = "trixie";

/** Programs that tests start or copy, which must be separate files. They need only the C library. */
const programs = ["cat", "echo", "env", "false", "sleep", "true"];

/** Other programs that tests and the guest's script call: links to busybox, which chooses the program by the name of the link. */
const applets = [
  ...[
    "chmod",
    "cp",
    "dmesg",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
  ],
  ...[
    "mount",
    "mv",
    "poweroff",
    "ps",
    "rm",
    "sed",
    "seq",
    "sh",
    "stty",
    "tail",
    "touch",
    "umount",
    "uname",
  ],
  "unshare",
];

/** The Debian packages of the guests, by their role. */
const packages = {
  /** The C library with the dynamic loader. */
  libc: "libc6",
  /** Package with the locale C.UTF-8, without which bash treats each byte as a character. */
  locale: "libc-bin",
  busybox: "busybox-static",
  coreutils: "coreutils",
  bash: "bash-static",
  /** Tests compare results with it. It needs the libraries below. */
  bpftool: "bpftool",
  capabilities: "libcap2",
  elf: "libelf1t64",
  zlib: "zlib1g",
  zstd: "libzstd1",
} as const;

/** Packages whose shared libraries guests need. */
const libraries = ["capabilities", "elf", "zlib", "zstd"] as const;

/** The directories of the unpacked packages. */
type UserLand = Readonly<Record<keyof typeof packages, string>>;

function fetchUserLand({ debian }: Architecture, cache: string): Promise<UserLand> {
  const names = Object.values(packages).join("+");
  const exist = (folders: UserLand) => Object.values(folders).every((path) => existsSync(path));
  return cached(join(cache, `${names}-${debian}.json`), exist, async () => {
    const archive = new Archive(suite, debian, cache);
    await archive.update();
    const folders: [string, string][] = [];
    for (const [part, name] of Object.entries(packages)) {
      folders.push([part, await archive.unpacked(name)]);
    }
    return Object.fromEntries(folders) as UserLand;
  });
}

/** Returns the path of Bun for an architecture: this program, or the same version from the npm registry. */
async function fetchBun({ name, bunPackage }: Architecture, cache: string): Promise<string> {
  if (name === process.arch) return process.execPath;
  const wanted = `${bunPackage}@${Bun.version}`;
  const folder = join(cache, "packages", wanted.replace("/", "-"));
  const program = join(folder, "package/bin/bun");
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  // npm verifies the checksum in the registry's index.
  const packing = await run(["npm", "pack", wanted, "--pack-destination", folder], {
    timeout: 600_000,
  });
  if (packing.exitCode !== 0) throw new Error(`cannot download ${wanted}: ${packing.stderr}`);
  const archive = join(folder, packing.stdout.trim().split("\n").at(-1) ?? "");
  await check(["tar", "-xzf", archive, "-C", folder]);
  rmSync(archive);
  return program;
}

/**
 * Makes the archive with the part of a guest's file system that is the same for all runs; the kernel unpacks it into memory.
 * It is not compressed, because an emulated processor needs seconds to decompress it.
 */
export async function systemArchive(architecture: Architecture, cache: string): Promise<string> {
  const bun = await fetchBun(architecture, cache);
  const userLand = await fetchUserLand(architecture, cache);
  // The archive is made again if Bun, a package or this file changes.
  const parts = [Bun.version, ...Object.values(userLand), await Bun.file(import.meta.path).text()];
  const version = Bun.hash(parts.join()).toString(16);
  const prefix = `system-${architecture.debian}-`;
  const path = join(cache, `${prefix}${version}.cpio`);
  if (existsSync(path)) return path;
  const { libc, busybox, coreutils, bash, locale, bpftool } = userLand;
  // Removes earlier archives.
  for (const file of readdirSync(cache)) {
    if (file.startsWith(prefix) && file.endsWith(".cpio")) rmSync(join(cache, file));
  }
  const root = mkdtempSync(join(cache, "root-"));
  try {
    for (const folder of ["usr/bin", "proc", "sys", "dev", "tmp", "root", "etc", "boot"]) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    for (const folder of ["lib", "lib64"]) {
      const from = join(libc, "usr", folder);
      if (!existsSync(from)) continue;
      cpSync(from, join(root, "usr", folder), { recursive: true, verbatimSymlinks: true });
    }
    // Modules for other character sets are the larger half of the C library.
    rmSync(join(root, "usr/lib", architecture.multiarch, "gconv"), {
      recursive: true,
      force: true,
    });
    for (const library of libraries) {
      const folder = join("usr/lib", architecture.multiarch);
      cpSync(join(userLand[library], folder), join(root, folder), {
        recursive: true,
        verbatimSymlinks: true,
      });
    }
    cpSync(join(bpftool, "usr/sbin/bpftool"), join(root, "usr/bin/bpftool"));
    cpSync(join(locale, "usr/lib/locale"), join(root, "usr/lib/locale"), { recursive: true });
    cpSync(join(busybox, "usr/bin/busybox"), join(root, "usr/bin/busybox"));
    cpSync(join(bash, "usr/bin/bash-static"), join(root, "usr/bin/bash"));
    for (const program of programs) {
      cpSync(join(coreutils, "usr/bin", program), join(root, "usr/bin", program));
    }
    cpSync(bun, join(root, "usr/bin/bun"), { dereference: true });
    await check(["ln", "-s", "usr/bin", "usr/lib", "usr/lib64", root]);
    for (const applet of applets)
      await check(["ln", "-s", "busybox", join(root, "usr/bin", applet)]);
    await writeArchive(root, path);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  return path;
}

/** Makes an archive of the project's working tree and further files. */
export async function projectArchive(
  path: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  const root = mkdtempSync(join(dirname(path), "project-"));
  try {
    const listed = await check(
      ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
      packageRoot,
    );
    for (const file of listed.split("\0")) {
      const from = join(packageRoot, file);
      // A listed file may be deleted without a commit.
      if (file !== "" && existsSync(from)) cpSync(from, join(root, "project", file));
    }
    for (const name of modules) {
      const from = join("node_modules", name);
      cpSync(join(packageRoot, from), join(root, "project", from), { recursive: true });
    }
    await check(
      [process.execPath, ".ci/bundle_command.ts", join(root, "project/dist")],
      packageRoot,
    );
    cpSync(join(import.meta.dir, "init.sh"), join(root, "init"));
    chmodSync(join(root, "init"), 0o755);
    for (const [name, from] of Object.entries(files)) cpSync(from, join(root, name));
    await writeArchive(root, path);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Packages that the library and the command import on other kernels, where both run from their sources. */
const modules = ["acorn", "commander", "console-table-printer", "simple-wcswidth"];

async function writeArchive(root: string, path: string): Promise<void> {
  const part = `${path}.part`;
  await check(
    ["sh", "-c", 'find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 > "$1"', "sh", part],
    root,
  );
  renameSync(part, path);
}

async function check(command: readonly string[], cwd?: string): Promise<string> {
  const { exitCode, stdout, stderr } = await run(command, cwd === undefined ? {} : { cwd });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout;
}
