import { Table } from "console-table-printer";
import { styled } from "./style.ts";

/** A column: its heading, and where its text is. */
export interface Column {
  readonly title: string;
  /** Numbers are to the right. @default "left" */
  readonly alignment?: "left" | "right";
}

const nothing = { left: "", right: "", mid: "", other: "" };
/** No lines between cells, nor around them. */
const borderless = {
  headerTop: nothing,
  headerBottom: nothing,
  tableBottom: nothing,
  rowSeparator: nothing,
  vertical: "",
};

/** Rows in aligned columns under their headings, as text that ends with a line feed. An empty cell is a dash. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const table = new Table({
    style: borderless,
    shouldDisableColors: true,
    columns: columns.map(({ title, alignment = "left" }, index) => ({
      name: `${index}`,
      title,
      alignment,
    })),
  });
  table.addRows(
    rows.map((row) => Object.fromEntries(row.map((cell, index) => [`${index}`, cell || "-"]))),
  );
  const [heading = "", ...lines] = table
    .render()
    .split("\n")
    // What would be lines between the cells is empty.
    .filter((line) => line !== "")
    .map((line) => line.slice(1).trimEnd());
  return `${[styled("bold", heading), ...lines].join("\n")}\n`;
}
