import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asm, formatKernelSymbol, KernelSymbols, Program } from "../../src/index.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { packageRoot, runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { type Random, withRandom } from "../types/random.ts";

const table = "/proc/kallsyms";
let folder = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kernel-symbols-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function pathOf(text: string): string {
  const path = join(folder, "kallsyms");
  writeFileSync(path, text);
  return path;
}

function symbolsOf(...lines: readonly string[]): KernelSymbols {
  return KernelSymbols.read(pathOf(lines.map((line) => `${line}\n`).join("")));
}

/** Looks up an address and formats the symbol. */
function at(symbols: KernelSymbols, address: bigint): string | undefined {
  const symbol = symbols.lookup(address);
  return symbol && formatKernelSymbol(symbol);
}

function sysctl(name: string): string {
  return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").trim();
}

describe("lookup", () => {
  test("finds the nearest function at or below the address, in a table of any order", () => {
    const symbols = symbolsOf(
      "ffffffff81002000 T third",
      "ffffffffc0000100 t in_module\t[nf_tables]",
      "ffffffff81000000 t first",
      "ffffffff81001000 W second",
      "ffff800000001000 T elsewhere",
    );
    expect(symbols.lookup(0xffffffff81000ffen)).toEqual({
      name: "first",
      offset: 0xffe,
      module: undefined,
      address: 0xffffffff81000000n,
    });
    expect(symbols.lookup(0xffffffffc0000100n)).toEqual({
      name: "in_module",
      offset: 0,
      module: "nf_tables",
      address: 0xffffffffc0000100n,
    });
    expect(at(symbols, 0xffffffff81000fffn)).toBe("first+0xfff");
    expect(at(symbols, 0xffffffff81001000n)).toBe("second+0x0");
    expect(at(symbols, 0xffffffff81002001n)).toBe("third+0x1");
    expect(at(symbols, 0xffff800000001010n)).toBe("elsewhere+0x10");
  });

  test("returns undefined in user space, before the first function and far after the last", () => {
    const symbols = symbolsOf("ffffffff81000000 T only");
    for (const address of [0n, 1n, 0x7fff_ffff_ffffn, 0xffffffff80ffffffn]) {
      expect(symbols.lookup(address)).toBeUndefined();
    }
    expect(at(symbols, 0xffffffff81ffffffn)).toBe("only+0xffffff");
    expect(symbols.lookup(0xffffffff82000000n)).toBeUndefined();
    expect(symbols.lookup(2n ** 64n - 1n)).toBeUndefined();
  });

  test("returns undefined for data, which ends the function before it", () => {
    const symbols = symbolsOf(
      "0000000000000000 A fixed_percpu_data",
      "ffffffff81000000 T function",
      "ffffffff81000010 a a_number",
      "ffffffff81000020 A a_checksum",
      "ffffffff81000100 B data_of_the_same_address",
      "ffffffff81000100 t function_of_the_same_address",
      ..."bBdDrRvVn".split("").map((type, i) => `ffffffff8200000${i} ${type} data_${i}`),
      "ffffffff83000000 t behind",
    );
    expect(symbols.lookup(0n)).toBeUndefined();
    expect(at(symbols, 0xffffffff81000030n)).toBe("function+0x30");
    expect(at(symbols, 0xffffffff81000100n)).toBe("function_of_the_same_address+0x0");
    for (let i = 0n; i < 16n; i++) expect(symbols.lookup(0xffffffff82000000n + i)).toBeUndefined();
    expect(at(symbols, 0xffffffff83000000n)).toBe("behind+0x0");
  });

  test("returns undefined after the markers of the end of code, unless a function begins there", () => {
    const symbols = symbolsOf(
      "ffffffff81000000 T last",
      "ffffffff81000100 T _etext",
      "ffffffff81000200 T first_of_init",
      "ffffffff81000300 T _einittext",
      "ffffffff81000300 t behind",
      "ffffffff81000400 T _etext_of_another_name",
    );
    expect(at(symbols, 0xffffffff810000ffn)).toBe("last+0xff");
    expect(symbols.lookup(0xffffffff81000100n)).toBeUndefined();
    expect(symbols.lookup(0xffffffff810001ffn)).toBeUndefined();
    expect(at(symbols, 0xffffffff81000300n)).toBe("behind+0x0");
    expect(at(symbols, 0xffffffff81000400n)).toBe("_etext_of_another_name+0x0");
    expect(symbols.address("_etext")).toBe(0xffffffff81000100n);
  });

  test("chooses the first of several names, and a weak one only if all are weak", () => {
    const [local, global, weak, weakObject, data] = [
      "t local",
      "T global",
      "W weak",
      "w other",
      "d data",
    ].map((name) => `ffffffff81000000 ${name}`) as [string, string, string, string, string];
    const named = (...lines: readonly string[]) => at(symbolsOf(...lines), 0xffffffff81000000n);
    expect(named(local, global)).toBe("local+0x0");
    expect(named(global, local)).toBe("global+0x0");
    expect(named(weak, local, global)).toBe("local+0x0");
    expect(named(global, weak, local)).toBe("global+0x0");
    expect(named(weak, weakObject)).toBe("weak+0x0");
    expect(named(weakObject, weak)).toBe("other+0x0");
    expect(named(data, weak, data)).toBe("weak+0x0");
    expect(at(symbolsOf(local, `${local}_2`, weak), 0xffffffff81000001n)).toBe("local+0x1");
  });

  test("ignores the mapping symbols of arm64 inside of functions", () => {
    const symbols = symbolsOf(
      "ffff800080000000 t function\t[module]",
      "ffff800080000000 t $x\t[module]",
      "ffff800080000010 r $d\t[module]",
    );
    expect(at(symbols, 0xffff800080000014n)).toBe("function+0x14 [module]");
  });

  test("throws for values that are not addresses", () => {
    const symbols = symbolsOf("ffffffff81000000 T only");
    // @ts-expect-error: wrong on purpose
    expect(() => symbols.lookup(5)).toThrow(
      new TypeError(
        "expected an address as a bigint, got 5: a number cannot hold all of its 64 bits",
      ),
    );
    expect(() => symbols.lookup(-1n)).toThrow(RangeError);
    expect(() => symbols.lookup(2n ** 64n)).toThrow("from 0 to 2 ** 64 - 1");
  });
});

