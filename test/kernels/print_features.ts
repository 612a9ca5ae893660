// Prints what features this kernel has, for a comparison of kernels: the same as `bun-bpf features --json`, which has dependencies.
import { reportFeatures } from "../../src/cli/features_command.ts";
import { features } from "../../src/index.ts";

console.log(JSON.stringify(reportFeatures(features)));
