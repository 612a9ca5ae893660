/** The documentation agrees with the repository: links, shell commands, file names, and the tables that repeat what code says. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as library from "../src/index.ts";
import { asm, assemble, VerifierError } from "../src/index.ts";
import { errnoNumber } from "../src/ffi/error.ts";
import { MapKind } from "../src/maps/map_options.ts";
import { mapTypes } from "../src/maps/map_types.ts";
import { programTypes } from "../src/program/program_types.ts";
import { sectionRows } from "../src/program/sections.ts";
import { sessionsPage } from "./sessions.ts";
import {
  blocksOf,
  brokenLink,
  type CodeBlock,
  headingsOf,
  inlineCodeOf,
  linksOf,
  namedFilesOf,
  pageAt,
  pages,
  sectionOf,
  tableRows,
} from "./support/markdown.ts";
import { packageRoot } from "./support/run.ts";
import {
  commandLines,
  faultsOfLine,
  misuseOfCommand,
  shellLanguages,
  simpleCommands,
} from "./support/shell_lines.ts";

/** Languages of blocks that have no commands, and what tests do with them. */
const otherLanguages: Readonly<Record<string, string>> = {
  ts: "type-checked and run by test/documentation.test.ts",
  mermaid: "drawn by test/architecture.ts",
  text: "output and messages, which have no language",
  ini: "an excerpt of a systemd unit",
};

/** Languages that are parsed. */
const parsers: Readonly<Record<string, (text: string) => unknown>> = {
  json: JSON.parse,
  toml: Bun.TOML.parse,
  yaml: Bun.YAML.parse,
};

describe("links", () => {
  test("are found, and broken ones are reported", () => {
    const page = {
      path: "docs/a.md",
      text: "# One `two`\n[x](../README.md#no) [y](#one-two) `[z](b)`\n## One two\n",
    };
    expect(linksOf(page).map(({ path, heading }) => ({ path, heading }))).toEqual([
      { path: "README.md", heading: "no" },
      { path: "docs/a.md", heading: "one-two" },
    ]);
    expect([...headingsOf(page)]).toEqual(["one-two", "one-two-1"]);
    expect(linksOf(page).map(brokenLink)[0]).toBe("../README.md#no: README.md has no such heading");
  });

  for (const page of pages) {
    test(`of ${page.path} lead to something`, () => {
      expect(
        linksOf(page)
          .map(brokenLink)
          .filter((fault) => fault !== undefined),
      ).toEqual([]);
    });
  }

  test("lead from the README to the index, and from there to every page of docs", () => {
    const index = "docs/README.md";
    const targets = (path: string) => new Set(linksOf(pageAt(path)).map((link) => link.path));
    expect(targets("README.md")).toContain(index);
    const guides = pages.map(({ path }) => path).filter((path) => path.startsWith("docs/"));
    const listed = targets(index);
    expect(guides.filter((path) => path !== index && !listed.has(path))).toEqual([]);
  });
});

