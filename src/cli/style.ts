import { styleText } from "node:util";

/** A way to make text stand out. */
export type Format = Parameters<typeof styleText>[0];

/** Text that stands out on a terminal, unless NO_COLOR is set. */
export function styled(format: Format, text: string): string {
  return styleText(format, text, { stream: process.stdout, validateStream: true });
}