describe("lookupStack", () => {
  const symbols = () =>
    symbolsOf("ffffffff81000000 T first", "ffffffff81000100 T second\t[module]");

  test("looks up the first address as it is, and the others as return addresses", () => {
    const stack = [0xffffffff81000100n, 0xffffffff81000100n, 0xffffffff81000101n];
    const frames = symbols().lookupStack(stack);
    expect(frames.map(({ address }) => address)).toEqual(stack);
    expect(frames.map(({ symbol }) => symbol && formatKernelSymbol(symbol))).toEqual([
      "second+0x0 [module]",
      "first+0x100",
      "second+0x1 [module]",
    ]);
    expect(frames[1]?.symbol).toEqual({
      name: "first",
      offset: 0x100,
      module: undefined,
      address: 0xffffffff81000000n,
    });
  });

  test("returns frames without a symbol for addresses outside of functions", () => {
    const stack = [0n, 0n, 0x400000n, 0xffffffff81000000n, 2n ** 64n - 1n];
    expect(symbols().lookupStack(stack)).toEqual(
      stack.map((address) => ({ address, symbol: undefined })),
    );
    expect(symbols().lookupStack([])).toEqual([]);
  });

  test("throws for values that are not stacks", () => {
    expect(() => symbols().lookupStack(5n as unknown as bigint[])).toThrow(
      new TypeError("expected an array of addresses, got 5n"),
    );
    expect(() => symbols().lookupStack([0n, -1n])).toThrow(RangeError);
    expect(() => symbols().lookupStack([0n, 5 as unknown as bigint])).toThrow(TypeError);
  });
});

describe("address", () => {
  test("returns that of the first symbol with exactly this name, of any type", () => {
    const symbols = symbolsOf(
      "ffffffff81000000 T schedule_timeout",
      "ffffffff81000010 T __schedule",
      "ffffffff81000020 t schedule\t[module]",
      "ffffffff81000030 T schedule",
      "ffffffff81000040 D jiffies",
      "ffffffff81000050 T T",
    );
    expect(symbols.address("schedule")).toBe(0xffffffff81000020n);
    expect(symbols.address("jiffies")).toBe(0xffffffff81000040n);
    expect(symbols.address("T")).toBe(0xffffffff81000050n);
    for (const name of [
      "",
      "sched",
      "T schedule",
      "schedule\t[module]",
      "[module]",
      "ffffffff81000000",
    ]) {
      expect(symbols.address(name)).toBeUndefined();
    }
  });
});

