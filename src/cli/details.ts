import { styled } from "./style.ts";

/** A line of what is told of one object: nothing where it is `undefined`, more lines for an array. */
export type Detail = readonly [name: string, value: string | readonly string[] | undefined];

/** `name: value` lines with aligned values, as text that ends with a line feed. */
export function renderDetails(details: readonly Detail[]): string {
  const shown = details.flatMap(([name, value]) => {
    const lines = value === undefined ? [] : typeof value === "string" ? [value] : value;
    return lines.map((line, index) => [index === 0 ? `${name}:` : "", line] as const);
  });
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, line]) => `${styled("dim", name.padEnd(width))}  ${line}\n`).join("");
}
