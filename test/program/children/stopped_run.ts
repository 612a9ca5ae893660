// Runs a program many times while a shell repeatedly stops and continues this process. Prints the minimum number of runs as JSON.
import { ArrayMap, asm, Program, t } from "../../../src/index.ts";

const { r0, r1, r2 } = asm;
const repeat = 200_000;
/** Number of stops, some of which happen while the program runs, because it runs most of the time. */
const enoughStops = 10;
const data = new Uint8Array(14);

using runs = new ArrayMap({ value: t.u64Number, length: 1 });
using program = new Program({
  section: "socket",
  license: "GPL",
  maps: { runs },
  code: [
    asm.ldMapValue(r1, "runs", 0),
    asm.mov(r2, 1),
    asm.atomicAdd(r1, 0, r2),
    asm.mov(r0, 7),
    asm.exit(),
  ],
});

let stops = 0;
process.on("SIGCONT", () => stops++);
const stopper = Bun.spawn(
  ["sh", "-c", `while kill -STOP ${process.pid} && kill -CONT ${process.pid}; do sleep 0.02; done`],
  { stderr: "ignore" },
);
let least = Infinity;
let returnValue;
while (stops < enoughStops) {
  runs.set(0, 0);
  ({ returnValue } = program.testRun({ data, repeat }));
  least = Math.min(least, runs.get(0) ?? 0);
  await Bun.sleep(0);
}
stopper.kill();
await stopper.exited;
console.log(JSON.stringify({ runs: least, repeat, returnValue }));
