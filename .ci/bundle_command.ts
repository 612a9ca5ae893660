/**
 * Bundles the command for the package. The bundle contains the packages that the command uses, so that the published package
 * has no dependencies. Writes their licenses beside the bundle.
 *
 *   bun .ci/bundle_command.ts [FOLDER]   (default: dist)
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dir, "..");
const src = join(root, "src");
const target = resolve(process.argv[2] ?? join(root, "dist"));

const { metafile } = await Bun.build({
  entrypoints: [join(src, "cli/main.ts")],
  root: join(src, "cli"),
  outdir: target,
  naming: "cli.[ext]",
  target: "bun",
  format: "cjs",
  bytecode: true,
  minify: { whitespace: true, syntax: true, identifiers: false },
  metafile: true,
});
if (metafile === undefined) throw new Error("the bundler returned no metafile");
const packages = new Set(
  Object.keys(metafile.inputs).flatMap((input) => {
    const match = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
    return match === null ? [] : [resolve(match[0])];
  }),
);
const licenses = [...packages].map((path) => {
  const { name, version } = JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as {
    name: string;
    version: string;
  };
  return `${name} ${version}\n\n${readFileSync(join(path, "LICENSE"), "utf8").trim()}\n`;
});
await Bun.write(join(target, "cli.licenses.txt"), licenses.join(`\n${"-".repeat(72)}\n\n`));
