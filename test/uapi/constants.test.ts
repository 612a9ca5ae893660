/** Tests of `uapi`, the constants for scripts. */
import { mkdtempSync, rmSync } from "node:fs";
import { constants as os, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, expectTypeOf, test } from "bun:test";
import { asm, Btf, constantName, Program, uapi } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot } from "../support/run.ts";
import { hostTest } from "../support/skipping.ts";
import { enumerations } from "./enumerations.ts";
import { read, readInput } from "./generate.ts";

const input = readInput();
const all = uapi as Readonly<Record<string, unknown>>;

test("every enumeration has the kernel's constants", () => {
  for (const [name, { from, areSeparate = false }] of Object.entries(enumerations)) {
    const members = Object.fromEntries(from.flatMap((source) => read(input, source)));
    expect(Object.keys(members)).not.toEqual([]);
    for (const [constant, value] of Object.entries(members)) {
      expect([constant, all[constant]]).toEqual([constant, value]);
    }
    expect([name, all[name]]).toEqual([name, areSeparate ? undefined : members]);
  }
});

test("the constants that scripts and guides use exist", () => {
  // Numbers of the ABI, which kernels cannot change.
  expect([
    [uapi.XDP_ABORTED, uapi.XDP_DROP, uapi.XDP_PASS, uapi.XDP_TX, uapi.XDP_REDIRECT],
    [uapi.TC_ACT_UNSPEC, uapi.TC_ACT_OK, uapi.TC_ACT_SHOT, uapi.TC_ACT_REDIRECT],
    [uapi.TCX_NEXT, uapi.TCX_DROP, uapi.SK_DROP, uapi.SK_PASS, uapi.NF_DROP, uapi.NF_ACCEPT],
    [uapi.BPF_ANY, uapi.BPF_NOEXIST, uapi.BPF_EXIST, uapi.BPF_F_LOCK],
    [uapi.BPF_F_USER_STACK, uapi.BPF_F_CURRENT_CPU, uapi.BPF_RB_NO_WAKEUP],
    [uapi.TCP_ESTABLISHED, uapi.TCP_CLOSE, uapi.TCP_LISTEN, uapi.TCP_NEW_SYN_RECV],
    [uapi.AF_INET, uapi.AF_INET6, uapi.IPPROTO_TCP, uapi.IPPROTO_UDP, uapi.SOCK_DGRAM],
    [uapi.ETH_P_IP, uapi.ETH_P_IPV6, uapi.ETH_P_ARP, uapi.ETH_P_8021Q, uapi.IP_OFFSET],
    [uapi.PERF_TYPE_SOFTWARE, uapi.PERF_COUNT_SW_CPU_CLOCK, uapi.PERF_COUNT_HW_CACHE_MISSES],
    [uapi.EACCES, uapi.SIGKILL, uapi.CAP_BPF, uapi.CLONE_NEWNET, uapi.PF_KTHREAD, uapi.O_CREAT],
    [uapi.TCPHDR_SYN, uapi.TCPHDR_ACK, uapi.SOL_SOCKET, uapi.SO_REUSEPORT, uapi.TCP_CONGESTION],
  ]).toEqual([
    [0, 1, 2, 3, 4],
    [-1, 0, 2, 7],
    [-1, 2, 0, 1, 0, 1],
    [0, 1, 2, 4],
    [256, 0xffff_ffff, 1],
    [1, 7, 10, 12],
    [2, 10, 6, 17, 2],
    [0x0800, 0x86dd, 0x0806, 0x8100, 0x1fff],
    [1, 0, 3],
    [13, 9, 39, 0x4000_0000, 0x0020_0000, 64],
    [2, 16, 1, 15, 13],
  ]);
});

test("errors and signals have the same numbers as in node:os", () => {
  const known: Readonly<Record<string, number>> = { ...os.errno, ...os.signals };
  const tables: [string, number][] = Object.entries({ ...uapi.errno, ...uapi.signal_number });
  const shared = tables.filter(([name]) => known[name] !== undefined);
  expect(shared.length).toBeGreaterThan(100);
  for (const [name, value] of shared) expect([name, value]).toEqual([name, known[name] as number]);
});

