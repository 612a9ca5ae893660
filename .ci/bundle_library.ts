/**
 * Bundles the library for the package, for a fast start.
 *
 *   bun .ci/bundle_library.ts [FOLDER]   (default: dist)
 *
 * index.cjs   the entry point: loads core.cjs; bundlers follow it to the sources, and Node gets an error
 * core.cjs    `t`, HashMap, openHandles and what they need, with bytecode; stand-ins for all other exports
 * rest.cjs    all other exports, with bytecode; loaded when a stand-in is used
 * numbers.cjs the kernel's constants for scripts, with bytecode; loaded when one is used
 * compiler.cjs the compiler of kernel code, with bytecode; loaded when `bpf` is used. It loads acorn when it compiles
 */
import { readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import type { BunPlugin } from "bun";

const root = join(import.meta.dir, "..");
const src = join(root, "src");
const target = resolve(process.argv[2] ?? join(root, "dist"));

/** The exports in core.cjs, with all their imports. They include openHandles, which has to trace from the start. */
const coreExports = ["t", "HashMap", "openHandles"];

/** A value that index.ts exports, and the file that defines it. */
interface Export {
  readonly name: string;
  readonly path: string;
  readonly isNamespace: boolean;
}

function readExports(): Export[] {
  const index = readFileSync(join(src, "index.ts"), "utf8");
  const reexport = /^export (?:\* as (\w+)|\{([^}]*)\}) from "(.+)";$/gm;
  return [...index.matchAll(reexport)].flatMap(([, namespace, list = "", path = ""]) =>
    [namespace ?? list.split(",")]
      .flat()
      .map((name) => name.trim())
      .filter((name) => /^\w+$/.test(name))
      .map((name) => ({ name, path: join(src, path), isNamespace: namespace !== undefined })),
  );
}

/** Returns a statement with the same export as in index.ts. */
function reexport({ name, path, isNamespace }: Export): string {
  return isNamespace
    ? `export * as ${name} from ${JSON.stringify(path)};`
    : `export { ${name} } from ${JSON.stringify(path)};`;
}

/** Returns a plugin that makes the given text the entry point. */
function entry(name: string, contents: string): BunPlugin {
  return {
    name,
    setup(build) {
      build.onResolve({ filter: /^entry:/ }, ({ path }) => ({ path, namespace: "entry" }));
      build.onLoad({ filter: /./, namespace: "entry" }, () => ({ contents, loader: "js" }));
    },
  };
}

/** Leaves imports between the bundles unchanged. */
const otherBundle: BunPlugin = {
  name: "other bundle",
  setup(build) {
    build.onResolve({ filter: /^\.\/(core|rest|numbers|compiler)\.cjs$/ }, ({ path }) => ({
      path,
      external: true,
    }));
  },
};

async function bundle(name: string, contents: string, ...plugins: BunPlugin[]): Promise<void> {
  await Bun.build({
    entrypoints: ["entry:"],
    root,
    outdir: target,
    naming: `${name}.cjs`,
    target: "bun",
    format: "cjs",
    bytecode: true,
    external: ["acorn"],
    sourcemap: "linked",
    // Identifiers are kept, because stack traces show them.
    minify: { whitespace: true, syntax: true, identifiers: false },
    plugins: [entry(name, contents), otherBundle, ...plugins],
  });
  // The entry point refers to files by absolute paths of this machine.
  const map = Bun.file(join(target, `${name}.cjs.map`));
  await map.write((await map.text()).replaceAll(root, ".."));
}

/**
 * Returns the files of which a bundle of these exports consists, without src/uapi: bundlers inline its constants, so each
 * bundle has its own copies.
 */
async function filesOf(exports: readonly Export[]): Promise<string[]> {
  const { metafile } = await Bun.build({
    entrypoints: ["entry:"],
    target: "bun",
    external: ["acorn"],
    metafile: true,
    plugins: [entry("files", exports.map(reexport).join("\n"))],
  });
  if (metafile === undefined) throw new Error("the bundler returned no metafile");
  const inputs = Object.keys(metafile.inputs).map((input) => resolve(input));
  return inputs.filter(
    (path) => path.startsWith(`${src}/`) && !path.startsWith(join(src, "uapi/")),
  );
}

/** Returns the names of a module's exports. Their values must never change, because the bundles copy them. */
async function valuesOf(path: string): Promise<string[]> {
  if (/^export (let|var) /m.test(readFileSync(path, "utf8"))) {
    throw new Error(
      `${path} exports a variable, whose changes rest.cjs would not see: export a constant or a function`,
    );
  }
  return Object.keys((await import(path)) as object);
}

const exports = readExports();
const values = (await import(join(src, "index.ts"))) as Record<string, unknown>;
const missing = Object.keys(values).filter((name) => !exports.some((each) => each.name === name));
if (missing.length > 0)
  throw new Error(`index.ts exports ${missing.join()} in a form that this script does not support`);

