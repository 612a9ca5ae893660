/** @module The commands of `bun-bpf`, in the order of its help. */

import { btfCommand } from "./btf_command.ts";
import { featuresCommand } from "./features_command.ts";
import { linkCommand } from "./link_command.ts";
import { mapCommand } from "./map_command.ts";
import { mapEditCommands } from "./map_edit_commands.ts";
import { mapEventsCommand } from "./map_events_command.ts";
import { netCommand } from "./net_command.ts";
import { progCommand } from "./prog_command.ts";
import { progAttachCommand } from "./prog_attach_command.ts";
import { progDumpCommand } from "./prog_dump_command.ts";
import { progLoadCommand } from "./prog_load_command.ts";
import { progProfileCommand } from "./prog_profile_command.ts";

/** Functions that add the commands to the program. */
export const commandGroups = [
  featuresCommand,
  mapCommand,
  mapEditCommands,
  mapEventsCommand,
  progCommand,
  progLoadCommand,
  progAttachCommand,
  progDumpCommand,
  progProfileCommand,
  linkCommand,
  netCommand,
  btfCommand,
];
