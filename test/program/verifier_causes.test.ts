import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  ArrayMap,
  asm,
  type Code,
  features,
  HashMap,
  type Instruction,
  Program,
  type ProgramOptions,
  RingBuf,
  t,
  VerifierError,
} from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot, runBun } from "../support/run.ts";

const { r0, r1, r2, r3, r4, r6, r7, r10 } = asm;

/** A program that the verifier rejects, and the expected error. */
interface Rejected {
  readonly title: string;
  readonly code: Code;
  readonly options?: Partial<ProgramOptions>;
  /** The verifier's message, in the wordings of all tested kernels. */
  readonly reason: RegExp;
  /** The expected hint, with the remedy. */
  readonly advice: RegExp;
  /** The slot of the rejected instruction; `undefined` if it differs between kernels, or the log has none. */
  readonly slot: number | undefined;
}

const end: Code = [asm.mov(r0, 0), asm.exit()];

/** Looks up the key 0, in slots 0 to 5. The result is in r0. */
const lookup: Code = [
  asm.stw(r10, -4, 0),
  asm.ldMap(r1, "values"),
  asm.mov(r2, r10),
  asm.add(r2, -4),
  asm.call("map_lookup_elem"),
];
/** Looks up the key 0 and jumps to `absent` if there is no value, in slots 0 to 7. r6 has the context. */
const found: Code = [asm.mov(r6, r1), lookup, asm.jeq(r0, 0, "absent")];
const absent: Code = [asm.label("absent"), end];

const reserve: Code = [
  asm.ldMap(r1, "ring"),
  asm.mov(r2, 8),
  asm.mov(r3, 0),
  asm.call("ringbuf_reserve"),
];

/** Calls a helper that fills memory: `size` bytes at r10 + `offset`. */
const fill = (offset: number, size: Code): Code => [
  size,
  asm.mov(r1, r10),
  asm.add(r1, offset),
  asm.call("get_current_comm"),
  end,
];
const tracing = { section: "raw_tp" } as const;
/** An instruction that no kernel has. */
const unknown: Instruction = { opcode: 0x8f, dst: 0, src: 0, offset: 0, imm: 0 };