const coreFiles = await filesOf(exports.filter(({ name }) => coreExports.includes(name)));
const direct = exports.filter(({ path }) => coreFiles.includes(path));
const deferred = exports.filter(({ path }) => !coreFiles.includes(path));
/** The kernel's constants, which are loaded when a script uses one. */
const numbers = deferred.filter(({ path }) => path.startsWith(join(src, "uapi/")));
/** The compiler, which most scripts do not use. */
const compiler = deferred.filter(({ path }) => path.startsWith(join(src, "compiler/")));
const rest = deferred.filter((each) => !numbers.includes(each) && !compiler.includes(each));
/** The files of rest.cjs that the compiler shares with it. */
const sharedFiles = (await filesOf(compiler)).filter(
  (path) => !coreFiles.includes(path) && !path.startsWith(join(src, "compiler/")),
);

/** Returns the name of the function in deferred.ts that makes the stand-in. */
function standIn({ name, isNamespace }: Export): string {
  const value = values[name];
  if (isNamespace) return "deferredNamespace";
  if (typeof value !== "function") return "deferredInstance";
  return /^class\b/.test(Function.prototype.toString.call(value))
    ? "deferredClass"
    : "deferredFunction";
}

const modules = await Promise.all(
  coreFiles.map(async (path, index) => {
    const names = await valuesOf(path);
    const list = (separator: string) =>
      names.map((name) => `${name}${separator}${name}_${index}`).join();
    return {
      imports: `import { ${list(" as ")} } from ${JSON.stringify(path)};`,
      entry: `${keyOf(path)}: () => ({ ${list(": ")} })`,
    };
  }),
);

/** Returns the key of a module, as a literal, in the table by which rest.cjs accesses the modules of core.cjs. */
function keyOf(path: string): string {
  return JSON.stringify(relative(src, path));
}

/** Returns a statement that imports an export under its name. */
function importOf({ name, path, isNamespace }: Export): string {
  return `import ${isNamespace ? `* as ${name}` : `{ ${name} }`} from ${JSON.stringify(path)};`;
}

// The library has one hook, which explains errors by probes. The hook is loaded when an error is to be explained.
const explanation = JSON.stringify(join(src, "ffi/explanation.ts"));
const features = JSON.stringify(join(src, "features/features.ts"));

await bundle(
  "core",
  `import * as deferred from ${JSON.stringify(join(src, "start/deferred.ts"))};
import { registerExplainer } from ${explanation};
${direct.map(importOf).join("\n")}
${modules.map(({ imports }) => imports).join("\n")}
const rest = (name) => deferred.loadPart(() => require("./rest.cjs"))[name]();
const numbers = (name) => deferred.loadPart(() => require("./numbers.cjs"))[name];
const compiler = (name) => deferred.loadPart(() => require("./compiler.cjs"))[name]();
registerExplainer(deferred.deferredInstance(rest, "explainer"));
export const library = {
  ${direct.map(({ name }) => `${name},`).join("\n")}
  ${rest.map((each) => `${each.name}: deferred.${standIn(each)}(rest, "${each.name}"),`).join("\n")}
  ${numbers.map((each) => `${each.name}: deferred.${standIn(each)}(numbers, "${each.name}"),`).join("\n")}
  ${compiler.map((each) => `${each.name}: deferred.${standIn(each)}(compiler, "${each.name}"),`).join("\n")}
};
export const modules = { ${modules.map((each) => each.entry).join(",\n")} };
`,
);

/** Returns a statement that exports a function, which returns an export of the library. */
function lazyExport({ name, path, isNamespace }: Export): string {
  const module = `require(${JSON.stringify(path)})`;
  // Removes the property __esModule, which the bundler adds to a namespace.
  const members = `(({ __esModule, ...members }) => members)(${module})`;
  return `export const ${name} = () => ${isNamespace ? members : `${module}.${name}`};`;
}

/** Returns a plugin that takes modules from another bundle, which exports a table of them. */
function modulesOf(file: string, paths: readonly string[]): BunPlugin {
  return {
    name: `modules of ${file}`,
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (!paths.includes(path)) return undefined;
        const names = (await valuesOf(path)).join();
        return {
          contents: `import { modules } from "./${file}";
export const { ${names} } = modules[${keyOf(path)}]();`,
          loader: "js",
        };
      });
    },
  };
}

await bundle(
  "rest",
  `import { explainer as current } from ${explanation};
export const explainer = () => (require(${features}), current());
${rest.map(lazyExport).join("\n")}
export const modules = {
  ${sharedFiles.map((path) => `${keyOf(path)}: () => require(${JSON.stringify(path)}),`).join("\n")}
};
`,
  modulesOf("core.cjs", coreFiles),
);

await bundle(
  "compiler",
  compiler.map(lazyExport).join("\n"),
  modulesOf("core.cjs", coreFiles),
  modulesOf("rest.cjs", sharedFiles),
);

await bundle("numbers", numbers.map(reexport).join("\n"));

await Bun.write(
  join(target, "index.cjs"),
  `"use strict";
if (typeof Bun === "undefined") {
  const error = new Error("bun-bpf runs on Bun: start the program with \`bun FILE\` (https://bun.com)");
  error.stack = String(error);
  throw error;
}
// Bundlers follow only the second path. In their bundles there is no \`module.require\`.
const { require: load } = module;
module.exports = load ? load.call(module, "./core.cjs").library : require("../src/index.ts");
// The names of the exports, which Node reads without running this file.
0 && (module.exports = { ${exports.map(({ name }) => name).join(", ")} });
`,
);
