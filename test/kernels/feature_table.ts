/** @module Makes the table of features by kernel in docs/kernels.md from probes on these kernels. */

import type { FeatureEntries, FeatureReport } from "../../src/cli/features_command.ts";
import { formatTable, versionOf, writeBetween } from "./table.ts";

/** The features of a kernel. */
export interface KernelFeatures {
  /** The release, as `uname -r` prints it. */
  readonly release: string;
  readonly report: FeatureReport;
}

/** Comment before the table. */
export const begin = "<!-- Written by `bun run test:kernels --table`. -->\n";
const end = "<!-- End of the table. -->\n";

/** The page that has the table, relative to the package. */
export const tablePage = "docs/kernels.md";

/** Writes the table to its page. @throws {Error} if the page lacks the comments around it. */
export function writeTable(kernels: readonly KernelFeatures[]): void {
  writeBetween(tablePage, begin, end, featureTable(kernels));
}

/** Makes a table with a row for each feature that not all of the kernels have. */
function featureTable(kernels: readonly KernelFeatures[]): string {
  const names = kernels.map(({ release }) => versionOf(release));
  const rows = [
    ...differences(kernels, "map type", ({ mapTypes }) => mapTypes),
    ...operationDifferences(kernels),
    ...differences(kernels, "program type", ({ programTypes }) => programTypes),
    ...differences(kernels, "way to attach", ({ attachKinds }) => attachKinds),
    ...differences(kernels, "instructions", ({ instructions }) => instructions),
    ...differences(kernels, "fix", ({ fixes }) => fixes),
    [
      "number of helpers, summed over all program types",
      "",
      ...kernels.map(({ report }) => `${countCalls(report)}`),
    ],
  ];
  return formatTable(["feature", "since", ...names], rows);
}

function differences(
  kernels: readonly KernelFeatures[],
  what: string,
  entriesOf: (report: FeatureReport) => FeatureEntries,
): string[][] {
  const reports = kernels.map(({ report }) => entriesOf(report));
  return Object.keys(reports[0] ?? {}).flatMap((name) => {
    const cells = reports.map((entries) => (entries[name]?.status === "available" ? "yes" : "-"));
    if (cells.every((cell) => cell === "yes")) return [];
    return [[`${what} \`${name}\``, reports[0]?.[name]?.since ?? "", ...cells]];
  });
}

/** Makes the rows for operations on map types that all of the kernels have. Map types with equal cells share a row. */
function operationDifferences(kernels: readonly KernelFeatures[]): string[][] {
  const types = Object.keys(kernels[0]?.report.mapOperations ?? {}).filter((type) =>
    kernels.every(({ report }) => report.mapTypes[type]?.status === "available"),
  );
  const rows = types.flatMap((type) =>
    differences(kernels, type, ({ mapOperations }) => mapOperations[type] ?? {}),
  );
  const alike = Map.groupBy(
    rows,
    ([name = "", ...cells]) => `${name.split(" ")[1]} ${cells.join()}`,
  );
  return [...alike.values()].map((same) => {
    const [[name = "", ...cells] = []] = same;
    const kinds = same.map(([first = ""]) => `\`${first.split(" ")[0]}\``);
    return [`${name.split(" ")[1]} of ${kinds.join(", ")}`, ...cells];
  });
}

function countCalls({ helpers }: FeatureReport): number {
  return Object.values(helpers).reduce((sum, names) => sum + names.length, 0);
}
