import { closeSync, openSync } from "node:fs";

/** Opens files until no descriptor is left, but for some. For processes whose limit is small (`ulimit -n`). */
export function takeDescriptors(spare: number): Disposable {
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync("/dev/null", "r"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EMFILE") throw error;
  }
  for (let count = 0; count < spare; count++) closeSync(taken.pop() as number);
  return {
    [Symbol.dispose]() {
      for (const fd of taken.splice(0)) closeSync(fd);
    },
  };
}

/** The command that runs Bun with room for so many descriptors. */
export function bunWithDescriptors(count: number, args: readonly string[]): string[] {
  return ["sh", "-c", `ulimit -n ${count}; exec "$@"`, "sh", process.execPath, ...args];
}
