/** @module The table of `/proc/kallsyms`, stored as the bytes of the file and an index of its lines. */

import { readFileSync } from "../ffi/files.ts";
import { refuseRange } from "../check/describe.ts";

/** Columns of a line: `ffffffff81000000 T name`, followed by a tab and `[module]` for symbols outside of the kernel image. */
const addressDigits = 16;
const typeColumn = addressDigits + 1;
const nameColumn = typeColumn + 2;
/** Length of the shortest line: a name of one letter, and the newline. */
const minLineLength = nameColumn + 2;

const newline = 0x0a;
const tab = 0x09;
const space = 0x20;
const dollar = 0x24;
const openingBracket = 0x5b;
const closingBracket = 0x5d;

/** The offset of a line in the index that ends the function before it, and does not begin another. */
const noFunction = 0xffffffff;

/** The symbols at the ends of the kernel's code. The table marks no other ends of functions. */
const endMarkers = ["_etext", "_einittext"] as const;

/** Upper bound for the length of a function, in bytes. It ends the last function before a gap, which can be gigabytes long. */
const maxFunctionLength = 16 * 1024 * 1024;

/**
 * The rank of each symbol type that functions have (the letters of nm(1)). Of several names for one address the one with the
 * lowest rank is used, and of these the first in the file. The kernel does the same: scripts/kallsyms.c sorts weak symbols after
 * others, and the first is used.
 */
const notFunction = 0xff;
const ranks = new Uint8Array(256).fill(notFunction);
for (const [rank, types] of ["Tt", "Ww"].entries()) {
  for (const type of types) ranks[type.charCodeAt(0)] = rank;
}

/** The types of absolute and undefined symbols. The numbers of such symbols are not addresses, but for example checksums. */
const addresslessTypes: ReadonlySet<number> = new Set(Buffer.from("aAuU"));

/** An index of lines, three words each: the upper and lower half of the address, and the offset of the line in the file. */
type Lines = Uint32Array;
const wordsPerLine = 3;

/** A symbol table: the file, and an index of its functions. */
export interface SymbolTable {
  readonly bytes: Buffer;
  /** The functions by ascending address, each address once. The offset is `noFunction` where code ends. */
  readonly lines: Lines;
}

/**
 * Parses a symbol table.
 *
 * @param path the path of the file, for messages
 * @throws {RangeError} if the file is empty or a line is invalid; the message has its number.
 * @throws {Error} if the kernel hides the addresses from this process; the message has the remedy.
 */
export function parseTable(bytes: Buffer, path: string): SymbolTable {
  return { bytes, lines: tabulate(bytes, sort(parse(bytes, path))) };
}

/**
 * Finds the function of an address. Returns the offset of its line in the file, and the offset of the address in the function.
 */
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
  return offset >= maxFunctionLength ? undefined : { start, offset };
}

/** Returns the offset of the first line with a name, of any type. The name must not be empty or contain white space. */
export function findName(bytes: Buffer, name: string): number | undefined {
  for (const start of findNames(bytes, name)) return start;
  return undefined;
}

/** Finds the offsets of all lines with a name, of any type. The name must not be empty or contain white space. */
export function* findNames(bytes: Buffer, name: string): Generator<number, undefined, undefined> {
  const searched = Buffer.from(` ${name}`);
  for (let from = 0; ; from += searched.length) {
    from = bytes.indexOf(searched, from);
    if (from === -1) return undefined;
    const end = bytes[from + searched.length];
    if (end === newline || end === tab) yield from + 1 - nameColumn;
  }
}

/** Returns true if the line at an offset is a function, by the type of its symbol. */
export function isFunction(bytes: Buffer, start: number): boolean {
  return ranks[bytes[start + typeColumn]!] !== notFunction;
}

/** Returns the name and the module of the line at an offset. */
export function readNames(
  bytes: Buffer,
  start: number,
): { readonly name: string; readonly module: string | undefined } {
  const end = bytes.indexOf(newline, start);
  const [name, module] = bytes.toString("utf8", start + nameColumn, end).split("\t");
  return { name: name!, module: module?.slice(1, -1) };
}

/** Returns the address of the line at an offset. */
export function readAddress(bytes: Buffer, start: number): bigint {
  return BigInt(`0x${bytes.toString("latin1", start, start + addressDigits)}`);
}

