#!/usr/bin/env -S bun --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * The command `bun-bpf`, which shows and changes the BPF objects in the kernel.
 *
 *   bun src/cli/main.ts map list
 */
import { runCommandLine } from "./command_line.ts";
import { commandGroups } from "./command_groups.ts";

void runCommandLine(commandGroups, process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
