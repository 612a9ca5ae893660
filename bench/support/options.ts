import { parseArgs } from "node:util";

/** An option of a benchmark whose value is a number. */
export interface NumberOption {
  readonly help: string;
  /** The default. */
  readonly standard: number;
  /** The default with `--quick`. */
  readonly quick: number;
}

/** Options of all benchmarks. */
export interface CommonOptions {
  /** True to print a JSON object instead of a table. */
  readonly json: boolean;
  /** True for short rounds, which test that the benchmark works. */
  readonly quick: boolean;
}

/** Reads the command line. For `--help` or an unknown option it prints the options and ends the process. */
export function readOptions<Name extends string>(
  usage: string,
  numbers: Readonly<Record<Name, NumberOption>>,
): CommonOptions & Readonly<Record<Name, number>> {
  const names = Object.keys(numbers) as Name[];
  const own = Object.fromEntries(names.map((name) => [name, { type: "string" as const }]));
  const common = {
    quick: { type: "boolean" as const, default: false },
    json: { type: "boolean" as const, default: false },
    help: { type: "boolean" as const, default: false },
  };
  try {
    const { values } = parseArgs({ options: { ...own, ...common } });
    if (values.help) {
      console.log(helpText(usage, numbers));
      process.exit(0);
    }
    const { quick, json } = values;
    const read = names.map((name) => {
      // TypeScript does not infer the types of options whose names are a type parameter.
      const text = (values as Record<string, unknown>)[name] as string | undefined;
      const { standard, quick: short } = numbers[name];
      return [name, text === undefined ? (quick ? short : standard) : positive(name, text)];
    });
    return { quick, json, ...(Object.fromEntries(read) as Record<Name, number>) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${helpText(usage, numbers)}`);
    process.exit(2);
  }
}

function positive(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isFinite(number) || number <= 0) {
    throw new RangeError(`--${name}: expected a number above 0, got ${JSON.stringify(text)}`);
  }
  return number;
}

function helpText(usage: string, numbers: Readonly<Record<string, NumberOption>>): string {
  const lines = Object.entries(numbers).map(
    ([name, { help, standard, quick }]): [string, string] => [
      `--${name} N`,
      `${help} (default ${standard}; with --quick ${quick})`,
    ],
  );
  lines.push(
    ["--quick", "short rounds, to test that the benchmark works; figures are rough"],
    ["--json", "print a JSON object instead of a table"],
    ["--help", "print this help"],
  );
  const width = Math.max(...lines.map(([option]) => option.length)) + 2;
  const options = lines.map(([option, text]) => `  ${option.padEnd(width)}${text}`);
  return [usage.trim(), "", ...options].join("\n");
}