describe("reading an invalid table throws", () => {
  test("a RangeError with the line", () => {
    const good = "ffffffff81000000 T good\n";
    for (const bad of [
      "\n",
      "ffffffff81000000\n",
      "ffffffff81000000 T\n",
      "ffffffff81000000 T \n",
      "ffffffff81000000  name\n",
      "fffffff81000000 T name\n",
      "fffffffff81000000 T name\n",
      "ffffffff8100000g T name\n",
      "ffffffff81000000 T two names\n",
      "ffffffff81000000 T name\t\n",
      "ffffffff81000000 T name\tmodule\n",
      "ffffffff81000000 T name\t[module\n",
      "ffffffff81000000 T name\t[module] \n",
      "ffffffff81000000 T name\r\n",
      "ffffffff81000000 T name",
      "ffffffff81",
    ]) {
      const path = pathOf(good + bad);
      const message = `expected "address type name" in line 2 of ${path}, got`;
      expect(() => KernelSymbols.read(path), JSON.stringify(bad)).toThrow(message);
      expect(() => KernelSymbols.read(path)).toThrow(RangeError);
      writeFileSync(path, bad + good);
      expect(() => KernelSymbols.read(path), JSON.stringify(bad)).toThrow("in line 1 of");
    }
  });

  test("a RangeError if the file is empty, and ENOENT if it is absent", () => {
    const path = pathOf("");
    expect(() => KernelSymbols.read(path)).toThrow(
      new RangeError(`${path} is empty: expected a table of kernel symbols`),
    );
    expect(() => KernelSymbols.read(join(folder, "missing"))).toThrow("ENOENT");
  });

  test("an error with the remedy if the kernel hides the addresses", () => {
    expect(() => symbolsOf("0000000000000000 A one", "0000000000000000 T two")).toThrow(
      /shows all addresses as 0: .* as root .* CAP_SYSLOG .*kptr_restrict is 0 or 1 \(here it is [012]\)$/,
    );
  });
});

test("lookup agrees with a linear search", () => {
  interface Line {
    readonly address: bigint;
    readonly type: string;
    readonly name: string;
    readonly module: string | undefined;
  }
  const order = ["Tt", "Ww"];
  const rank = ({ type, name }: Line): number => {
    const index = name === "_etext" ? -1 : order.findIndex((types) => types.includes(type));
    return index === -1 ? order.length : index;
  };
  const search = (lines: readonly Line[], address: bigint) => {
    let best: Line | undefined;
    for (const line of lines) {
      if ("aA".includes(line.type) || line.address > address) continue;
      const isNearer =
        best === undefined ||
        line.address > best.address ||
        (line.address === best.address && rank(line) < rank(best));
      if (isNearer) best = line;
    }
    if (best === undefined || rank(best) === order.length) return undefined;
    const offset = address - best.address;
    if (offset >= 2n ** 24n) return undefined;
    return { name: best.name, module: best.module, address: best.address, offset: Number(offset) };
  };
  const bases = [0n, 0xfffffff0n, 0xffff_8000_0000_0000n, 0xffffffff81000000n, 2n ** 64n - 256n];
  const randomAddress = (random: Random): bigint =>
    random.below(8) === 0
      ? random.bits64()
      : random.pick(bases) + BigInt(random.below(256)) * (random.below(2) === 0 ? 1n : 0n);

  withRandom((random) => {
    for (let round = 0; round < 200; round++) {
      const lines = Array.from({ length: 1 + random.below(80) }, (_, index): Line => {
        const isMarker = index === 5 && random.below(2) === 0;
        return {
          address: randomAddress(random),
          type: random.pick([..."TTTtttWwdDrRbBaA"]),
          name: isMarker ? "_etext" : `name_${index}`,
          module: isMarker || random.below(2) === 0 ? undefined : "module",
        };
      });
      lines.push({ address: 7n, type: "a", name: "not_all_hidden", module: undefined });
      const symbols = symbolsOf(
        ...lines.map(({ address, type, name, module }) => {
          const digits = address.toString(16).padStart(16, "0");
          return `${digits} ${type} ${name}${module === undefined ? "" : `\t[${module}]`}`;
        }),
      );
      const addresses = Array.from({ length: 50 }, () => randomAddress(random));
      for (const line of lines) {
        expect(symbols.address(line.name)).toBe(line.address);
        addresses.push(line.address, BigInt.asUintN(64, line.address + 1n));
        addresses.push(BigInt.asUintN(64, line.address - 1n));
        addresses.push(BigInt.asUintN(64, line.address + 2n ** 24n));
      }
      for (const address of addresses) {
        expect(symbols.lookup(address), `0x${address.toString(16)}`).toEqual(
          search(lines, address),
        );
      }
    }
  });
});

