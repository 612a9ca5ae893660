import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";

/** The target of a figure, for its ratio or for the value of Bun. */
export interface Target {
  readonly of: "ratio" | "here";
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** A row of a report. */
export interface Figure {
  /** The name of the figure, which is unique in its report. */
  readonly what: string;
  readonly unit: string;
  /** The value in Bun. */
  readonly here: number;
  /** The value in C. */
  readonly there?: number | undefined;
  /** Bun relative to C: the median of the ratios of the rounds, which can differ from the ratio of the medians. */
  readonly ratio?: number | undefined;
  readonly target?: Target;
}

/** The result of a benchmark. */
export interface Report {
  /** The name of the benchmark: its file name without "ring_". */
  readonly name: string;
  readonly title: string;
  readonly figures: readonly Figure[];
  /** Sentences that are printed below the table. */
  readonly notes?: readonly string[];
}

/** Returns true if the target is met; `undefined` if there is no target, or no value to compare. */
export function isMet({ here, ratio, target }: Figure): boolean | undefined {
  const value = target?.of === "here" ? here : ratio;
  if (target === undefined || value === undefined || Number.isNaN(value)) return undefined;
  return value <= (target.atMost ?? Infinity) && value >= (target.atLeast ?? -Infinity);
}

/** Returns a description of this machine. */
export function machine(): string {
  const model = /^model name\s*:\s*(.+)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  return `${cpus().length} CPUs${model === undefined ? "" : ` (${model})`}, Linux ${release()}, Bun ${Bun.version}`;
}

const headings = ["", "bun-bpf", "C", "relative to C", "target", ""];

/** Returns a report as a table for a terminal. */
export function textTable(report: Report): string {
  const rows = [headings, ...report.figures.map((figure) => cells(figure))];
  const widths = headings.map((_, column) => Math.max(...rows.map((row) => width(row, column))));
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart((widths[column] ?? 0) + 3),
      )
      .join("")
      .trimEnd(),
  );
  const { title, notes = [] } = report;
  return [title, "", ...lines, ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}

/** Returns all reports as one Markdown table. */
export function markdownTable(reports: readonly Report[]): string {
  const lines = [
    "| | bun-bpf | C | relative to C | target |",
    "| --- | ---: | ---: | ---: | ---: |",
  ];
  for (const { name, figures } of reports) {
    for (const figure of figures) {
      const [what, here, there, ratio, target, met] = cells(figure);
      const wanted = met === "missed" ? `${target}, missed` : target;
      lines.push(`| ${name}: ${what} | ${here} | ${there} | ${ratio} | ${wanted} |`);
    }
  }
  return lines.join("\n");
}

function cells(figure: Figure): readonly string[] {
  const { what, unit, here, there, ratio, target } = figure;
  const met = isMet(figure);
  return [
    what,
    withUnit(here, unit),
    there === undefined || Number.isNaN(there) ? "" : withUnit(there, unit),
    ratio === undefined || Number.isNaN(ratio) ? "" : digits(ratio),
    target === undefined ? "" : wanted(target, unit),
    met === undefined ? "" : met ? "met" : "missed",
  ];
}

function wanted({ of, atMost, atLeast }: Target, unit: string): string {
  const number = (value: number) => (of === "ratio" ? `${value}` : withUnit(value, unit));
  return atMost === undefined ? `>= ${number(atLeast ?? 0)}` : `<= ${number(atMost)}`;
}

function withUnit(value: number, unit: string): string {
  return `${digits(value)}${unit === "" || unit === "%" ? unit : ` ${unit}`}`;
}

/** Formats a number with three significant digits. */
function digits(value: number): string {
  if (!Number.isFinite(value)) return `${value}`;
  const magnitude = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  return Number.isInteger(value)
    ? `${value}`
    : value.toFixed(Math.max(0, Math.min(2 - magnitude, 3)));
}

function width(row: readonly string[], column: number): number {
  return row[column]?.length ?? 0;
}
