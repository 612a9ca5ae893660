import { readFileSync } from "node:fs";
import { refuseRange, refuseType } from "../types/refusal.ts";

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

const longestAddress = 2n ** 64n - 1n;

/** Of each type (the letters of nm(1)) of which functions are: which of several names for one address is taken, the lowest. */
const notFunction = 0xff;
const ranks = new Uint8Array(256).fill(notFunction);
for (const [rank, types] of ["T", "t", "Ww"].entries()) {
  for (const type of types) ranks[type.charCodeAt(0)] = rank;
}

/** Absolute and undefined symbols: no places in memory, whatever number they have (a checksum, say). */
const placeless: ReadonlySet<number> = new Set(Buffer.from("aAuU"));

/** The symbol an address belongs to, as {@link KernelSymbols.lookup} finds it. */
export interface KernelSymbol {
  /** As the kernel writes it; `bpf_prog_<tag>_<name>` for a BPF program. */
  readonly name: string;
  /** Of the address looked up, in bytes from the start of the symbol. */
  readonly offset: number;
  /** The module it is in (`bpf` for BPF programs), or `undefined` for the kernel image itself. */
  readonly module: string | undefined;
  /** Where the symbol starts. */
  readonly address: bigint;
}

/**
 * A symbol as the kernel's own stack traces write it: `name+0x1a [module]`, without the size of the function, which
 * nothing tells.
 *
 * @example
 * ```ts
 * import { formatKernelSymbol } from "bun-bpf";
 * console.log(formatKernelSymbol({ name: "ip_rcv", offset: 26, module: undefined })); // ip_rcv+0x1a
 * console.log(formatKernelSymbol({ name: "nf_hook", offset: 0, module: "nf_tables" })); // nf_hook+0x0 [nf_tables]
 * ```
 */
export function formatKernelSymbol({
  name,
  offset,
  module,
}: Pick<KernelSymbol, "name" | "offset" | "module">): string {
  return `${name}+0x${offset.toString(16)}${module === undefined ? "" : ` [${module}]`}`;
}

/** Lines of the table, three words each: the upper and lower half of the address, and where in the file the line begins. */
type Lines = Uint32Array;
const words = 3;

/**
 * The kernel's symbol table, for turning the addresses of kernel stack traces into names.
 *
 * It is the table as it was when read. What the kernel adds and removes later (modules, and BPF programs, which are
 * here as `bpf_prog_<tag>_<name>` while the sysctl net.core.bpf_jit_kallsyms is 1) takes reading it again: 50 to 200 ms
 * in which the calling thread waits. It keeps the bytes of the file (5 to 15 MB) and 12 for each address; nothing has to
 * be closed.
 *
 * @example
 * ```ts
 * import { formatKernelSymbol, KernelSymbols } from "bun-bpf";
 * const symbols = KernelSymbols.read();
 * const fork = symbols.address("kernel_clone") as bigint;
 * const symbol = symbols.lookup(fork + 5n);
 * if (symbol !== undefined) console.log(formatKernelSymbol(symbol)); // kernel_clone+0x5
 * ```
 */
export class KernelSymbols {
  readonly #bytes: Buffer;
  /** Ascending, each address once; the starts are `noFunction` where code ends. */
  readonly #table: Lines;

  private constructor(bytes: Buffer, table: Lines) {
    this.#bytes = bytes;
    this.#table = table;
  }

  /**
   * Reads the table anew at every call. It takes a kernel with CONFIG_KALLSYMS, as distributions have it.
   *
   * A kernel from 4.15 shows addresses to who opens the file with CAP_SYSLOG, or where both kernel.kptr_restrict is 0 and
   * kernel.perf_event_paranoid at most 1; to nobody where kptr_restrict is 2.
   *
   * @param path of the table, or of a copy of it
   * @throws {Error} where the kernel hides the addresses from this process, with the remedy
   * @throws {RangeError} when the file is empty or a line is not one of a symbol table, with its number
   * @throws {Error} of node:fs, such as `ENOENT`, when the file cannot be read
   */
  static read(path = "/proc/kallsyms"): KernelSymbols {
    const bytes = readFileSync(path);
    return new KernelSymbols(bytes, tabulate(bytes, sort(parse(bytes, path))));
  }

