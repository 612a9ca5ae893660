import { readFileSync } from "../ffi/files.ts";
import {
  type InspectArguments,
  inspectCustom,
  refuseRange,
  refuseType,
  show,
} from "../check/describe.ts";
import {
  findFunction,
  findName,
  parseTable,
  readAddress,
  readNames,
  type SymbolTable,
} from "./kallsyms.ts";

const longestAddress = 2n ** 64n - 1n;

/** The symbol an address belongs to, as {@link KernelSymbols.lookup} finds it. */
export interface KernelSymbol {
  /** As the kernel writes it; `bpf_prog_<tag>_<name>` for a BPF program. */
  readonly name: string;
  /** Bytes from the start of the symbol to the address that was looked up. */
  readonly offset: number;
  /** The module it is in (`bpf` for BPF programs), or `undefined` for the kernel image itself. */
  readonly module: string | undefined;
  /** Where the symbol starts. */
  readonly address: bigint;
}

/** A frame of a stack, with its function, as {@link KernelSymbols.lookupStack} finds it. */
export interface SymbolizedFrame {
  readonly address: bigint;
  /** The function, or `undefined` as for {@link KernelSymbols.lookup}. Its `offset` is that of the address. */
  readonly symbol: KernelSymbol | undefined;
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
  readonly #table: SymbolTable;

  private constructor(table: SymbolTable) {
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
    return new KernelSymbols(parseTable(readFileSync(path), path));
  }

  /** @internal Shows its data in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("KernelSymbols", { bytes: this.#table.bytes.length }, inspection);
  }

  /**
   * The function that an address is in: the nearest at or below it. `undefined` in user space, in front of the first
   * function, in data, and behind the end of the kernel's code.
   *
   * The table has no sizes. So padding belongs to the function before it, and what is behind the last function of a
   * module or the last BPF program too, up to the next symbol or 16 MiB. Of several names for one address the first in the
   * table is taken, a weak one (`W`, `w`) only where all are: the one that the kernel's own traces show.
   *
   * For the addresses of a stack there is {@link KernelSymbols.lookupStack}.
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
    const found = findFunction(this.#table, address);
    if (found === undefined) return undefined;
    const { start, offset } = found;
    const names = readNames(this.#table.bytes, start);
    return { ...names, offset, address: address - BigInt(offset) };
  }

  /**
   * The functions of a kernel stack, the innermost first, from a `StackTraceMap` or the helper `get_stack()`.
   *
   * All addresses but the first are those that calls return to, which may be just behind the end of the function (where it
   * ends with a call of one that does not return): the function is that of the byte before, as in the kernel's own traces.
   * The first is where the CPU was, which may be the first byte of a function (a kprobe, a sample), or, for raw and classic
   * tracepoints, where a call returns to with more code of the function behind it: it is looked up as it is.
   *
   * The kernel does not tell the exceptions, which get the wrong one of two neighbours: a frame further out that an
   * interrupt left at the first byte of its function; and the first, when the program skipped frames
   * (BPF_F_SKIP_FIELD_MASK) and it is just behind the end of its function.
   *
   * @throws as {@link lookup}
   *
   * @example
   * ```ts
   * import { formatKernelSymbol, KernelSymbols } from "bun-bpf";
   * const symbols = KernelSymbols.read();
   * const schedule = symbols.address("schedule") as bigint;
   * for (const { symbol } of symbols.lookupStack([schedule, schedule + 16n])) {
   *   if (symbol !== undefined) console.log(formatKernelSymbol(symbol)); // schedule+0x0
   * }
   * ```
   */
  lookupStack(addresses: readonly bigint[]): SymbolizedFrame[] {
    if (!Array.isArray(addresses)) refuseType("", "an array of addresses", addresses);
    return addresses.map((address, index) => ({
      address,
      symbol: index === 0 ? this.lookup(address) : this.#caller(address),
    }));
  }

  #caller(address: bigint): KernelSymbol | undefined {
    if (address === 0n) return undefined;
    const before = this.lookup(address - 1n);
    return before && { ...before, offset: before.offset + 1 };
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
    const { bytes } = this.#table;
    const start = findName(bytes, name);
    return start === undefined ? undefined : readAddress(bytes, start);
  }
}
