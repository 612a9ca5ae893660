// Prints the number of calls to functions of src that one `get` of a HashMap makes.
import { Session } from "node:inspector/promises";

const session = new Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
// Functions that were loaded earlier are not counted.
const { HashMap, t } = await import("../../../src/index.ts");
using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
map.set(1, 2n).get(1);

await session.post("Profiler.takePreciseCoverage");
const gets = 10;
for (let i = 0; i < gets; i++) map.get(1);
const { result } = await session.post("Profiler.takePreciseCoverage");
const counts = result
  .filter(({ url }) => url.includes("/src/"))
  .flatMap(({ functions }) => functions.map(({ ranges }) => ranges[0]))
  // A range from 0 is a whole file.
  .map((range) => (range === undefined || range.startOffset === 0 ? 0 : range.count));
console.log(counts.reduce((sum, count) => sum + count, 0) / gets);
