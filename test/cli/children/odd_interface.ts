/**
 * Attaches to the interface with the index 1 in a new network namespace, and prints the outputs of the command about that link as
 * JSON.
 */
import { asm, Program } from "../../../src/index.ts";

const [mainFile] = process.argv.slice(2) as [string];
using program = new Program({
  section: "tcx/ingress",
  license: "GPL",
  code: [asm.mov(asm.r0, 0), asm.exit()],
});
// Links of XDP that another process has made are shown with the index of the interface only.
using link = program.attach({ interface: 1, method: "tcx" });
const { id, programId } = link.info();
const commands = [
  ["link", "list"],
  ["link", "show", `${id}`],
  ["prog", "show", `${programId}`],
];
const outputs = commands
  .flatMap((args) => [args, [...args, "--json"]])
  .map((args) => Bun.spawnSync([process.execPath, mainFile, ...args]).stdout.toString());
console.log(JSON.stringify(outputs));
