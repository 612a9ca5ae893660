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

/** The symbol of an address, as {@link KernelSymbols.lookup} returns it. */
export interface KernelSymbol {
  /** The name in the kernel's table; `bpf_prog_<tag>_<name>` for a BPF program. */
  readonly name: string;
  /** The number of bytes from the start of the symbol to the address. */
  readonly offset: number;
  /** The module of the symbol (`bpf` for BPF programs); `undefined` for the kernel image itself. */
  readonly module: string | undefined;
  /** The address of the start of the symbol. */
  readonly address: bigint;
}

/** A frame of a kernel stack with its function, as {@link KernelSymbols.lookupStack} returns it. */
export interface SymbolizedFrame {
  /** The address of the frame. */
  readonly address: bigint;
  /**
   * The function of the frame; `undefined` where {@link KernelSymbols.lookup} returns that. Its `offset` is that of `address`.
   */
  readonly symbol: KernelSymbol | undefined;
}

/**
 * Formats a symbol as in the kernel's own stack traces: `name+0x1a [module]`. The size of the function is left out, because the
 * table does not have it.
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
 * The kernel's symbol table, which translates addresses of kernel stack traces to names.
 *
 * The table is a snapshot. To see modules and BPF programs that were loaded or unloaded later, read it again, which blocks the
 * calling thread for 50 to 200 ms. BPF programs are in it as `bpf_prog_<tag>_<name>` if the sysctl net.core.bpf_jit_kallsyms is
 * 1. A table takes the bytes of the file (5 to 15 MB) and 12 bytes for each address. It does not have to be closed.
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
   * Reads the symbol table. Every call reads the file again. It requires a kernel with CONFIG_KALLSYMS, which distributions
   * enable.
   *
   * Since Linux 4.15 the kernel shows addresses to processes with CAP_SYSLOG; to all processes if kernel.kptr_restrict is 0 and
   * kernel.perf_event_paranoid is at most 1; and to no process if kptr_restrict is 2.
   *
   * @param path the path of the table, or of a copy of it
   * @throws {Error} if the kernel hides the addresses from this process; the message has the remedy.
   * @throws {Error} of `node:fs`, such as ENOENT, if the file cannot be read.
   * @throws {RangeError} if the file is empty or a line is invalid; the message has its number.
   */
  static read(path = "/proc/kallsyms"): KernelSymbols {
    return new KernelSymbols(parseTable(readFileSync(path), path));
  }

  /** @internal Returns the text for `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("KernelSymbols", { bytes: this.#table.bytes.length }, inspection);
  }

  /**
   * Returns the function of an address: the one that starts at it, or the nearest one below. Returns `undefined` for an address
   * of user space, before the first function, of data, or after the end of the kernel's code.
   *
   * The table has no sizes. So padding belongs to the function before it, and so do the bytes after the last function of a
   * module and after the last BPF program, up to the next symbol or 16 MiB. If an address has several names, the result is the
   * one that the kernel's own traces show: the first in the table, and a weak symbol (`W`, `w`) only if all are weak.
   *
   * Use {@link KernelSymbols.lookupStack} for the addresses of a stack.
   *
   * @throws {TypeError} if the address is not a bigint.
   * @throws {RangeError} if the address is not in the range of 64 bits, for example because it was read as a signed number.
   *
   * @example
   * ```ts
   * import { KernelSymbols } from "bun-bpf";
   * console.log(KernelSymbols.read().lookup(0x400000n)); // undefined
   * ```
   */
  lookup(address: bigint): KernelSymbol | undefined {
    if (typeof address !== "bigint") {
      refuseType("", "an address as a bigint", address, "a number cannot hold all of its 64 bits");
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
   * Returns the functions of a kernel stack, innermost first. The addresses are those of a `StackTraceMap` or of the helper
   * `get_stack()`.
   *
   * The first address is the instruction at which the CPU was. It is looked up as it is, because it can be the first byte of
   * a function, as for a kprobe. (For raw and classic tracepoints it is a return address, but the function has more code
   * after it.) The other addresses are return addresses. If a function ends with a call that does not return, the return
   * address is just after the end of the function. So the byte before a return address is looked up, as in the kernel's own
   * traces.
   *
   * In two cases, which the kernel does not distinguish, the result is a neighbour of the right function: for a frame that an
   * interrupt left at the first byte of its function, and for the first address if the program skipped frames
   * (BPF_F_SKIP_FIELD_MASK) and it is just after the end of its function.
   *
   * @throws {TypeError | RangeError} as {@link lookup} does.
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
   * Returns the address of the first symbol with a name; `undefined` if there is none. Names of local functions need not be
   * unique.
   *
   * Unlike {@link KernelSymbols.lookup} it also finds variables, if the kernel was built with CONFIG_KALLSYMS_ALL. It searches
   * the whole table, which takes about a millisecond.
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
