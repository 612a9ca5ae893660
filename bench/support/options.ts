import { parseArgs } from "node:util";

/** A number that a benchmark can be told. */
export interface NumberOption {
  readonly help: string;
  readonly standard: number;
  /** With `--quick`. */
  readonly quick: number;
}

/** What every benchmark can be told. */
export interface CommonOptions {
  /** Print one JSON object instead of a table. */
  readonly json: boolean;
  /** Short rounds: to see that it works rather than how fast. */
  readonly quick: boolean;
}

/** Reads the command line; with `--help`, or what is not understood, it says what there is and ends the process. */
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
      // The types of options that are named by a parameter are lost on the way.
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
      `${help} (${standard}; quick: ${quick})`,
    ],
  );
  lines.push(
    ["--quick", "short rounds: to see that it works rather than how fast"],
    ["--json", "one JSON object instead of a table"],
    ["--help", "show this"],
  );
  const options = lines.map(([option, text]) => `  ${option.padEnd(14)}${text}`);
  return [usage.trim(), "", ...options].join("\n");
}
