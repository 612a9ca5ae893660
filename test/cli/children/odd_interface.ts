/**
 * Attaches to the interface with the index 1 in a new network namespace, and prints the outputs of the command about that link as
 * JSON.
 */
import { attachXdp } from "../../link/attachments.ts";

const [mainFile] = process.argv.slice(2) as [string];
using attached = attachXdp();
const { id, programId } = attached.link.info();
const commands = [
  ["link", "list"],
  ["link", "show", `${id}`],
  ["prog", "show", `${programId}`],
];
const outputs = commands
  .flatMap((args) => [args, [...args, "--json"]])
  .map((args) => Bun.spawnSync([process.execPath, mainFile, ...args]).stdout.toString());
console.log(JSON.stringify(outputs));
