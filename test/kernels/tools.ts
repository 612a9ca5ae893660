import { existsSync } from "node:fs";
import { run } from "../support/run.ts";
import type { Architecture } from "./targets.ts";

/** Installs missing tools with apt. @throws {Error} if that is not possible, with the reason. */
export async function installTools({ emulator, emulatorPackage }: Architecture): Promise<void> {
  const missing = [
    ...(Bun.which(emulator) === null ? [emulatorPackage] : []),
    ...(Bun.which("cpio") === null ? ["cpio"] : []),
    ...(existsSync(keyring) ? [] : ["debian-archive-keyring"]),
  ];
  if (missing.length === 0) return;
  for (const tool of ["apt-get", "dpkg-deb"]) {
    if (Bun.which(tool) === null) {
      throw new Error(
        `cannot install ${missing.join(", ")}: this system has no ${tool}, which is needed to download the kernels, too`,
      );
    }
  }
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  const options = { timeout: 600_000, env: { DEBIAN_FRONTEND: "noninteractive" } };
  if ((await run(install, options)).exitCode === 0) return;
  // The package index may be old or missing.
  await run(["apt-get", "update"], options);
  const { exitCode, stderr } = await run(install, options);
  if (exitCode !== 0) throw new Error(`cannot install ${missing.join(", ")}: ${stderr.trim()}`);
}

/** The keys with which apt verifies Debian's indexes. */
export const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
