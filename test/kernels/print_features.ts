// Prints the features of this kernel as `bun-bpf features --json` does, but without the command's dependencies.
import { reportFeatures } from "../../src/cli/features_command.ts";
import { features } from "../../src/index.ts";

console.log(JSON.stringify(reportFeatures(features)));
