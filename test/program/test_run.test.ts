import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ArrayMap,
  asm,
  BpfError,
  type Code,
  features,
  Program,
  RingBuf,
  t,
  uapi,
} from "../../src/index.ts";
import { openRawTracepoint } from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { isKernelSince, parseCpuList } from "../../src/ffi/kernel.ts";
import { mapTest, testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const { r0, r1, r2, r3, r4, r5, r6, r10 } = asm;
const packet = new Uint8Array(14);

/** Counts a run in the map `runs`, and stores the context in r6. */
const count: Code = [
  asm.mov(r6, r1),
  asm.ldMapValue(r1, "runs", 0),
  asm.mov(r2, 1),
  asm.atomicAdd(r1, 0, r2),
];

/** Loads a program that counts its runs. */
function counting(section: "socket" | "tc" | "xdp", code: Code) {
  const runs = new ArrayMap({ value: t.u64Number, length: 1 });
  const program = new Program({ section, license: "GPL", maps: { runs }, code: [count, code] });
  return {
    program,
    get runs() {
      return runs.get(0);
    },
    [Symbol.dispose]: () => {
      program[Symbol.dispose]();
      runs[Symbol.dispose]();
    },
  };
}

const end: Code = [asm.mov(r0, 7), asm.exit()];

/** Returns the error of a run that must fail. */
function refusal(run: () => unknown): BpfError {
  try {
    run();
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  return expect.unreachable("the kernel took it");
}

describe("repeat", () => {
  bpfTest("of 1 is accepted for raw tracepoints, and 2 is rejected", () => {
    using program = new Program({
      section: "raw_tp",
      license: "GPL",
      code: [asm.ldxdw(r0, r1, 0), asm.exit()],
    });
    const ctx = new Uint8Array(new BigUint64Array([0x1234n]).buffer);
    expect(program.testRun({ ctx, repeat: 1 }).returnValue).toBe(0x1234);
    const error = refusal(() => program.testRun({ ctx, repeat: 2 }));
    expect(error.code).toBe("EINVAL");
    expect(error.hint).toMatch(/raw_tracepoint take a context .* neither data nor repeat$/);
  });

  testWith(features.programTypes.get("syscall"))(
    "of 1 is accepted for syscall programs, and 2 is rejected",
    () => {
      using program = new Program({ section: "syscall", license: "GPL", code: end });
      const ctx = new Uint8Array(8);
      expect(program.testRun({ ctx, repeat: 1 }).returnValue).toBe(7);
      const error = refusal(() => program.testRun({ ctx, repeat: 2 }));
      expect(error.hint).toContain("Programs of the type syscall take no repeat");
    },
  );

  bpfTest("completes although signals arrive", async () => {
    using counter = counting("socket", end);
    let signals = 0;
    const listener = () => signals++;
    process.on("SIGUSR2", listener);
    const sender = Bun.spawn(["sh", "-c", `while kill -USR2 ${process.pid}; do :; done`], {
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      const repeat = 50_000;
      let interrupted = 0;
      for (let round = 0; interrupted < 2 && round < 1000; round++) {
        const before = counter.runs ?? 0;
        const { returnValue, duration } = counter.program.testRun({ data: packet, repeat });
        expect(returnValue).toBe(7);
        expect(Number.isSafeInteger(duration)).toBe(true);
        const runs = (counter.runs ?? 0) - before;
        expect(runs).toBeGreaterThanOrEqual(repeat);
        // The kernel does not report the number of runs before a signal, so an interrupted call is repeated.
        if (runs > repeat) interrupted++;
        await Bun.sleep(0);
      }
      expect(interrupted).toBe(2);
      expect(signals).toBeGreaterThan(0);
    } finally {
      sender.kill();
      await sender.exited;
      process.off("SIGUSR2", listener);
    }
  });

  mapTest("ringbuf")("is exact while this thread waits for events of the program", async () => {
    using ring = new RingBuf({ size: 1 << 18, event: t.u64Number });
    using runs = new ArrayMap({ value: t.u64Number, length: 1 });
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { runs, ring },
      code: [
        count,
        asm.stdw(r10, -8, 1),
        asm.ldMap(r1, "ring"),
        asm.mov(r2, r10),
        asm.add(r2, -8),
        asm.mov(r3, 8),
        asm.mov(r4, 0),
        asm.call("ringbuf_output"),
        end,
      ],
    });
    let events = 0;
    using _subscription = ring.subscribe(() => events++);
    for (let round = 1; round <= 5; round++) {
      // The wait is armed, so that the first event interrupts the call.
      await Bun.sleep(5);
      expect(program.testRun({ data: packet, repeat: 1000 }).returnValue).toBe(7);
      expect(runs.get(0)).toBe(round * 1000);
    }
    while (events < 5000) await Bun.sleep(1);
    expect(events).toBe(5000);
  });

  bpfTest("completes although the process is stopped in between", async () => {
    const child = join(import.meta.dir, "children/stopped_run.ts");
    const { stdout, stderr } = await runBun([child]);
    expect(stderr).toBe("");
    const { runs, repeat, returnValue } = JSON.parse(stdout);
    expect(returnValue).toBe(7);
    // The kernel does not report the number of runs before the stop.
    expect(runs).toBeGreaterThanOrEqual(repeat);
  });
});

describe("a packet that the program lengthens is returned completely", () => {
  for (const length of [527, 4000, 16_000]) {
    bpfTest(`${length} bytes, by tc`, () => {
      using counter = counting("tc", [
        asm.mov(r1, r6),
        asm.mov(r2, length),
        asm.mov(r3, 0),
        asm.call("skb_change_tail"),
        asm.jne(r0, 0, "out"),
        asm.mov(r0, 7),
        asm.label("out"),
        asm.exit(),
      ]);
      const data = Uint8Array.from(packet, (_, index) => index + 1);
      const result = counter.program.testRun({ data });
      expect(result.returnValue).toBe(7);
      expect(result.data.length).toBe(length);
      expect(result.data.subarray(0, 14)).toEqual(data);
      expect(result.data.subarray(14).every((byte) => byte === 0)).toBe(true);
      expect(counter.runs).toBe(1);
      // Another run does not change the returned data.
      counter.program.testRun({ data: packet });
      expect(result.data.subarray(0, 14)).toEqual(data);
    });
  }

  bpfTest("2,064 bytes, by xdp", () => {
    using counter = counting("xdp", [
      asm.mov(r1, r6),
      asm.mov(r2, 2000),
      asm.call("xdp_adjust_tail"),
      asm.jne(r0, 0, "out"),
      asm.mov(r0, 7),
      asm.label("out"),
      asm.exit(),
    ]);
    const result = counter.program.testRun({ data: new Uint8Array(64).fill(5) });
    expect({ ...result, data: result.data.length, duration: 0 }).toEqual({
      returnValue: 7,
      data: 2064,
      ctx: new Uint8Array(0),
      duration: 0,
    });
    expect(counter.runs).toBe(1);
  });
});

describe("a packet that the kernel rejects", () => {
  for (const section of ["socket", "tc", "action", "xdp"] as const) {
    bpfTest(`of ${section} programs is an error that names the limit`, () => {
      using program = new Program({ section, license: "GPL", code: end });
      const run = (length: number) => program.testRun({ data: new Uint8Array(length) });
      const error = refusal(() => run(1 << 20));
      expect(["EINVAL", "EMSGSIZE", "ENOMEM"]).toContain(error.code);
      const limit = /packets \(data\) of at most (\d+) bytes on this kernel, got 1048576 bytes$/;
      expect(error.hint).toMatch(limit);
      const largest = Number(limit.exec(error.hint ?? "")?.[1]);
      expect(largest).toBeGreaterThan(3000);
      expect(run(largest).data.length).toBe(largest);
      expect(refusal(() => run(largest + 1)).hint).toEndWith(
        `packets (data) of at most ${largest} bytes on this kernel, got ${largest + 1} bytes`,
      );
      expect(run(14).data.length).toBe(14);
      // Older kernels accept shorter packets for xdp.
      if (section === "xdp") return;
      for (const length of [13, 0]) {
        expect(refusal(() => run(length)).hint).toEndWith(
          `a packet (data) of at least 14 bytes, got ${length} bytes`,
        );
      }
    });
  }

  bpfTest("is also a missing packet", () => {
    using program = new Program({ section: "socket", license: "GPL", code: end });
    const error = refusal(() => program.testRun());
    expect(error.message).toBe(
      "cannot run the socket program: bpf(BPF_PROG_TEST_RUN): EINVAL (invalid argument). Programs of the type socket_filter take a packet (data) of at least 14 bytes, got 0 bytes",
    );
  });

  bpfTest("is not the reason if a field of the context is rejected", () => {
    using program = new Program({ section: "tc", license: "GPL", code: end });
    // The field `len`, which the kernel sets.
    const ctx = new Uint8Array(new Uint32Array([5]).buffer);
    const error = refusal(() => program.testRun({ data: packet, ctx }));
    expect(error.hint).toMatch(/^The kernel rejects a field of the context/);
  });
});

describe("cpu", () => {
  const code = [asm.call("get_smp_processor_id"), asm.exit()];

  bpfTest("runs a program of a raw tracepoint on that CPU", () => {
    using program = new Program({ section: "raw_tp", license: "GPL", code });
    for (const cpu of onlineCpus()) {
      expect(program.testRun({ cpu }).returnValue).toBe(cpu);
    }
  });

  bpfTest("is refused for other programs, and for CPUs that are not online", () => {
    using program = new Program({ section: "raw_tp", license: "GPL", code });
    const error = refusal(() => program.testRun({ cpu: 8191 }));
    expect(error.code).toBe("ENXIO");
    expect(error.hint).toBe("CPU 8191 is not online");
    expect(() => program.testRun({ cpu: -1 })).toThrow(RangeError);
    using other = new Program({ section: "socket", license: "GPL", code: end });
    expect(() => other.testRun({ data: packet, cpu: 0 })).toThrow(
      "cpu: programs of the type socket_filter take no such option",
    );
  });
});

/** Returns the ids of the online CPUs. */
function onlineCpus(): number[] {
  return parseCpuList(readFileSync("/sys/devices/system/cpu/online", "utf8"));
}

/** Returns an Ethernet frame with a UDP datagram from and to ::1. */
function datagram(port: number, payload: string): Uint8Array {
  const length = 8 + payload.length;
  const bytes = new Uint8Array(14 + 40 + length);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, uapi.ETH_P_IPV6);
  view.setUint8(14, 0x60);
  view.setUint16(18, length);
  view.setUint8(20, uapi.IPPROTO_UDP);
  view.setUint8(21, 64);
  bytes[37] = bytes[53] = 1;
  view.setUint16(54, port);
  view.setUint16(56, port);
  view.setUint16(58, length);
  bytes.set(Buffer.from(payload), 62);
  // The checksum is over the addresses, the length, the protocol and the datagram.
  let sum = length + uapi.IPPROTO_UDP;
  for (let at = 22; at < bytes.length; at++) sum += (bytes[at] ?? 0) << (at % 2 === 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(60, ~sum);
  return bytes;
}

describe("live packets", () => {
  const isSupported = isKernelSince("5.18");

  bpfTest("go where the program directs them", async () => {
    const received: string[] = [];
    const socket = await Bun.udpSocket({
      hostname: "::1",
      port: 0,
      socket: { data: (_, data) => void received.push(data.toString()) },
    });
    try {
      using pass = counting("xdp", [asm.mov(r0, uapi.XDP_PASS), asm.exit()]);
      const data = datagram(socket.port, "live");
      if (!isSupported) {
        const error = refusal(() => pass.program.testRun({ data, live: true }));
        expect(error.hint).toBe("The option live needs Linux 5.18");
        expect(pass.runs).toBe(0);
        return;
      }
      // Without the option, the packet goes nowhere.
      expect(pass.program.testRun({ data }).returnValue).toBe(uapi.XDP_PASS);
      const result = pass.program.testRun({ data, repeat: 3, live: true });
      expect(result).toMatchObject({ data: new Uint8Array(0), ctx: new Uint8Array(0) });
      while (received.length < 3) await Bun.sleep(1);
      expect(received).toEqual(["live", "live", "live"]);
      expect(pass.runs).toBe(4);
      using drop = counting("xdp", [asm.mov(r0, uapi.XDP_DROP), asm.exit()]);
      drop.program.testRun({ data, repeat: 300, batchSize: 256, live: true });
      expect(drop.runs).toBe(300);
      await Bun.sleep(5);
      expect(received).toHaveLength(3);
    } finally {
      socket.close();
    }
  });

  bpfTest("are exact in number while this thread waits for events", async () => {
    if (!isSupported) return;
    using ring = new RingBuf({ size: 1 << 14, event: t.u64Number });
    using drop = counting("xdp", [asm.mov(r0, uapi.XDP_DROP), asm.exit()]);
    using _subscription = ring.subscribe(() => {});
    await Bun.sleep(5);
    drop.program.testRun({ data: datagram(9, "x"), repeat: 200, live: true });
    expect(drop.runs).toBe(200);
  });

  bpfTest("are all processed although signals arrive", async () => {
    if (!isSupported) return;
    using drop = counting("xdp", [asm.mov(r0, uapi.XDP_DROP), asm.exit()]);
    let signals = 0;
    const listener = () => signals++;
    process.on("SIGUSR2", listener);
    const sender = Bun.spawn(["sh", "-c", `while kill -USR2 ${process.pid}; do :; done`], {
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      const repeat = 2000;
      let before = 0;
      for (let round = 0; signals < 10 && round < 1000; round++) {
        drop.program.testRun({ data: datagram(9, "x"), repeat, live: true });
        const runs = drop.runs ?? 0;
        expect(runs - before).toBeGreaterThanOrEqual(repeat);
        before = runs;
        await Bun.sleep(0);
      }
      expect(signals).toBeGreaterThanOrEqual(10);
    } finally {
      sender.kill();
      await sender.exited;
      process.off("SIGUSR2", listener);
    }
  });

  bpfTest("are refused for other programs, in too large batches, and if they are too long", () => {
    using drop = counting("xdp", [asm.mov(r0, uapi.XDP_DROP), asm.exit()]);
    const data = datagram(9, "x");
    expect(() => drop.program.testRun({ data, batchSize: 2 })).toThrow(
      "batchSize: expected the option live with it",
    );
    using other = counting("tc", end);
    expect(() => other.program.testRun({ data, live: true })).toThrow(
      "live: programs of the type sched_cls take no such option",
    );
    expect(() => drop.program.testRun({ data, live: 1 as never })).toThrow(TypeError);
    if (!isSupported) return;
    const batch = refusal(() => drop.program.testRun({ data, live: true, batchSize: 257 }));
    expect(batch).toMatchObject({ code: "E2BIG", hint: "The option batchSize is at most 256" });
    const long = refusal(() => drop.program.testRun({ data: new Uint8Array(70_000), live: true }));
    expect(long.hint).toMatch(/xdp take live packets \(data\) of at most \d+ bytes on this kernel/);
    const ctx = new Uint8Array(new Uint32Array([0, data.length, 0, 0x7fffffff, 0, 0]).buffer);
    const absent = refusal(() => drop.program.testRun({ data, ctx, live: true }));
    expect(absent.hint).toMatch(/^The interface in the context \(ctx\) does not exist/);
    expect(drop.runs).toBe(0);
  });
});

bpfTest("checksumComplete finds a program that changes bytes and not the checksum", () => {
  const storing = (flags: number) =>
    counting("tc", [
      asm.mov(r1, r6),
      asm.mov(r2, 20),
      asm.sth(r10, -2, 0x1234),
      asm.mov(r3, r10),
      asm.add(r3, -2),
      asm.mov(r4, 2),
      asm.mov(r5, flags),
      asm.call("skb_store_bytes"),
      end,
    ]);
  using wrong = storing(0);
  using right = storing(uapi.BPF_F_RECOMPUTE_CSUM);
  const options = { data: new Uint8Array(64), checksumComplete: true };
  try {
    expect(right.program.testRun(options).returnValue).toBe(7);
  } catch (error) {
    // Some older stable kernels have the option, too.
    if (!(error instanceof BpfError) || isKernelSince("6.11")) throw error;
    expect(error.hint).toBe("The option checksumComplete needs Linux 6.11");
    return;
  }
  const error = refusal(() => wrong.program.testRun(options));
  expect(error.code).toBe("EBADMSG");
  expect(error.hint).toMatch(/^The checksum of the packet does not fit its bytes any more/);
});

describe("a context that is larger than the kernel's struct", () => {
  bpfTest("is accepted if the further bytes are 0, and explained otherwise", () => {
    using program = new Program({ section: "tc", license: "GPL", code: end });
    const ctx = new Uint8Array(400);
    const size = program.testRun({ data: packet, ctx }).ctx.length;
    expect(size).toBeGreaterThanOrEqual(176);
    ctx[399] = 1;
    const error = refusal(() => program.testRun({ data: packet, ctx }));
    expect(error.code).toBe("E2BIG");
    expect(error.hint).toBe(
      `The context (ctx) has 400 bytes, and struct __sk_buff of this kernel ${size}: all further bytes must be 0`,
    );
  });
});

describe("other program types", () => {
  bpfTest("flow_dissector returns the flow keys, and takes flags in its context", () => {
    using program = new Program({
      section: "flow_dissector",
      license: "GPL",
      code: [asm.mov(r0, uapi.BPF_OK), asm.exit()],
    });
    const data = datagram(9, "x");
    const { returnValue, data: keys } = program.testRun({ data, repeat: 5 });
    // Before Linux 6.1 the kernel returns true for BPF_OK.
    expect(returnValue).toBe(isKernelSince("6.1") ? uapi.BPF_OK : 1);
    // nhoff, the offset of the network header.
    expect(new DataView(keys.buffer).getUint16(0, true)).toBe(14);
    const ctx = new Uint8Array(keys.length);
    expect(program.testRun({ data, ctx }).ctx).toEqual(ctx);
    const error = refusal(() => program.testRun({ data, ctx: ctx.fill(1) }));
    expect(error.hint).toContain("in struct bpf_flow_keys only flags may be set");
  });

  testWith(features.programTypes.get("netfilter"))("netfilter takes an IP packet", () => {
    using program = new Program({
      section: "netfilter",
      license: "GPL",
      code: [asm.mov(r0, uapi.NF_ACCEPT), asm.exit()],
    });
    const ip = datagram(9, "x").subarray(14);
    const result = program.testRun({ data: ip, repeat: 3 });
    expect(result).toMatchObject({ returnValue: uapi.NF_ACCEPT, data: new Uint8Array(0) });
    const short = refusal(() => program.testRun({ data: ip.subarray(0, 19) }));
    expect(short.hint).toEndWith("a packet (data) of at least 20 bytes, got 19 bytes");
    // struct nf_hook_state: the hook and the family.
    const ctx = Uint8Array.of(uapi.NF_INET_LOCAL_IN, uapi.NFPROTO_IPV6);
    expect(program.testRun({ data: datagram(9, "x"), ctx }).returnValue).toBe(uapi.NF_ACCEPT);
    const wrong = Uint8Array.of(uapi.NF_INET_LOCAL_IN, uapi.NFPROTO_IPV4);
    const error = refusal(() => program.testRun({ data: datagram(9, "x"), ctx: wrong }));
    expect(error.hint).toMatch(/^Programs of the type netfilter take an Ethernet frame/);
  });

  testWith(features.programTypes.get("sk_lookup"))("sk_lookup takes its context", () => {
    using program = new Program({
      section: "sk_lookup",
      license: "GPL",
      code: [asm.mov(r0, uapi.SK_PASS), asm.exit()],
    });
    // struct bpf_sk_lookup: family, protocol, ... after 8 bytes.
    const ctx = new Uint8Array(new Uint32Array([0, 0, uapi.AF_INET, uapi.IPPROTO_TCP]).buffer);
    expect(program.testRun({ ctx }).returnValue).toBe(uapi.SK_PASS);
    const family = refusal(() => program.testRun({ ctx: new Uint8Array(16) }));
    expect(family.hint).toBe("The field family of the context (ctx) must be AF_INET or AF_INET6");
    expect(refusal(() => program.testRun()).hint).toContain("sk_lookup take a context");
  });

  testWith(features.programTypes.get("syscall"))("syscall takes at most 65,535 bytes", () => {
    using program = new Program({ section: "syscall", license: "GPL", code: end });
    const ctx = new Uint8Array(65_535).fill(3);
    expect(program.testRun({ ctx }).ctx).toEqual(ctx);
    const error = refusal(() => program.testRun({ ctx: new Uint8Array(65_536) }));
    expect(error.hint).toContain("of at most 65535 bytes");
  });

  bpfTest("without test runs are explained", () => {
    using program = new Program({ section: "tp", license: "GPL", code: end });
    const error = refusal(() => program.testRun());
    expect(error).toMatchObject({
      code: "ENOTSUPP",
      hint: "Programs of this type do not support test runs",
    });
  });

  testWith(features.attachKinds.get("fentry"))(
    "fentry programs run for the kernel's test functions that they are attached to",
    () => {
      using runs = new ArrayMap({ value: t.u64Number, length: 1 });
      using program = new Program({
        section: "fentry/bpf_fentry_test1",
        license: "GPL",
        maps: { runs },
        code: [count, asm.mov(r0, 0), asm.exit()],
      });
      program.testRun();
      expect(runs.get(0)).toBe(0);
      const fd = openRawTracepoint(program.fd, null, { doing: "attach the program" });
      using _link = new Descriptor(fd, "link");
      expect(program.testRun().returnValue).toBe(0);
      expect(runs.get(0)).toBe(1);
    },
  );
});

testWith(features.attachKinds.get("tp_btf"))(
  "a run of a tp_btf program fails with a hint that says which programs can be run",
  () => {
    using program = new Program({
      section: "tp_btf/sched_switch",
      license: "GPL",
      code: [asm.mov(r0, 0), asm.exit()],
    });
    for (const options of [{}, { ctx: new Uint8Array(24) }, { data: packet }]) {
      const error = refusal(() => program.testRun(options));
      expect(error.hint).toMatch(
        /^Of the programs of the type tracing, .* not those of tp_btf, lsm and iter\. Attach the program .*, or .*raw_tp/,
      );
    }
  },
);

bpfTest("programs that the kernel cannot run this way have hints", () => {
  for (const [section, input, hint] of [
    ["iter/task", {}, /an iterator runs when its output is read/],
    ["xdp/devmap", { data: new Uint8Array(64) }, /loaded for the entries of a map \(xdp\/devmap/],
  ] as const) {
    // Older kernels run the latter.
    if (section === "xdp/devmap" && !isKernelSince("6.1")) continue;
    using program = new Program({
      section,
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    expect(() => program.testRun(input)).toThrow(hint);
  }
});
