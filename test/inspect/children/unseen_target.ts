/** @module Looks up the targets of tracing links without privilege, which returns none. */
import { FunctionNames } from "../../../src/inspect/objects.ts";

const programId = Number(process.argv[2]);
const names = new FunctionNames();
for (const attachType of ["trace_fentry", "ext"] as const) {
  const target = { targetId: programId, targetTypeId: 1, cookie: undefined };
  console.log(names.targetOf({ id: 1, type: "tracing", programId, attachType, ...target }));
}
