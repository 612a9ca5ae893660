/**
 * Runs the tests that use random numbers again and again, each round from new seeds, until one fails or the time is over. A failed
 * test prints its seed.
 *
 *   bun run test:random [--minutes N]   (default: one round)
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const { values } = parseArgs({
  options: { minutes: { type: "string", default: "0" }, help: { type: "boolean" } },
});
if (values.help) {
  console.log("usage: bun run test:random [--minutes N]   (default: one round)");
  process.exit(0);
}
const minutes = Number(values.minutes);
if (!(minutes >= 0)) throw new RangeError(`--minutes: expected a number, got ${values.minutes}`);

const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(root)].filter((file) =>
  /\/random(_numbers)?\.ts"|Math\.random\(/.test(readFileSync(join(root, file), "utf8")),
);
const end = Date.now() + minutes * 60_000;
let round = 0;
do {
  console.error(`== round ${++round} of ${files.length} files`);
  const { exitCode } = Bun.spawnSync([process.execPath, "test", "--timeout", "600000", ...files], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  // A signal, such as that of a crash, leaves no exit code.
  if (exitCode !== 0) process.exit(exitCode ?? 1);
} while (Date.now() < end);
