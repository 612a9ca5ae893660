import { readFileSync } from "node:fs";
import { kernelRelease } from "../ffi/kernel_release.ts";

let cached: ReadonlyMap<string, string> | undefined;

/**
 * The options that the running kernel was built with, by name, with `"y"`, `"m"` or another value; those that are off are not
 * in it. `undefined` where the kernel does not tell and no distribution's file is there.
 */
export function kernelConfig(): ReadonlyMap<string, string> | undefined {
  cached ??= readConfig();
  return cached;
}

function readConfig(): ReadonlyMap<string, string> | undefined {
  const release = kernelRelease();
  const compressed = readIfThere("/proc/config.gz");
  const bytes =
    compressed === undefined
      ? (readIfThere(`/boot/config-${release}`) ?? readIfThere(`/lib/modules/${release}/config`))
      : Buffer.from(Bun.gunzipSync(new Uint8Array(compressed)));
  return bytes && parseKernelConfig(bytes.toString("latin1"));
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    // Which of the files there is, and who may read it, is the distribution's choice.
    if (["ENOENT", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
      return undefined;
    throw error;
  }
}

/** The options in the text of a kernel's configuration. */
export function parseKernelConfig(text: string): ReadonlyMap<string, string> {
  return new Map(
    Array.from(text.matchAll(/^(CONFIG_\w+)=(.*)$/gm), ([, name = "", value = ""]) => [
      name,
      value.replace(/^"(.*)"$/, "$1"),
    ]),
  );
}