describe("commands", () => {
  test("are split as a shell splits them", () => {
    const line = `A=1 bun-bpf map dump x --json 2>&1 | jq '.[] | "a b"' >out.txt && echo "c \\"d" # why`;
    expect(simpleCommands(line)).toEqual([
      ["A=1", "bun-bpf", "map", "dump", "x", "--json"],
      ["jq", '.[] | "a b"'],
      ["echo", 'c "d'],
    ]);
  });

  test("that do not exist are reported", () => {
    const own = new Set<string>();
    expect(faultsOfLine("bun-bpf map list --jsn", own)[0]).toContain("unknown option '--jsn'");
    expect(faultsOfLine("sudo -E bunx bun-bpf maps", own)[0]).toContain("unknown command 'maps'");
    expect(faultsOfLine("bun-bpf map dump", own)[0]).toContain("missing required argument");
    expect(faultsOfLine("npm run tset", own)[0]).toContain("no script tset");
    expect(faultsOfLine("bun run test/", own)[0]).toContain("no script test/");
    expect(faultsOfLine("npx bun examples/no.ts", own)[0]).toContain("no file examples/no.ts");
    expect(faultsOfLine("rm -rf /", own)[0]).toContain("rm is not a command");
    expect(faultsOfLine("bun-bpf map list --json | jq .", own)).toEqual([]);
    expect(misuseOfCommand(["map", "dump"], true)).toBeUndefined();
  });

  for (const page of pages) {
    test(`in ${page.path} exist, with these options and files`, () => {
      const own = new Set(namedFilesOf(page).keys());
      const isRun = ({ language }: CodeBlock) =>
        page.path === sessionsPage && language === "console";
      const lines = blocksOf(page)
        .filter((block) => shellLanguages.has(block.language) && !isRun(block))
        .flatMap(commandLines);
      expect(lines.flatMap((line) => faultsOfLine(line, own))).toEqual([]);
    });

    test(`in the text of ${page.path} exist`, () => {
      const inline = inlineCodeOf(page);
      const scripts = inline.filter((code) => /^(?:npm|bun) run \S/.test(code));
      expect(scripts.flatMap((code) => faultsOfLine(code, new Set()))).toEqual([]);
      const mentions = inline.filter((code) => /^(?:(?:bunx|npx) )?bun-bpf /.test(code));
      const faults = mentions.map((code) => {
        const [words = []] = simpleCommands(code);
        return misuseOfCommand(words.slice(words.indexOf("bun-bpf") + 1), true);
      });
      expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
    });

    test(`and code in ${page.path} can be checked`, () => {
      for (const { language, code, line } of blocksOf(page)) {
        const parse = parsers[language];
        if (parse !== undefined) expect(() => parse(code), `line ${line}`).not.toThrow();
        else if (!shellLanguages.has(language)) {
          expect(Object.keys(otherLanguages), `line ${line}`).toContain(language);
        }
      }
    });
  }
});

describe("files", () => {
  // The change log names files that were.
  for (const page of pages.filter(({ path }) => path !== "CHANGELOG.md")) {
    test(`that ${page.path} names exist`, () => {
      const own = new Set(namedFilesOf(page).keys());
      const named = inlineCodeOf(page).filter(
        (code) =>
          /^(?:src|test|docs|examples|bench|\.ci|\.github)\/[\w./-]+$/.test(code) &&
          !code.includes("X.Y"),
      );
      const missing = named.filter(
        (path) => !own.has(path) && !existsSync(join(packageRoot, path)),
      );
      expect(missing).toEqual([]);
    });
  }
});

const codesIn = (text: string) =>
  [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code as string);

describe("docs/sections.md", () => {
  test("has a row for each kind of section, with what it can do", () => {
    const rows = tableRows(pageAt("docs/sections.md").text).flatMap(
      ([names = "", type = "", since, run = "", attach = ""]) =>
        codesIn(names).map((name) => ({
          name,
          type: codesIn(type)[0],
          since,
          input: codesIn(run)[0],
          isAttached: attach.startsWith("yes"),
        })),
    );
    const expected = Object.entries(sectionRows).map(([name, { programType, method }]) => {
      const { since, testInput } = programTypes[programType];
      const form = testInput?.form ?? "nothing";
      const input = form === "nothing" ? undefined : form === "packet" ? "data" : "ctx";
      return { name, type: programType, since, input, isAttached: method !== undefined };
    });
    const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
    expect(rows.sort(byName)).toEqual(expected.sort(byName) as typeof rows);
  });
});

