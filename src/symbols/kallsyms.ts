/** @module The table of `/proc/kallsyms`, kept as the bytes of the file and an index of them. */

import { readFileSync } from "../ffi/files.ts";
import { refuseRange } from "../check/describe.ts";

/** A line is `ffffffff81000000 T name`, and for what is not of the kernel image itself a tab and `[module]`. */
const addressDigits = 16;
const typeColumn = addressDigits + 1;
const nameColumn = typeColumn + 2;
/** With a name of one letter, and its newline. */
const shortestLine = nameColumn + 2;

const newline = 0x0a;
const tab = 0x09;
const space = 0x20;
const dollar = 0x24;
const openingBracket = 0x5b;
const closingBracket = 0x5d;

/** Stands for a line where no function begins, but what was before it ends. */
const noFunction = 0xffffffff;

/** Where code ends: the only ends of functions that the table says. */
const endMarkers = ["_etext", "_einittext"] as const;

/** Behind the last function before a gap, of up to gigabytes, something has to end it; no function is so long, in bytes. */
const longestFunction = 16 * 1024 * 1024;

/**
 * Of each type (the letters of nm(1)) of which functions are: which of several names for one address is taken, the lowest
 * and of those the first in the file. The kernel names a function so as well: it sorts weak ones behind, and takes the first.
 */
const notFunction = 0xff;
const ranks = new Uint8Array(256).fill(notFunction);
for (const [rank, types] of ["Tt", "Ww"].entries()) {
  for (const type of types) ranks[type.charCodeAt(0)] = rank;
}

/** Absolute and undefined symbols: no places in memory, whatever number they have (a checksum, say). */
const placeless: ReadonlySet<number> = new Set(Buffer.from("aAuU"));

/** Lines of the table, three words each: the upper and lower half of the address, and where in the file the line begins. */
type Lines = Uint32Array;
const words = 3;

/** The file, and where the functions are in it. */
export interface SymbolTable {
  readonly bytes: Buffer;
  /** Ascending, each address once; the starts are `noFunction` where code ends. */
  readonly lines: Lines;
}

/**
 * Makes a table of the bytes of a file.
 *
 * @param path of the file, for messages
 * @throws {RangeError} when it is empty or a line is not one of a symbol table, with its number
 * @throws {Error} where the kernel hid the addresses from this process, with the remedy
 */
export function parseTable(bytes: Buffer, path: string): SymbolTable {
  return { bytes, lines: tabulate(bytes, sort(parse(bytes, path))) };
}

/** Where the line of the function begins that an address of 64 bits is in, and how many bytes into that the address is. */
export function findFunction(
  { lines }: SymbolTable,
  address: bigint,
): { readonly start: number; readonly offset: number } | undefined {
  const high = Number(address >> 32n);
  const low = Number(address & 0xffffffffn);
  const index = lastAtOrBelow(lines, high, low);
  const start = lines[index + 2] ?? noFunction;
  if (start === noFunction) return undefined;
  const offset = (high - lines[index]!) * 2 ** 32 + (low - lines[index + 1]!);
  return offset >= longestFunction ? undefined : { start, offset };
}

/** Where the first line of this name begins, of any type; the name is not empty and has no white space. */
export function findName(bytes: Buffer, name: string): number | undefined {
  const searched = Buffer.from(` ${name}`);
  for (let from = 0; ; from += searched.length) {
    from = bytes.indexOf(searched, from);
    if (from === -1) return undefined;
    const end = bytes[from + searched.length];
    if (end === newline || end === tab) return from + 1 - nameColumn;
  }
}

/** The name in a line, and its module. */
export function readNames(
  bytes: Buffer,
  start: number,
): { readonly name: string; readonly module: string | undefined } {
  const end = bytes.indexOf(newline, start);
  const [name, module] = bytes.toString("utf8", start + nameColumn, end).split("\t");
  return { name: name!, module: module?.slice(1, -1) };
}

/** The address in a line. */
export function readAddress(bytes: Buffer, start: number): bigint {
  return BigInt(`0x${bytes.toString("latin1", start, start + addressDigits)}`);
}

/** The index of the last line whose address is not above this one, or a negative one that no line has. */
function lastAtOrBelow(lines: Lines, high: number, low: number): number {
  let from = 0;
  let to = lines.length / words;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const middleHigh = lines[middle * words]!;
    if (middleHigh < high || (middleHigh === high && lines[middle * words + 1]! <= low)) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return (from - 1) * words;
}

const digits = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) digits["0123456789abcdef".charCodeAt(value)] = value;

/** Eight hexadecimal digits, or a negative number when they are not. */
function parseHalf(bytes: Uint8Array, at: number): number {
  let value = 0;
  let all = 0;
  for (let i = at; i < at + 8; i++) {
    const digit = digits[bytes[i]!]!;
    all |= digit;
    value = (value << 4) | digit;
  }
  return all < 0 ? -1 : value >>> 0;
}