describe("the kernel's own table", () => {
  const addressObstacle = /^(?!0{16})[0-9a-f]{16} /m.test(readFileSync(table, "latin1"))
    ? undefined
    : "the kernel hides addresses from this process";

  testUnless(addressObstacle)("has the functions of its lines", () => {
    const symbols = KernelSymbols.read();
    const functions = [
      ...readFileSync(table, "latin1").matchAll(/^(\w+) [TtWw] ([^\s$]\S*)(?:\t\[(\S+)\])?$/gm),
    ].map(([, address, name, module]) => ({ address: BigInt(`0x${address}`), name, module }));
    expect(functions.length).toBeGreaterThan(10_000);
    const named = Map.groupBy(functions, ({ address }) => address);
    withRandom((random) => {
      for (let i = 0; i < 5000; i++) {
        const { address, name, module } = random.pick(functions);
        if (name === "_etext" || name === "_einittext") continue;
        const found = symbols.lookup(address);
        expect(found).toMatchObject({ offset: 0, address });
        // Other processes may load and unload BPF programs in the meantime.
        if (module === "bpf") continue;
        expect(named.get(address)?.map((one) => one.name)).toContain(found?.name);
        const next = symbols.lookup(address + 1n);
        if (named.has(address + 1n)) expect(next?.offset).toBe(0);
        else expect(next).toEqual({ ...found!, offset: 1 });
      }
    });
    const schedule = symbols.address("schedule") as bigint;
    expect(at(symbols, schedule + 1n)).toBe("schedule+0x1");
    const end = symbols.address("_etext") as bigint;
    if (!named.get(end)?.some(({ name }) => name !== "_etext")) {
      expect(symbols.lookup(end)).toBeUndefined();
    }
    expect(symbols.lookup(0x400000n)).toBeUndefined();
    expect(symbols.lookup(0xffffffffff600000n)).toBeUndefined();
  });

  const zero = (name: string) => (sysctl(name) === "0" ? `${name} is 0` : undefined);
  const programObstacle =
    bpfObstacle ?? zero("net.core.bpf_jit_enable") ?? zero("net.core.bpf_jit_kallsyms");

  testUnless(addressObstacle ?? programObstacle)(
    "has a new BPF program after it is read again",
    () => {
      const before = KernelSymbols.read();
      let name = "";
      {
        using program = new Program({
          section: "socket",
          license: "GPL",
          name: "symbol_test",
          code: [asm.mov(asm.r0, 0), asm.exit()],
        });
        name = `bpf_prog_${program.info().tag}_symbol_test`;
        const symbols = KernelSymbols.read();
        const address = symbols.address(name) as bigint;
        expect(symbols.lookup(address + 2n)).toEqual({ name, offset: 2, module: "bpf", address });
        expect(at(symbols, address)).toBe(`${name}+0x0 [bpf]`);
      }
      expect(before.address(name)).toBeUndefined();
    },
  );

  const refusalObstacle =
    sysctl("kernel.kptr_restrict") === "0" && Number(sysctl("kernel.perf_event_paranoid")) <= 1
      ? "kernel.perf_event_paranoid shows addresses to all processes"
      : undefined;

  testUnless(refusalObstacle)(
    "cannot be read without capabilities, with the remedy in the error",
    async () => {
      const script = join(folder, "child.ts");
      const source = join(packageRoot, "src/symbols/kernel_symbols.ts");
      writeFileSync(
        script,
        `import { KernelSymbols } from ${JSON.stringify(source)}; KernelSymbols.read();`,
      );
      const preload = "./test/support/drop_capabilities.ts";
      const { exitCode, stderr } = await runBun(["--preload", preload, script]);
      expect(stderr).toContain(
        `${table} shows all addresses as 0: the kernel hides them from this process.`,
      );
      expect(stderr).toContain("Run as root (sudo -E), give a compiled script CAP_SYSLOG");
      expect(exitCode).toBe(1);
    },
  );
});

test("formatKernelSymbol formats a symbol as the kernel does", () => {
  const symbol = { name: "nf_hook", offset: 26, module: "nf_tables", address: 1n };
  expect(formatKernelSymbol(symbol)).toBe("nf_hook+0x1a [nf_tables]");
  expect(formatKernelSymbol({ ...symbol, module: undefined })).toBe("nf_hook+0x1a");
});