describe("the table of instructions in docs/programs.md", () => {
  const rows = tableRows(sectionOf(pageAt("docs/programs.md"), "Instructions")).map(
    ([group = "", functions = "", args = ""]) => {
      const names = codesIn(functions);
      const narrow = group.includes("`...32`") ? names.map((name) => `${name}32`) : [];
      return { names: [...names, ...narrow], args: codesIn(args)[0] ?? "" };
    },
  );
  const functions = new Map(
    Object.entries(asm).flatMap(([name, value]) =>
      typeof value === "function" ? [[name, value as (...args: never[]) => unknown] as const] : [],
    ),
  );

  test("has each function of asm once, and no others", () => {
    const named = rows.flatMap(({ names }) => names);
    expect(named.toSorted()).toEqual([...functions.keys()].toSorted());
  });

  test("has the number of arguments that each function takes", () => {
    for (const { names, args } of rows) {
      const count = args === "()" ? 0 : args.split(",").length;
      for (const name of names) {
        expect({ name, count: functions.get(name)?.length }).toEqual({ name, count });
      }
    }
  });
});

describe("docs/permissions.md", () => {
  test("has the capabilities that sections and classes of maps need", () => {
    const section = sectionOf(pageAt("docs/permissions.md"), "Find the capabilities for a task");
    const [, ofSections = ""] = section.split("<!-- Written by");
    const rows = [...tableRows(section), ...tableRows(ofSections)];
    const listed = new Map(
      rows.flatMap(([what = "", needed = ""]) =>
        codesIn(what).map((name) => [name, needed] as const),
      ),
    );
    for (const [name, { programType }] of Object.entries(sectionRows)) {
      expect({ name, needs: listed.get(name) }).toEqual({
        name,
        needs: programTypes[programType].needs.join(" and "),
      });
    }
    const classes = Object.entries(library).flatMap(([name, value]) => {
      const kind: unknown = "kind" in value ? value.kind : undefined;
      return kind instanceof MapKind ? [[name, mapTypes.get(kind.type)?.needs ?? []] as const] : [];
    });
    expect(classes.length).toBeGreaterThan(20);
    for (const [name, needs] of classes.filter(([, { length }]) => length > 1)) {
      expect({ name, needs: listed.get(name) }).toEqual({ name, needs: needs.join(" and ") });
    }
  });
});