/** Returns the index of the last line whose address is at most this one; a negative index if there is none. */
function lastAtOrBelow(lines: Lines, high: number, low: number): number {
  let from = 0;
  let to = lines.length / wordsPerLine;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const middleHigh = lines[middle * wordsPerLine]!;
    if (middleHigh < high || (middleHigh === high && lines[middle * wordsPerLine + 1]! <= low)) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return (from - 1) * wordsPerLine;
}

const digits = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) digits["0123456789abcdef".charCodeAt(value)] = value;

/** Parses eight hexadecimal digits; returns -1 if a byte is not one. */
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

/**
 * Returns all lines with addresses, in the order of the file. It works on bytes, because strings would take many times as long.
 */
function parse(bytes: Uint8Array, path: string): Lines {
  const lines = new Uint32Array(Math.ceil(bytes.length / minLineLength) * wordsPerLine);
  let length = 0;
  let areHidden = true;
  let lineNumber = 0;
  for (let start = 0, end = 0; start < bytes.length; start = end + 1) {
    lineNumber++;
    const name = start + nameColumn;
    // Reading past the end of the file returns no digits and no spaces, so a truncated last line is invalid like any other.
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
    // On arm64 modules have mapping symbols, such as "$x", which mark code and data inside of functions.
    if (addresslessTypes.has(type) || bytes[name] === dollar) continue;
    lines[length++] = high;
    lines[length++] = low;
    lines[length++] = start;
  }
  if (lineNumber === 0)
    throw new RangeError(`${path} is empty: expected a table of kernel symbols`);
  if (areHidden) throw new Error(hiddenAddressesMessage(path));
  return lines.subarray(0, length);
}

function refuseLine(bytes: Uint8Array, start: number, lineNumber: number, path: string): never {
  const line = Buffer.from(bytes.subarray(start, start + 200))
    .toString()
    .split("\n", 1)[0];
  refuseRange("", `"address type name" in line ${lineNumber} of ${path}`, line);
}

function hiddenAddressesMessage(path: string): string {
  const sysctl = "/proc/sys/kernel/kptr_restrict";
  return (
    `${path} shows all addresses as 0: the kernel hides them from this process. Run as root (sudo -E), give a compiled script ` +
    `CAP_SYSLOG (setcap cap_syslog+ep) or start the container with --cap-add SYSLOG, where ${sysctl} is 0 or 1 (here it is ${readFileSync(sysctl, "utf8").trim()})`
  );
}

/**
 * Sorts lines by address; lines of one address stay in the order of the file. It is a radix sort by four digits of 16 bits,
 * because sorting with a comparator would take longer than reading the file.
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
  for (let i = word; i < from.length; i += wordsPerLine) {
    places[((from[i]! >>> shift) & 0xffff) + 1]! += wordsPerLine;
  }
  for (let i = 1; i < places.length; i++) places[i]! += places[i - 1]!;
  for (let i = 0; i < from.length; i += wordsPerLine) {
    const digit = (from[i + word]! >>> shift) & 0xffff;
    const place = places[digit]!;
    places[digit] = place + wordsPerLine;
    to[place] = from[i]!;
    to[place + 1] = from[i + 1]!;
    to[place + 2] = from[i + 2]!;
  }
}

/** Builds the index: one line for each address of sorted lines, or `noFunction` where code ends. It overwrites its input. */
function tabulate(bytes: Buffer, lines: Lines): Lines {
  const ends = new Set(endMarkers.map((name) => findName(bytes, name)));
  let length = 0;
  let best = notFunction;
  for (let i = 0; i < lines.length; i += wordsPerLine) {
    const start = lines[i + 2]!;
    const rank = ends.has(start) ? notFunction : ranks[bytes[start + typeColumn]!]!;
    const isAlias =
      length > 0 &&
      lines[i] === lines[length - wordsPerLine] &&
      lines[i + 1] === lines[length - wordsPerLine + 1];
    if (isAlias && rank >= best) continue;
    if (isAlias) length -= wordsPerLine;
    lines[length++] = lines[i]!;
    lines[length++] = lines[i + 1]!;
    lines[length++] = rank === notFunction ? noFunction : start;
    best = rank;
  }
  return lines.slice(0, length);
}