  /**
   * The function that an address is in: the nearest at or below it. `undefined` in user space, in front of the first
   * function, in data, and behind the end of the kernel's code.
   *
   * The table has no sizes. So padding belongs to the function before it, and what is behind the last function of a
   * module or the last BPF program too, up to the next symbol or 16 MiB. Of several names for one address a global one
   * (`T`) is taken before a local one (`t`) and a weak one (`W`) last, then the first in the table.
   *
   * The addresses of a stack trace but the first are those that calls return to: where a function ends with a call, that
   * is in the next one already. Look up `address - 1n` for these, as the kernel does for its own traces.
   *
   * @throws {TypeError} when the address is not a bigint
   * @throws {RangeError} when it is not one of 64 bits, such as one that was read as a signed number
   *
   * @example
   * ```ts
   * import { KernelSymbols } from "bun-bpf";
   * console.log(KernelSymbols.read().lookup(0x400000n)); // undefined
   * ```
   */
  lookup(address: bigint): KernelSymbol | undefined {
    if (typeof address !== "bigint") {
      refuseType("", "an address as a bigint", address, "a number has not all of its 64 bits");
    }
    if (address < 0n || address > longestAddress) {
      refuseRange("", "an address from 0 to 2 ** 64 - 1", address, "see BigInt.asUintN");
    }
    const high = Number(address >> 32n);
    const low = Number(address & 0xffffffffn);
    const table = this.#table;
    const index = lastAtOrBelow(table, high, low);
    const start = table[index + 2] ?? noFunction;
    if (start === noFunction) return undefined;
    const offset = (high - table[index]!) * 2 ** 32 + (low - table[index + 1]!);
    if (offset >= longestFunction) return undefined;
    return { ...this.#names(start), offset, address: address - BigInt(offset) };
  }

  /**
   * The address of the first symbol of this name, or `undefined`: names of local functions need not be unique. Unlike
   * {@link KernelSymbols.lookup} it knows variables too, where the kernel has them (CONFIG_KALLSYMS_ALL). It searches
   * the whole table: about a millisecond.
   *
   * @example
   * ```ts
   * import { KernelSymbols } from "bun-bpf";
   * console.log(KernelSymbols.read().address("no_such_function")); // undefined
   * ```
   */
  address(name: string): bigint | undefined {
    if (name === "" || /\s/.test(name)) return undefined;
    const start = findName(this.#bytes, name);
    if (start === undefined) return undefined;
    return BigInt(`0x${this.#bytes.toString("latin1", start, start + addressDigits)}`);
  }

  #names(start: number): Pick<KernelSymbol, "name" | "module"> {
    const end = this.#bytes.indexOf(newline, start);
    const [name, module] = this.#bytes.toString("utf8", start + nameColumn, end).split("\t");
    return { name: name!, module: module?.slice(1, -1) };
  }
}

/** Where the first line of this name begins, which has no white space. */
function findName(bytes: Buffer, name: string): number | undefined {
  const searched = Buffer.from(` ${name}`);
  for (let from = 0; ; from += searched.length) {
    from = bytes.indexOf(searched, from);
    if (from === -1) return undefined;
    const end = bytes[from + searched.length];
    if (end === newline || end === tab) return from + 1 - nameColumn;
  }
}

/** The index of the last line whose address is not above this one, or a negative one that no line has. */
function lastAtOrBelow(table: Lines, high: number, low: number): number {
  let from = 0;
  let to = table.length / words;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const middleHigh = table[middle * words]!;
    if (middleHigh < high || (middleHigh === high && table[middle * words + 1]! <= low)) {
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
    `${path} shows all addresses as 0: the kernel hides them from this process. Run as root (sudo -E) or with CAP_SYSLOG ` +
    `(setcap cap_syslog+ep, --cap-add SYSLOG), where ${sysctl} is 0 or 1 (here it is ${readFileSync(sysctl, "utf8").trim()})`
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
