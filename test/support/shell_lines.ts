/** @module Finds faults in the shell commands that pages show, without running the commands. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { commandGroups } from "../../src/cli/command_groups.ts";
import type { CodeBlock } from "./markdown.ts";
import { packageRoot } from "./run.ts";

/** The languages of blocks with shell commands. `console` has commands after `$ `, and their output. */
export const shellLanguages: ReadonlySet<string> = new Set(["sh", "bash", "shell", "console"]);

/**
 * Commands that pages may show without further checks, with the reason. All others must be commands of this project.
 */
const otherCommands: Readonly<Record<string, string>> = {
  setcap: "test/permissions.test.ts runs it",
  install: "test/permissions.test.ts runs it",
  docker: "needs a daemon and images",
  git: "needs the network",
  "apt-get": "needs the network",
  objdump: "not part of this project",
  jq: "not part of this project",
  mount: "changes the machine; tests use private file systems",
  cd: "a built-in of the shell",
  export: "a built-in of the shell",
  echo: "a built-in of the shell",
};

/** Names of files that readers write themselves. No block of a page has the contents of these files. */
const filesOfReaders: ReadonlySet<string> = new Set(["script.ts"]);

/** A part of a shell line: space, an operator, a comment, a redirection with its file, or a word. */
const token =
  /\s+|(?<operator>&&|\|\||[;|&])|(?<comment>#.*)|\d?(?:>>?|<)&?\s*(?:'[^']*'|"[^"]*"|[^\s;|&'"])*|(?<word>(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s;|&<>'"\\])+)/gy;

/** Splits a line of shell into its simple commands, each of which is a list of words. Redirections are left out. */
export function simpleCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  let end = 0;
  for (const { 0: text, groups = {} } of line.matchAll(token)) {
    end += text.length;
    if (groups["operator"] !== undefined) commands.push([]);
    else if (groups["word"] !== undefined) commands.at(-1)?.push(unquoted(groups["word"]));
  }
  if (end !== line.length) throw new Error(`cannot split at ${line.slice(end)}`);
  return commands.filter(({ length }) => length > 0);
}

function unquoted(word: string): string {
  return word.replace(
    /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/g,
    (_, single?: string, double?: string, escaped?: string) =>
      single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? "",
  );
}

/** Returns the lines of a block that are commands, with continued lines joined. */
export function commandLines({ language, code }: CodeBlock): string[] {
  const lines = code.replace(/\\\n\s*/g, " ").split("\n");
  const commands =
    language === "console"
      ? lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2))
      : lines;
  return commands.filter((line) => line.trim() !== "" && !line.trim().startsWith("#"));
}

/** The command `bun-bpf`, whose subcommands do nothing. */
function idleCommand(): Command {
  const program = new Command("bun-bpf")
    .exitOverride()
    .configureOutput({ writeOut: () => undefined, writeErr: () => undefined })
    .version("0", "-V, --version");
  for (const addTo of commandGroups) addTo(program);
  const makeIdle = (command: Command): void => {
    if (command.commands.length === 0) command.action(() => undefined);
    else command.commands.forEach(makeIdle);
  };
  makeIdle(program);
  return program;
}

/**
 * Returns the error message of the command `bun-bpf` for these arguments; `undefined` if it accepts them.
 *
 * @param isMention true where the arguments may be incomplete: prose names `bun-bpf map dump`
 */
export function misuseOfCommand(args: readonly string[], isMention = false): string | undefined {
  try {
    idleCommand().parse(args, { from: "user" });
    return undefined;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const { code, exitCode, message } = error;
    const isIncomplete = code === "commander.help" || code === "commander.missingArgument";
    return exitCode === 0 || (isMention && isIncomplete) ? undefined : message;
  }
}

/** Describes the faults of a shell line. @param ownFiles the names of files that the page shows */
export function faultsOfLine(line: string, ownFiles: ReadonlySet<string>): string[] {
  return simpleCommands(line).flatMap((words) => {
    const fault = faultOf(words, ownFiles);
    return fault === undefined ? [] : [`${line}: ${fault}`];
  });
}

function faultOf(words: readonly string[], ownFiles: ReadonlySet<string>): string | undefined {
  const [first, ...rest] = words;
  if (first === undefined || /^\w+=/.test(first)) {
    return rest.length === 0 ? undefined : faultOf(rest, ownFiles);
  }
  if (first === "sudo" || first === "env" || first === "time") {
    // On the pages, options of these commands have no separate values. The recursive call skips assignments.
    return faultOf(rest.slice(rest.findIndex((word) => !word.startsWith("-"))), ownFiles);
  }
  if (first === "bunx" || first === "npx") return faultOf(rest, ownFiles);
  if (first === "bun-bpf") return misuseOfCommand(rest);
  if (first === "npm") return faultOfNpm(rest);
  if (first === "bun") return faultOfBun(rest, ownFiles);
  if (first.includes("/") && !first.startsWith("/")) return faultOfFile(first, ownFiles);
  if (first.startsWith("/") || Object.hasOwn(otherCommands, first)) return undefined;
  return `${first} is not a command that the test knows`;
}

const { scripts } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
  readonly scripts: Readonly<Record<string, string>>;
};

function faultOfNpm([command, name]: readonly string[]): string | undefined {
  if (command === "run") return faultOfScript(name);
  if (command === "test" || command === "start") return faultOfScript(command);
  const known = ["install", "ci", "pack", "publish"];
  return known.includes(command ?? "") ? undefined : `the test does not know npm ${command}`;
}

function faultOfScript(name = ""): string | undefined {
  return Object.hasOwn(scripts, name) ? undefined : `package.json has no script ${name}`;
}

function faultOfBun(words: readonly string[], ownFiles: ReadonlySet<string>): string | undefined {
  // Options of bun itself have their values after a `=`.
  const [command = "", ...rest] = words.slice(words.findIndex((word) => !word.startsWith("-")));
  switch (command) {
    case "run":
      // A name without a dot is the name of a script in package.json, not of a file.
      return rest[0]?.includes(".") === true ? faultOfBun(rest, ownFiles) : faultOfScript(rest[0]);
    case "test":
    case "build":
    case "check":
    case "fmt":
      return pathsOf(rest)
        .map((path) => faultOfFile(path, ownFiles))
        .find((fault) => fault !== undefined);
    case "add":
    case "install":
    case "init":
      return undefined;
  }
  if (command === "src/cli/main.ts") return misuseOfCommand(rest);
  return faultOfFile(command, ownFiles);
}

/** Returns the arguments that are paths: all except options and their values. */
function pathsOf(words: readonly string[]): string[] {
  const withValue = new Set(["--timeout", "--outfile", "--outdir", "--target", "-t", "--preload"]);
  return words.filter((word, at) => !word.startsWith("-") && !withValue.has(words[at - 1] ?? ""));
}

function faultOfFile(path: string, ownFiles: ReadonlySet<string>): string | undefined {
  const exists =
    ownFiles.has(path) || filesOfReaders.has(path) || existsSync(join(packageRoot, path));
  return exists ? undefined : `there is no file ${path}`;
}
