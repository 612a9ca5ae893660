#!/usr/bin/env -S bun --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * The command `bun-bpf`, which shows and changes the BPF objects in the kernel.
 *
 *   bun src/cli/main.ts map list
 */
import { runCommandLine } from "./command_line.ts";
import { btfCommand } from "./btf_command.ts";
import { featuresCommand } from "./features_command.ts";
import { linkCommand } from "./link_command.ts";
import { mapCommand } from "./map_command.ts";
import { mapEditCommands } from "./map_edit_commands.ts";
import { mapEventsCommand } from "./map_events_command.ts";
import { progCommand } from "./prog_command.ts";

const groups = [
  featuresCommand,
  mapCommand,
  mapEditCommands,
  mapEventsCommand,
  progCommand,
  linkCommand,
  btfCommand,
];
void runCommandLine(groups, process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
