/** @module Names what tracing links are to, of a program by its id: without privilege, none of which can be known. */
import { FunctionNames } from "../../../src/inspect/objects.ts";

const programId = Number(process.argv[2]);
const names = new FunctionNames();
for (const attachType of ["trace_fentry", "ext"] as const) {
  const target = { targetId: programId, targetTypeId: 1, cookie: undefined };
  console.log(names.targetOf({ id: 1, type: "tracing", programId, attachType, ...target }));
}
