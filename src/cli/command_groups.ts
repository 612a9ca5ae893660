/** @module The commands of `bun-bpf`, in the order of its help. */

import { btfCommand } from "./btf_command.ts";
import { featuresCommand } from "./features_command.ts";
import { linkCommand } from "./link_command.ts";
import { mapCommand } from "./map_command.ts";
import { mapEditCommands } from "./map_edit_commands.ts";
import { mapEventsCommand } from "./map_events_command.ts";
import { netCommand } from "./net_command.ts";
import { progCommand } from "./prog_command.ts";

/** Functions that add the commands to the program. */
export const commandGroups = [
  featuresCommand,
  mapCommand,
  mapEditCommands,
  mapEventsCommand,
  progCommand,
  linkCommand,
  netCommand,
  btfCommand,
];