test("constantName returns the first name of a value, or undefined", () => {
  expect(constantName(uapi.xdp_action, 2)).toBe("XDP_PASS");
  expect(constantName(uapi.tc_action, -1)).toBe("TC_ACT_UNSPEC");
  // EAGAIN and EWOULDBLOCK are the same number.
  expect(constantName(uapi.errno, 11)).toBe("EAGAIN");
  expect(constantName(uapi.errno, 4711)).toBeUndefined();
  expect(constantName({ low: 1, high: 2 }, 2)).toBe("high");
});

test("constants have literal types, and the type of an enumeration is their union", () => {
  expectTypeOf<typeof uapi.XDP_PASS>().toEqualTypeOf<2>();
  expectTypeOf<uapi.xdp_action>().toEqualTypeOf<0 | 1 | 2 | 3 | 4>();
  expectTypeOf<uapi.sk_action>().toEqualTypeOf<0 | 1>();
  const state: uapi.tcp_state = uapi.TCP_LISTEN;
  expect(state).toBe(10);
  // @ts-expect-error: not a state
  const wrong: uapi.tcp_state = 99;
  expect(wrong).toBe(99 as never);
  expectTypeOf(constantName(uapi.sk_action, 1)).toEqualTypeOf<"SK_DROP" | "SK_PASS" | undefined>();
});

const kernel = readableKernel();

test.skipIf(kernel === undefined)(
  "enumerations have the values of the running kernel's BTF",
  () => {
    const btf = kernel as Btf;
    let compared = 0;
    for (const [name, members] of Object.entries(all)) {
      const id = typeof members === "object" ? btf.find("enum", name) : undefined;
      if (id === undefined) continue;
      const own = members as Readonly<Record<string, number>>;
      // Older kernels have fewer members.
      const shared = btf.enumerators(id).filter((one) => Object.hasOwn(own, one.name));
      for (const { name: member, value } of shared) {
        // Enums are not always marked as signed.
        expect([member, Number(BigInt.asIntN(32, BigInt(value)))]).toEqual([
          member,
          own[member] as number,
        ]);
        compared++;
      }
    }
    // The kernel's BTF has at least these, which its code uses: xdp_action, sk_action, tcp_ca_state, perf_sw_ids.
    expect(compared).toBeGreaterThan(20);
  },
);

describe("a bundle", () => {
  const bundle = async (code: string): Promise<string> => {
    const folder = mkdtempSync(join(tmpdir(), "constants-"));
    try {
      const path = join(folder, "main.ts");
      await Bun.write(path, code.replace("bun-bpf", join(packageRoot, "src/index.ts")));
      const { outputs } = await Bun.build({ entrypoints: [path], target: "bun", minify: true });
      return (await outputs[0]?.text()) ?? "";
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  hostTest("contains only the constants that are used", async () => {
    const code = await bundle(`import { uapi } from "bun-bpf";
console.log(uapi.XDP_PASS, uapi.BPF_F_USER_STACK, uapi.AF_INET6, uapi.PERF_TYPE_RAW);`);
    expect([...code.matchAll(/=(-?\d+)/g)].map(([, value]) => Number(value)).toSorted()).toEqual([
      10, 2, 256, 4,
    ]);
    expect(code).not.toContain("bun:ffi");
    expect(code.length).toBeLessThan(100);
  });

  hostTest("contains only the enumeration that is used", async () => {
    const code = await bundle(`import { uapi } from "bun-bpf"; console.log(uapi.xdp_action);`);
    expect(code).toContain("XDP_REDIRECT:");
    expect(code).not.toContain("TC_ACT");
    expect(code.length).toBeLessThan(300);
  });
});

bpfTest("the kernel returns the results of XDP programs unchanged", () => {
  for (const verdict of Object.values(uapi.xdp_action)) {
    using program = new Program({
      section: "xdp",
      license: "GPL",
      code: [asm.mov(asm.r0, verdict), asm.exit()],
    });
    const { returnValue } = program.testRun({ data: new Uint8Array(14) });
    expect(constantName(uapi.xdp_action, returnValue)).toBe(
      constantName(uapi.xdp_action, verdict) as never,
    );
  }
});

/** Returns the running kernel's BTF, or `undefined` if it cannot be read. */
function readableKernel(): Btf | undefined {
  try {
    return Btf.kernel();
  } catch {
    return undefined;
  }
}