const rejected: readonly Rejected[] = [
  {
    title: "a register that was never set",
    code: [asm.mov(r0, r3), asm.exit()],
    reason: /^R3 !read_ok$/,
    advice: /^r3 has no value on this path.*r6 to r9/,
    slot: 0,
  },
  {
    title: "a register that a call has cleared",
    code: [asm.mov(r3, 1), asm.call("ktime_get_ns"), asm.mov(r0, r3), asm.exit()],
    reason: /^R3 !read_ok$/,
    advice: /a call has cleared it \(each call clears r1 to r5\)/,
    slot: 2,
  },
  {
    title: "a missing return value",
    code: [asm.exit()],
    reason: /^R0 !read_ok$/,
    advice: /^exit\(\) returns r0, .* mov\(r0, 0\)/,
    slot: 0,
  },
  {
    title: "a number as an address",
    code: [asm.mov(r1, 0), asm.ldxw(r0, r1, 0), asm.exit()],
    reason: /^R1 invalid mem access '(scalar|inv)'$/,
    advice: /^r1 is a number here/,
    slot: 1,
  },
  {
    title: "a load from the unchecked result of a look-up",
    code: [lookup, asm.ldxdw(r0, r0, 0), asm.exit()],
    reason: /^R0 invalid mem access 'map_value_or_null'$/,
    advice: /^r0 may be NULL.*jeq\(r0, 0/,
    slot: 6,
  },
  {
    title: "arithmetic with the unchecked result of a look-up",
    code: [lookup, asm.add(r0, 8), asm.exit()],
    reason: /^R0 pointer arithmetic on map_value_or_null prohibited, null-check it first$/,
    advice: /^r0 may be NULL/,
    slot: 6,
  },
  {
    title: "the unchecked result of a look-up as an argument",
    code: [lookup, asm.mov(r1, r0), asm.mov(r2, 8), asm.call("get_current_comm"), end],
    options: tracing,
    reason: /^R1 type=map_value_or_null expected=/,
    advice: /^r1 may be NULL/,
    slot: 8,
  },
  {
    title: "an argument of a wrong type",
    code: [asm.mov(r1, 5), asm.mov(r2, 8), asm.call("get_current_comm"), end],
    options: tracing,
    reason: /^R1 type=(scalar|inv) expected=fp/,
    advice: /^r1 is an argument of the call and has the wrong type: (scalar|inv) instead of fp/,
    slot: 2,
  },
  {
    title: "the value of a map that is not an array",
    code: [asm.ldMapValue(r1, "values", 0), end],
    reason: /^no direct value access support for this map type$/,
    advice: /^ldMapValue\(\) is for array maps with one entry.* ldMap\(\).* map_lookup_elem\(\)$/,
    slot: undefined,
  },
  {
    title: "the value of an array with several entries",
    code: [asm.ldMapValue(r1, "array", 0), end],
    reason: /^invalid access to map value pointer, value_size=4 off=0$/,
    advice: /^ldMapValue\(\) is for array maps with one entry/,
    slot: undefined,
  },
  {
    title: "an offset outside of the value of an array",
    code: [asm.ldMapValue(r1, "array", 4), end],
    reason: /^invalid access to map value pointer, value_size=4 off=4$/,
    advice: /^ldMapValue\(\) is for .* and for offsets in its value/,
    slot: undefined,
  },
  {
    title: "a stack of more than 512 bytes",
    code: [asm.stdw(r10, -520, 0), end],
    reason: /^invalid (write to stack R10|stack) off=-520 size=8$/,
    advice: /^The stack has 512 bytes.* begins 520 bytes below r10.*per-CPU array/,
    slot: 0,
  },
  {
    title: "memory for a helper outside of the stack",
    code: fill(-600, [asm.mov(r2, 8)]),
    options: tracing,
    reason: /^invalid (write to|indirect access to) stack R1 off=-600 /,
    advice: /begins 600 bytes below r10/,
    slot: 3,
  },
  {
    title: "an access above the stack",
    code: [asm.stdw(r10, 8, 0), end],
    reason: /^invalid .*stack .*off=8 size=8$/,
    advice: /from r10 - 512 up to r10/,
    slot: 0,
  },
  {
    title: "functions that need more than 512 bytes of stack together",
    code: [
      asm.func("main"),
      asm.stdw(r10, -400, 0),
      asm.callFunction("other"),
      end,
      asm.func("other"),
      asm.stdw(r10, -400, 0),
      end,
    ],
    reason: /^combined stack size of 2 calls is \d{3}\. Too large$/,
    advice: /^The 2 functions .* need \d{3} bytes of stack together, and only 512 are available/,
    slot: undefined,
  },
  {
    title: "a loop that changes nothing",
    code: [asm.label("again"), asm.mov(r0, 0), asm.jeq(r0, 0, "again"), asm.exit()],
    reason: /^infinite loop detected at insn [01]$/,
    advice: /^An iteration of this loop ends in the same state as it began.* constant bound$/,
    slot: undefined,
  },
  {
    title: "too many branches",
    code: [
      asm.mov(r6, r1),
      asm.mov(r7, 0),
      asm.label("again"),
      asm.ldxw(r0, r6, 0),
      asm.jeq(r0, 5, "out"),
      asm.add(r7, 1),
      asm.jlt(r7, 9000, "again"),
      asm.label("out"),
      asm.mov(r0, r7),
      asm.exit(),
    ],
    reason: /^The sequence of 8193 jumps is too complex\.$/,
    advice: /^The verifier gave up with 8193 branches.*bpf_loop\(\)/,
    slot: 3,
  },
  {
    title: "a function that calls itself",
    code: [asm.func("main"), asm.callFunction("main"), end],
    reason:
      /^the call stack of 9 frames is too deep|^recursive call from|^back-edge from insn 0 to 0/,
    advice: /nested at most 8 deep, and recursion is not allowed/,
    slot: undefined,
  },
  {
    title: "a helper that programs of this type cannot call",
    code: [asm.mov(r1, 1), asm.mov(r2, 0), asm.call("redirect"), end],
    reason: /(unknown func|program of this type cannot use helper) bpf_redirect#23$/,
    advice: /^Programs of the type socket_filter cannot call bpf_redirect\(\) on this kernel/,
    slot: 2,
  },
  {
    title: "a helper that no kernel has",
    code: [{ ...asm.call("ktime_get_ns"), imm: 9999 }, end],
    reason: /^invalid func unknown#9999$/,
    advice: /^Helper 9999 is not available: .*features\.helpers\(\)/,
    slot: 0,
  },
  {
    title: "a map that the helper does not accept",
    code: [
      asm.ldMap(r1, "values"),
      asm.mov(r2, 8),
      asm.mov(r3, 0),
      asm.call("ringbuf_reserve"),
      end,
    ],
    reason: /^cannot pass map_type 1 into func bpf_ringbuf_reserve#131$/,
    advice: /^bpf_ringbuf_reserve\(\) does not accept maps of this type$/,
    slot: 4,
  },
  {
    title: "a helper for GPL-compatible programs in another program",
    code: [
      asm.mov(r1, r10),
      asm.add(r1, -8),
      asm.mov(r2, 8),
      asm.mov(r3, 0),
      asm.call("probe_read_kernel"),
      end,
    ],
    options: { section: "raw_tp", license: "Proprietary" },
    reason: /^cannot call GPL-restricted function from non-GPL compatible program$/,
    advice: /license: "GPL"/,
    slot: 4,
  },
  {
    title: "a helper that sleeps",
    code: [
      asm.mov(r1, r10),
      asm.add(r1, -8),
      asm.mov(r2, 8),
      asm.mov(r3, 0),
      asm.call("copy_from_user"),
      end,
    ],
    options: tracing,
    reason:
      /might sleep|sleepable helper|unknown func bpf_copy_from_user|cannot use helper bpf_copy_from_user/,
    advice: /^This operation may sleep|cannot call bpf_copy_from_user\(\) on this kernel/,
    slot: 4,
  },
  {
    title: "an access past the end of a map's value",
    code: [found, asm.ldxdw(r1, r0, 16), absent],
    reason: /^invalid access to map value, value_size=16 off=16 size=8$/,
    advice: /^The map value has 16 bytes, and an access of 8 bytes at offset 16 is outside of it/,
    slot: 8,
  },
  {
    title: "an offset into a map's value that may be too large",
    code: [found, asm.ldxw(r3, r6, 0), asm.add(r0, r3), asm.ldxb(r1, r0, 0), absent],
    reason: /^R0 unbounded memory access/,
    advice: /^As far as the verifier knows, .* the pointer in r0 .* Compare it with its bounds/,
    slot: 10,
  },
  {
    title: "an offset into a map's value that may be negative",
    code: [found, asm.ldxw(r3, r6, 0), asm.sub(r0, r3), asm.ldxb(r1, r0, 0), absent],
    reason:
      /^(value -4294967295 makes map_value pointer be out of bounds|map_value pointer offset -4294967295 is not allowed|R0 min value is negative)/,
    advice: /Compare it with its bounds, as an unsigned number/,
    slot: undefined,
  },
  {
    title: "a size that may be too large",
    code: fill(-8, [asm.ldxdw(r2, r1, 0)]),
    options: tracing,
    reason: /^R2 (min value is negative|unbounded memory access)/,
    advice: /^r2 is a size that is passed to a helper/,
    slot: 3,
  },
  {
    title: "a packet whose length is not checked",
    code: [asm.ldxw(r2, r1, 76), asm.ldxb(r0, r2, 0), asm.exit()],
    options: { section: "tc" },
    reason: /^invalid access to packet, off=0 size=1/,
    advice: /^The length of the packet has not been checked on this path.*data_end/,
    slot: 1,
  },
  {
    title: "a missing field of the context",
    code: [asm.ldxw(r0, r1, 4000), asm.exit()],
    reason: /^invalid bpf_context access off=4000 size=4$/,
    advice: /does not allow an access at offset 4000 of 4 bytes/,
    slot: 0,
  },
  {
    title: "a context pointer that was moved",
    code: [asm.add(r1, 8), asm.ldxw(r0, r1, 0), asm.exit()],
    reason: /^dereference of modified ctx ptr R1 off=8 disallowed$/,
    advice: /^Fields of the context must be accessed at constant offsets/,
    slot: 1,
  },
  {
    title: "an unreachable instruction",
    code: [asm.mov(r0, 0), asm.ja("out"), asm.mov(r0, 1), asm.label("out"), asm.exit()],
    reason: /^unreachable insn 2$/,
    advice: /^No path leads to this instruction.*Remove it/,
    slot: 2,
  },
  {
    title: "a misaligned access",
    code: [asm.stdw(r10, -12, 0), end],
    reason: /^misaligned stack access off .*-12.* size 8$/,
    advice: /not a multiple of the size of the access/,
    slot: 0,
  },
  {
    title: "a change of the frame pointer",
    code: [{ ...asm.mov(r0, 0), dst: 10 }, end],
    reason: /^frame pointer is read only$/,
    advice: /Copy it, as in mov\(r2, r10\)/,
    slot: 0,
  },
  {
    title: "a multiplication of a pointer",
    code: [asm.mov(r4, r10), asm.mul(r4, 2), end],
    reason: /^R4 pointer arithmetic with \*= operator prohibited$/,
    advice: /^Pointers allow no arithmetic but the 64-bit addition or subtraction/,
    slot: 1,
  },
  {
    title: "an instruction that the kernel does not know",
    code: [unknown, end],
    reason: /^(unknown opcode 8f|BPF_NEG uses reserved fields)$/,
    advice: /^This kernel does not support the instruction.*features\.instructions/,
    slot: undefined,
  },
];

describe("the message explains", () => {
  let values: HashMap<typeof t.u32, ReturnType<typeof t.bytes>>;
  let ring: RingBuf<typeof t.u64> | undefined;
  let array: ArrayMap<typeof t.u32>;

  beforeAll(() => {
    values = new HashMap({ key: t.u32, value: t.bytes(16), maxEntries: 4 });
    ring = new RingBuf({ size: 65536, event: t.u64 });
    array = new ArrayMap({ value: t.u32, length: 2 });
  });
  afterAll(() => {
    values[Symbol.dispose]();
    ring?.[Symbol.dispose]();
    array[Symbol.dispose]();
  });

  function rejection({ code, options }: Pick<Rejected, "code" | "options">): VerifierError {
    const maps = { values, array, ...(ring === undefined ? {} : { ring }) };
    try {
      using _program = new Program({ section: "socket", license: "GPL", code, maps, ...options });
    } catch (error) {
      if (error instanceof VerifierError) return error;
      throw error;
    }
    return expect.unreachable("the verifier accepted it");
  }

  function check(error: VerifierError, { reason, advice, slot }: Omit<Rejected, "title" | "code">) {
    expect(error.reason).toMatch(reason);
    expect(error.hint).toMatch(advice);
    const [headline, hint, place] = error.message.split("\n");
    expect(headline).toEndWith(` program: the verifier rejected it: ${error.reason}`);
    expect(hint).toBe(error.hint ?? "");
    if (slot !== undefined) {
      expect(error.instruction?.slot).toBe(slot);
      expect(place).toStartWith(`At slot ${slot}`);
      expect(error.message).toMatch(new RegExp(`^  > +${slot}: `, "m"));
    }
    // The message fits on a screen.
    expect(error.message.split("\n").length).toBeLessThanOrEqual(22);
  }

  for (const row of rejected) bpfTest(row.title, () => check(rejection(row), row));

  testWith(features.mapTypes.get("ringbuf"))("a record that is never submitted", () => {
    check(rejection({ code: [reserve, end] }), {
      reason: /^Unreleased reference id=\d+ alloc_insn=4$/,
      advice: /^The reference that the call at slot 4 returned is not released.*ringbuf_submit\(\)/,
      slot: 6,
    });
  });

  testWith(features.mapTypes.get("ringbuf"))("an access past the end of a record", () => {
    const code = [reserve, asm.jeq(r0, 0, "absent"), asm.stdw(r0, 8, 0), absent];
    check(rejection({ code }), {
      reason: /^invalid access to mem\w*, mem_size=8 off=8 size=8$/,
      advice: /^The memory has 8 bytes, and an access of 8 bytes at offset 8 is outside of it/,
      slot: 6,
    });
  });

  testWith(features.mapTypes.get("ringbuf"))("a record whose size varies", () => {
    const code = [
      asm.ldxw(r2, r1, 0),
      asm.and(r2, 7),
      asm.ldMap(r1, "ring"),
      asm.mov(r3, 0),
      asm.call("ringbuf_reserve"),
      end,
    ];
    check(rejection({ code }), {
      reason: /^R2 (is not a known constant'|unbounded size, use 'var &= const')/,
      advice: /^r2 must be a constant.*ringbuf_output\(\)/,
      slot: 5,
    });
  });

  bpfTest("what programs that are loaded without CAP_PERFMON may not do", async () => {
    const child = `${packageRoot}/test/program/children/rejected_without_perfmon.ts`;
    const { stdout, stderr } = await runBun([child]);
    expect(stderr).toBe("");
    const { leak, variableOffset, unwritten, unwrittenKey } = JSON.parse(stdout);
    expect(leak.reason).toMatch(/^R0 leaks addr as return value$/);
    expect(leak.hint).toMatch(/^r0 has a kernel address.*CAP_PERFMON/);
    // The wordings before and since Linux 7.2.
    expect(variableOffset.reason).toMatch(
      /^R\d .* prohibited for !root|^spilled ptr in range of var-offset stack write; insn 4, ptr off: -8$/,
    );
    expect(variableOffset.hint).toMatch(
      /^Programs that are loaded without CAP_PERFMON may not do this/,
    );
    for (const { reason, hint } of [unwritten, unwrittenKey]) {
      expect(reason).toMatch(/^invalid (indirect )?read from stack /);
      expect(hint).toMatch(/^These bytes of the stack have not been written/);
    }
  });
});