describe("docs/constants.md", () => {
  const page = pageAt("docs/constants.md");
  const enumerations = Object.entries(library.uapi).filter(
    ([, value]) => typeof value === "object",
  );

  test("has each enumeration of uapi once, with one of its constants", () => {
    const titles = [...page.text.matchAll(/^## (.*)$/gm)].map(([, title]) => title as string);
    const rows = titles
      .filter((title) => !title.startsWith("Flags"))
      .flatMap((title) => tableRows(sectionOf(page, title)))
      .map(([name = "", example = ""]) => ({
        name: codesIn(name)[0],
        example: codesIn(example)[0],
      }));
    expect(rows.map(({ name }) => name).sort()).toEqual(enumerations.map(([name]) => name).sort());
    const members = new Map(enumerations.map(([name, value]) => [name, Object.keys(value)]));
    for (const { name = "", example } of rows) expect(members.get(name)).toContain(example);
  });

  test("names groups of flags that exist", () => {
    const names = Object.keys(library.uapi);
    const groups = tableRows(sectionOf(page, "Flags and other constants")).map(
      ([group = ""]) => codesIn(group)[0],
    );
    expect(groups.length).toBeGreaterThan(10);
    const missing = groups.filter(
      (group = "") => !names.some((name) => name.startsWith(group.replace("...", ""))),
    );
    expect(missing).toEqual([]);
  });
});

/** A source file of the library, without the command and the kernel's numbers. */
interface Source {
  readonly path: string;
  readonly text: string;
  /** The codes for which it has hints: keys of tables, and cases. */
  readonly hinted: ReadonlySet<string>;
}

const sources: readonly Source[] = [...new Bun.Glob("src/**/*.ts").scanSync(packageRoot)]
  .filter((path) => !/^src\/(?:uapi|cli)\//.test(path))
  .map((path) => {
    const text = readFileSync(join(packageRoot, path), "utf8");
    const hints = text.matchAll(/^\s*(E[A-Z0-9]{2,}):|\bcase "(E[A-Z0-9]{2,})":/gm);
    return {
      path,
      text,
      hinted: new Set([...hints].map(([, key, label]) => (key ?? label) as string)),
    };
  });

describe("docs/errors.md", () => {
  const page = pageAt("docs/errors.md");
  const codes = [...sectionOf(page, "Codes").matchAll(/^### (\w+)$/gm)].map(
    ([, code]) => code as string,
  );

  test("has a section for each class of errors", () => {
    const classes = Object.entries(library).flatMap(([name, value]) =>
      typeof value === "function" && value.prototype instanceof Error ? [name] : [],
    );
    expect(classes.length).toBeGreaterThan(4);
    const section = sectionOf(page, "Classes");
    const sections = [...section.matchAll(/^### (\w+)$/gm)].map(([, name]) => name as string);
    expect(sections.sort()).toEqual(classes.sort());
    const listed = tableRows(section).map(([name = ""]) => codesIn(name)[0] as string);
    expect(listed.sort()).toEqual(classes.sort());
  });

  test("has a section for each code that has a hint or is documented, in alphabetical order", () => {
    const documented = sources.flatMap(({ text }) =>
      [...text.matchAll(/@throws \{BpfError\}([\s\S]*?)(?=\n\s*\*\s*(?:@|\/|\n)|\*\/)/g)].flatMap(
        ([, what]) => [...(what as string).matchAll(/\bE[A-Z0-9]{2,}\b/g)].map(([code]) => code),
      ),
    );
    const hinted = sources.flatMap(({ hinted }) => [...hinted]);
    expect(hinted.length).toBeGreaterThan(50);
    expect(documented.length).toBeGreaterThan(50);
    const wanted = new Set([...hinted, ...documented]);
    expect([...wanted].filter((code) => !codes.includes(code))).toEqual([]);
    expect(codes).toEqual(codes.toSorted((a, b) => a.replace("2", "").localeCompare(b)));
  });

  test("has no section for codes that do not exist, or that the library does not know", () => {
    const known = sources.map(({ text }) => text).join("\n");
    for (const code of codes) {
      expect({ code, number: errnoNumber(code) }).not.toEqual({ code, number: -1 });
      expect(known).toMatch(new RegExp(`\\b${code}\\b`));
    }
  });

  test("names in the section of a code each class of maps that has a hint for it", () => {
    const unnamed = sources
      .filter(({ path }) => path.startsWith("src/maps/") || path.startsWith("src/kinds/"))
      .flatMap(({ path, text, hinted }) => {
        const classes = [...text.matchAll(/^export class (\w+)/gm)]
          .map(([, name]) => name as string)
          .filter((name) => Object.hasOwn(library, name));
        if (classes.length === 0) return [];
        return [...hinted]
          .filter((code) => !classes.some((name) => sectionOf(page, code).includes(`\`${name}\``)))
          .map((code) => `${code} of ${path}`);
      });
    expect(unnamed).toEqual([]);
  });

  test("has rows with cause and remedy only", () => {
    for (const code of codes) {
      const rows = tableRows(sectionOf(page, code));
      expect(rows.length).toBeGreaterThan(0);
      for (const row of rows) {
        expect({ code, cells: row.length }).toEqual({ code, cells: 3 });
        expect({ code, cause: row[1] }).not.toEqual({ code, cause: "" });
      }
    }
  });

  test("quotes the verifier in words that are known causes", () => {
    const quotes = tableRows(sectionOf(page, "VerifierError")).map(
      ([quote = ""]) => codesIn(quote)[0] ?? "",
    );
    expect(quotes.length).toBeGreaterThan(10);
    const program = assemble([asm.mov(asm.r0, 0), asm.exit()]);
    const call = { errno: 22, syscall: "bpf(BPF_PROG_LOAD)", doing: "load the program" };
    const unknown = quotes.filter(
      (quote) => new VerifierError(call, quote, program).hint === undefined,
    );
    expect(unknown).toEqual([]);
  });
});
