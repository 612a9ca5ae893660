/** @module Numbers and names in the words of people. */

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes with at most three digits and a unit: `12.5 KiB`. */
export function humanBytes(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${amount.toFixed(amount < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** A time span with a unit: `3.2 ms`. */
export function humanNanoseconds(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(1)} µs`;
  if (nanoseconds < 1e9) return `${(nanoseconds / 1e6).toFixed(1)} ms`;
  return `${(nanoseconds / 1e9).toFixed(1)} s`;
}

/** A date in the local time zone: `2026-01-31 13:05:09`. */
export function humanDate(date: Date): string {
  // The Swedish way of writing dates is the standard's.
  return date.toLocaleString("sv-SE");
}

/** A text that others chose, without what would change the terminal that shows it. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, (character) => {
    const code = character.codePointAt(0) as number;
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** `2 maps`, `1 map`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** The first few of a list, and how many more there are. */
export function fewOf(texts: readonly string[], most: number): string {
  const rest = texts.length - most;
  return [...texts.slice(0, most), ...(rest > 0 ? [`+${rest}`] : [])].join(",");
}
