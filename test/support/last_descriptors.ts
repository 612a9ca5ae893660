import { closeSync, openSync } from "node:fs";

/** Opens files until only `spare` descriptors are free. The limit of the process (`ulimit -n`) should be small. */
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

/** Returns the command that runs Bun with a limit of `count` descriptors. */
export function bunWithDescriptors(count: number, args: readonly string[]): string[] {
  return ["sh", "-c", `ulimit -n ${count}; exec "$@"`, "sh", process.execPath, ...args];
}
