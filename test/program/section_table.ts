/**
 * Writes the tables of sections in the documentation from the rows of the sections: `bun test/program/section_table.ts`.
 * test/pages.test.ts compares them with the rows.
 */
import { programTypes } from "../../src/program/program_types.ts";
import { type SectionRow, sectionRows } from "../../src/program/sections.ts";
import { formatTable, writeBetween } from "../kernels/table.ts";

const begin = "<!-- Written by `bun test/program/section_table.ts`. -->\n";
const end = "<!-- End of the table of sections. -->\n";

const code = (name: string) => `\`${name}\``;

function attachCell({ method, otherUse }: SectionRow): string {
  if (method === undefined) return otherUse ?? "";
  return method.options.length === 0 ? "yes" : `yes: ${method.options.map(code).join(", ")}`;
}

function cells(row: SectionRow): string[] {
  const { since, testInput } = programTypes[row.programType];
  const form = testInput?.form ?? "nothing";
  const input = form === "nothing" ? "" : code(form === "packet" ? "data" : "ctx");
  return [code(row.programType), since, input, attachCell(row)];
}

/** Groups sections with equal cells, and returns a row for each group. The first cell has the names. */
function grouped(cellsOf: (row: SectionRow) => string[]): string[][] {
  const groups = Map.groupBy(Object.entries(sectionRows), ([, row]) => cellsOf(row).join("|"));
  return [...groups.values()].map((sections) => {
    const names = sections.map(([name]) => code(name)).join(", ");
    return [names, ...cellsOf((sections[0] as [string, SectionRow])[1])];
  });
}

const header = ["section", "program type", "loads", "`testRun` takes", "`attach`"];
writeBetween("docs/sections.md", begin, end, formatTable(header, grouped(cells)));

const capabilities = grouped(({ programType }) => [programTypes[programType].needs.join(" and ")]);
const table = formatTable(["load programs of the sections", "capability"], capabilities);
writeBetween("docs/permissions.md", begin, end, table);