function endOfWord(bytes: Uint8Array, start: number): number {
  let end = start;
  while (bytes[end]! > space) end++;
  return end;
}

/** All lines that are of places in memory, in the order of the file. It goes by bytes: strings would take many times as long. */
function parse(bytes: Uint8Array, path: string): Lines {
  const lines = new Uint32Array(Math.ceil(bytes.length / shortestLine) * words);
  let length = 0;
  let areHidden = true;
  let lineNumber = 0;
  for (let start = 0, end = 0; start < bytes.length; start = end + 1) {
    lineNumber++;
    const name = start + nameColumn;
    // Behind the end of the file there is no digit and no space: a short last line is damaged like any other.
    const high = parseHalf(bytes, start);
    const low = parseHalf(bytes, start + 8);
    const type = bytes[start + typeColumn]!;
    let isLine =
      high >= 0 &&
      low >= 0 &&
      bytes[start + addressDigits] === space &&
      type > space &&
      bytes[name - 1] === space;
    end = endOfWord(bytes, name);
    isLine &&= end > name;
    if (bytes[end] === tab) {
      const module = end + 1;
      end = endOfWord(bytes, module);
      isLine &&= bytes[module] === openingBracket && bytes[end - 1] === closingBracket;
    }
    if (!isLine || bytes[end] !== newline) refuseLine(bytes, start, lineNumber, path);

    if (high !== 0 || low !== 0) areHidden = false;
    // On arm64 modules have marks between code and data, such as "$x", that are inside of functions.
    if (placeless.has(type) || bytes[name] === dollar) continue;
    lines[length++] = high;
    lines[length++] = low;
    lines[length++] = start;
  }
  if (lineNumber === 0) throw new RangeError(`${path} is empty: not a table of kernel symbols`);
  if (areHidden) throw new Error(hidden(path));
  return lines.subarray(0, length);
}

function refuseLine(bytes: Uint8Array, start: number, lineNumber: number, path: string): never {
  const line = Buffer.from(bytes.subarray(start, start + 200))
    .toString()
    .split("\n", 1)[0];
  refuseRange("", `"address type name" in line ${lineNumber} of ${path}`, line);
}

function hidden(path: string): string {
  const sysctl = "/proc/sys/kernel/kptr_restrict";
  return (
    `${path} shows all addresses as 0: the kernel hides them from this process. Run as root (sudo -E), give a compiled script ` +
    `CAP_SYSLOG (setcap cap_syslog+ep) or start the container with --cap-add SYSLOG, where ${sysctl} is 0 or 1 (here it is ${readFileSync(sysctl, "utf8").trim()})`
  );
}

/**
 * By address, lines of one address in the order of the file: a radix sort by four digits of 16 bits, as sorting with a
 * comparator would take longer than reading.
 */
function sort(lines: Lines): Lines {
  let from = lines;
  let to: Lines = new Uint32Array(lines.length);
  for (const word of [1, 0]) {
    for (const shift of [0, 16]) {
      moveByDigit(from, to, word, shift);
      [from, to] = [to, from];
    }
  }
  return from;
}

function moveByDigit(from: Lines, to: Lines, word: number, shift: number): void {
  const places = new Uint32Array(0x10001);
  for (let i = word; i < from.length; i += words) {
    places[((from[i]! >>> shift) & 0xffff) + 1]! += words;
  }
  for (let i = 1; i < places.length; i++) places[i]! += places[i - 1]!;
  for (let i = 0; i < from.length; i += words) {
    const digit = (from[i + word]! >>> shift) & 0xffff;
    const place = places[digit]!;
    places[digit] = place + words;
    to[place] = from[i]!;
    to[place + 1] = from[i + 1]!;
    to[place + 2] = from[i + 2]!;
  }
}

/** Chooses one line for each address of sorted lines, or that code ends there; the lines are overwritten. */
function tabulate(bytes: Buffer, lines: Lines): Lines {
  const ends = new Set(endMarkers.map((name) => findName(bytes, name)));
  let length = 0;
  let best = notFunction;
  for (let i = 0; i < lines.length; i += words) {
    const start = lines[i + 2]!;
    const rank = ends.has(start) ? notFunction : ranks[bytes[start + typeColumn]!]!;
    const isAlias =
      length > 0 &&
      lines[i] === lines[length - words] &&
      lines[i + 1] === lines[length - words + 1];
    if (isAlias && rank >= best) continue;
    if (isAlias) length -= words;
    lines[length++] = lines[i]!;
    lines[length++] = lines[i + 1]!;
    lines[length++] = rank === notFunction ? noFunction : start;
    best = rank;
  }
  return lines.slice(0, length);
}
