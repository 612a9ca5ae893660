import { describe, expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import {
  ArrayMap,
  asm,
  BpfError,
  type Code,
  HashMap,
  Program,
  type ProgramFlag,
  type ProgramOptions,
  t,
  VerifierError,
} from "../../src/index.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { BPF_PSEUDO_MAP_IDX } from "../../src/uapi/instruction.ts";
import { bpfTest } from "../support/privilege.ts";

const { r0, r1, r2, r10 } = asm;
const end: Code = [asm.mov(r0, 0), asm.exit()];

function load(options: Partial<ProgramOptions>): Program {
  return new Program({ section: "xdp", license: "GPL", code: end, ...options });
}

/** Returns the error of a load that must fail. */
function refusal(options: Partial<ProgramOptions>): BpfError {
  try {
    using _program = load(options);
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  return expect.unreachable("the kernel took it");
}

describe("flags", () => {
  const versions = {
    strict_alignment: "4.12",
    any_alignment: "5.0",
    test_rnd_hi32: "5.3",
    test_state_freq: "5.4",
    xdp_has_frags: "5.18",
    test_reg_invariants: "6.8",
  } as const satisfies Partial<Record<ProgramFlag, string>>;

  for (const [name, since] of Object.entries(versions)) {
    const flags = [name as ProgramFlag];
    bpfTest(`${name} is accepted since Linux ${since}, and explained before`, () => {
      if (isKernelSince(since)) {
        using program = load({ flags });
        expect(program.testRun({ data: new Uint8Array(64) }).returnValue).toBe(0);
        return;
      }
      const error = refusal({ flags });
      expect(error.code).toBe("EINVAL");
      expect(error.hint).toBe(`The flag ${name} needs Linux ${since}`);
    });
  }

  bpfTest("strict_alignment makes the verifier reject unaligned access", () => {
    using values = new ArrayMap({ value: t.bytes(8), length: 1 });
    const code = [asm.ldMapValue(r1, "values", 0), asm.ldxw(r2, r1, 1), end];
    const options = { section: "socket", code, maps: { values } } as const;
    using _program = load(options);
    const strict = refusal({ ...options, flags: ["strict_alignment"] });
    expect(strict).toBeInstanceOf(VerifierError);
    expect((strict as VerifierError).reason).toContain("misaligned value access");
  });

  bpfTest("sleepable is added to the flags of the section", () => {
    const error = refusal({ flags: ["sleepable"] });
    expect(error.message).toMatch(/can(not)? be sleepable/);
    if (!isKernelSince("5.14")) return;
    using _program = load({ section: "syscall", flags: ["sleepable", "test_state_freq"] });
  });

  bpfTest("unknown ones are refused before the system call", () => {
    expect(() => load({ flags: ["strict_aligment" as never] })).toThrow(
      'flags: unknown flag "strict_aligment": did you mean "strict_alignment"?',
    );
    expect(() => load({ flags: "sleepable" as never })).toThrow(
      'flags: expected an array of names, got "sleepable"',
    );
    expect(() => load({ flags: ["toString" as never] })).toThrow(TypeError);
  });
});

describe("interface", () => {
  const flags = ["xdp_dev_bound_only"] as const;
  const names = readdirSync("/sys/class/net").filter((name) => name !== "bonding_masters");

  for (const name of names) {
    bpfTest(`${name} gets the program bound to it, or its driver cannot`, () => {
      if (!isKernelSince("6.3")) {
        expect(refusal({ flags, interface: name }).hint).toBe(
          "The flag xdp_dev_bound_only needs Linux 6.3",
        );
        return;
      }
      const index = Number(readFileSync(`/sys/class/net/${name}/ifindex`, "utf8"));
      let program: Program;
      try {
        program = load({ flags, interface: name });
      } catch (error) {
        if (!(error instanceof BpfError)) throw error;
        expect(error.code).toBe("EOPNOTSUPP");
        expect(error.hint).toBe(`The driver of ${name} does not support XDP`);
        return;
      }
      using bound = program;
      expect(name).not.toBe("lo");
      // The kernel runs the program, but not in test runs.
      expect(bound.info().offloadedTo).toBeUndefined();
      expect(() => bound.testRun({ data: new Uint8Array(64) })).toThrow(
        /EINVAL .*The kernel has no test runs for XDP programs that are bound to a network interface, or loaded for the entries of a map/,
      );
      using _other = load({ flags, interface: index });
    });
  }

  bpfTest("without the flag is for offloading, which software interfaces refuse", () => {
    const error = refusal({ interface: "lo" });
    expect(["EOPNOTSUPP", "EINVAL"]).toContain(error.code);
    expect(error.hint).toStartWith("The driver of lo does not offload programs to hardware");
    using program = load({});
    expect(program.info().offloadedTo).toBeUndefined();
  });

  bpfTest("is checked", () => {
    expect(refusal({ flags, interface: "nothing0" }).code).toBe("ENODEV");
    expect(() => load({ flags })).toThrow(
      'interface: the flag "xdp_dev_bound_only" needs the network interface to bind the program to',
    );
    expect(() => load({ section: "socket", interface: "lo" })).toThrow(
      'interface: only programs of the types xdp and sched_cls are bound to network interfaces, those of section "socket" are socket_filter',
    );
    expect(() => load({ interface: 0 })).toThrow(
      "interface: expected an integer from 1 to 2147483647, got 0",
    );
    expect(() => load({ interface: "" })).toThrow(TypeError);
    const unknown = refusal({ interface: 0x7fffffff });
    expect(unknown.hint).toStartWith(
      "This network namespace has no interface with the index 2147483647: ",
    );
  });
});

describe("fdArray", () => {
  const loadByIndex = (index: number): Code => [
    { opcode: 0x18, dst: r1.register, src: BPF_PSEUDO_MAP_IDX, offset: 0, imm: BigInt(index) },
    asm.stw(r10, -4, 0),
    asm.mov(r2, r10),
    asm.add(r2, -4),
    asm.call("map_lookup_elem"),
    asm.jeq(r0, 0, "out"),
    asm.ldxw(r0, r0, 0),
    asm.label("out"),
    asm.exit(),
  ];

  bpfTest("has the maps that instructions refer to by index", () => {
    using other = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    using values = new ArrayMap({ value: t.u32, length: 1 });
    values.set(0, 42);
    const options = {
      section: "socket",
      code: loadByIndex(1),
      fdArray: [other, values.fd],
    } as const;
    if (!isKernelSince("5.14")) {
      const error = refusal(options);
      expect(error.hint).toBe("The option fdArray needs Linux 5.14");
      return;
    }
    using program = load(options);
    expect(program.testRun({ data: new Uint8Array(14) }).returnValue).toBe(42);
    expect(program.info().mapIds).toContain(values.id);
    // Since Linux 6.14 the program keeps all maps of the array.
    expect(program.info().mapIds?.includes(other.id)).toBe(isKernelSince("6.14"));
  });

  bpfTest("is checked", () => {
    using values = new ArrayMap({ value: t.u32, length: 1 });
    const section = "socket";
    expect(() => load({ section, fdArray: values as never })).toThrow(
      /^fdArray: expected an array of maps and BTF objects, got/,
    );
    expect(() => load({ section, fdArray: ["values" as never] })).toThrow(
      'expected a map or a BTF object: its descriptor, or an object with that as fd, got "values"',
    );
    if (!isKernelSince("5.14")) return;
    using program = load({ section });
    const error = refusal({ section, code: loadByIndex(0), fdArray: [program] });
    expect(error.message).toMatch(/fd \d+ is not pointing to valid bpf_map/);
    // The array may be longer than the program needs.
    using _empty = load({ section, fdArray: [] });
  });
});

describe("token", () => {
  bpfTest("that is another object is refused, also with types", () => {
    using values = new ArrayMap({ value: t.u32, length: 1 });
    const code = [asm.withSource(asm.mov(r0, 0), { file: "token.ts", line: 1 }), asm.exit()];
    for (const options of [{ token: values }, { token: values.fd, code }]) {
      const error = refusal(options);
      expect(error.hint).toBe(
        isKernelSince("6.9")
          ? "The option token is not the descriptor of a BPF token"
          : "The option token needs Linux 6.9",
      );
    }
  });

  bpfTest("that is closed is refused", () => {
    const error = refusal({ token: 0x7fffffff });
    if (!isKernelSince("6.9")) return expect(error.hint).toBe("The option token needs Linux 6.9");
    expect(error.code).toBe("EBADF");
    expect(error.hint).toBe("The descriptor of the token is not open");
  });

  bpfTest("is checked", () => {
    expect(() => load({ token: "token" as never })).toThrow(
      'expected a BPF token: its descriptor, or an object with that as fd, got "token"',
    );
  });
});

describe("signature", () => {
  const signature = new Uint8Array([1, 2, 3]);

  bpfTest("that is not PKCS #7 is refused", () => {
    const error = refusal({ signature });
    if (!isKernelSince("6.18")) {
      expect(error.hint).toBe("The option signature needs Linux 6.18");
      return;
    }
    expect([
      "The signature is not a PKCS #7 message in DER",
      "This kernel was built without CONFIG_SYSTEM_DATA_VERIFICATION, which verifies signatures",
      "The kernel has no keyring 0 that this process may search, or was built without CONFIG_KEYS",
    ]).toContain(error.hint ?? "no hint");
  });

  bpfTest("needs a keyring that exists", () => {
    const error = refusal({ signature, keyringId: 0x7fff_fff0 });
    if (!isKernelSince("6.18")) {
      expect(error.hint).toBe("The option signature needs Linux 6.18");
      return;
    }
    expect(error.code).toBe("EINVAL");
    expect(error.hint).toStartWith("The kernel has no keyring 2147483632 ");
  });

  bpfTest("is checked", () => {
    expect(() => load({ signature: "abc" as never })).toThrow(
      'signature: expected a Uint8Array, got "abc"',
    );
    expect(() => load({ signature: new Uint8Array(0) })).toThrow(
      /^signature: expected 1 to \d+ bytes, got 0$/,
    );
    expect(() => load({ keyringId: 1 })).toThrow(
      "keyringId: names the keyring for a signature, got no signature",
    );
    expect(() => load({ signature, keyringId: 2 ** 31 })).toThrow(
      "keyringId: expected an integer from -2147483648 to 2147483647, got 2147483648",
    );
  });
});
