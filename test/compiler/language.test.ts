/** Tests of kernel code against the real kernel: what programs do for events and packets. */
import { expect } from "bun:test";
import { bpf, HashMap, RingBuf, StackTraceMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

const packet = new Uint8Array(64);

bpfTest("global variables have atomic operations, whose results are the old values", () => {
  using counter = bpf.global(t.u64, 5n);
  using small = bpf.global(t.u32, 7);
  using results = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8 });
  using programs = bpf.load(
    { counter, small, results },
    {
      socket(_ctx, { counter, small, results }) {
        results.set(0, counter.add(2n));
        results.set(1, counter.exchange(100n));
        results.set(2, counter.compareExchange(100n, 200n));
        results.set(3, counter.compareExchange(100n, 300n));
        results.set(4, BigInt(small.compareExchange(7, 8)));
        return 0;
      },
    },
  );
  programs.socket.testRun({ data: packet });
  expect([...results].sort(([a], [b]) => a - b).map(([, value]) => value)).toEqual([
    5n,
    7n,
    100n,
    200n,
    7n,
  ]);
  expect([counter.value, small.value]).toEqual([200n, 8]);
});

bpfTest("a tracepoint's program counts the processes that start", async () => {
  using execs = new RingBuf({
    size: 1 << 14,
    event: t.struct({ pid: t.u32, parent: t.u32, comm: t.cstring(16), file: t.cstring(32) }),
  });
  using _attached = bpf.attach(
    { execs },
    {
      "tp_btf/sched_process_exec"(ctx, { execs }) {
        const { p, bprm } = ctx.args;
        execs.output({
          pid: ctx.pid,
          parent: p.real_parent.tgid,
          comm: p.comm,
          file: bprm.filename.kernelString(32),
        });
      },
    },
  );
  const child = Bun.spawn(["/bin/true"], { stdout: "ignore" });
  await child.exited;
  const seen: object[] = [];
  execs.drain((event) => seen.push({ ...event }));
  expect(seen).toContainEqual({
    pid: child.pid,
    parent: process.pid,
    comm: "true",
    file: "/bin/true",
  });
});

bpfTest("an XDP program reads headers, at offsets that depend on the packet", () => {
  using sources = new HashMap({ key: t.ipv4, value: t.u64, maxEntries: 16 });
  using programs = bpf.load(
    { sources, blocked: "10.0.0.9" },
    {
      xdp(ctx, { sources, blocked, k }) {
        const ethernet = ctx.packet.at(0, k.Ethernet);
        if (!ethernet || ethernet.type !== k.ETH_P_IP) return "pass";
        const ip = ctx.packet.at(14, k.Ipv4);
        if (!ip) return "drop";
        sources.increment(ip.source);
        const udp = ctx.packet.at(14 + (ip.versionAndLength & 15) * 4, k.Udp);
        if (udp && ip.protocol === k.IPPROTO_UDP && udp.destination === 53) return "tx";
        return ip.source === blocked ? "drop" : "pass";
      },
    },
  );
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  const run = () => programs.xdp.testRun({ data: bytes }).returnValue;
  expect(run()).toBe(2);
  view.setUint16(12, 0x800);
  bytes.set([0x45], 14);
  bytes.set([17], 23);
  bytes.set([10, 0, 0, 9], 26);
  view.setUint16(36, 53);
  expect(run()).toBe(3);
  view.setUint16(36, 54);
  expect(run()).toBe(1);
  bytes.set([8], 29);
  expect(run()).toBe(2);
  expect([...sources].sort()).toEqual([
    ["10.0.0.8", 1n],
    ["10.0.0.9", 2n],
  ]);
});

bpfTest("a long loop ends with the right sums", () => {
  using limit = bpf.global(t.u32, 5000);
  using odd = bpf.global(t.u32, 0);
  using programs = bpf.load(
    { limit, odd },
    {
      socket(_ctx, { limit, odd }) {
        const end = limit.value;
        let sum = 0;
        let found = 0;
        for (let i = 0; i < end && i < 10_000; i++) {
          if (i & 1) found++;
          sum = (sum + i) | 0;
          if (sum === 77) sum = 5;
        }
        odd.value = found;
        return sum;
      },
    },
  );
  expect(programs.socket.testRun({ data: packet }).returnValue).toBe((5000 * 4999) / 2);
  expect(odd.value).toBe(2500);
});

bpfTest("the context has the current task, and records stacks", async () => {
  const Seen = t.struct({ parent: t.u32, comm: t.cstring(16), stack: t.i32 });
  using seen = new HashMap({ key: t.u32, value: Seen, maxEntries: 1024 });
  using stacks = new StackTraceMap({ maxEntries: 64 });
  using _attached = bpf.attach(
    { seen, stacks },
    {
      "tp/sched/sched_process_exit"(ctx, { seen, stacks }) {
        const { task } = ctx;
        const stack = ctx.kernelStack(stacks);
        seen.set(ctx.pid, { parent: task.real_parent.tgid, comm: task.comm, stack });
      },
    },
  );
  const child = Bun.spawn(["/bin/true"], { stdout: "ignore" });
  await child.exited;
  const found = seen.get(child.pid);
  expect(found).toMatchObject({ parent: process.pid, comm: "true" });
  expect(stacks.get(found?.stack ?? -1)?.length).toBeGreaterThan(0);
});

bpfTest("bit-fields of structs are read, with their signs", () => {
  const Fields = t.struct({
    version: t.bits(t.u8, 4),
    headerLength: t.bits(t.u8, 4),
    delta: t.bits(t.i32, 20),
    isLast: t.bits(t.bool, 1),
    wide: t.bits(t.u64, 40),
    low: t.bits(t.i64, 7),
  });
  const Numbers = t.struct({
    version: t.u32,
    headerLength: t.u32,
    delta: t.i32,
    isLast: t.bool,
    wide: t.u64,
    low: t.i64,
  });
  using fields = new HashMap({ key: t.u32, value: Fields, maxEntries: 4 });
  using numbers = new HashMap({ key: t.u32, value: Numbers, maxEntries: 4 });
  using programs = bpf.load(
    { fields, numbers },
    {
      socket(_ctx, { fields, numbers }) {
        for (const key of [0, 1]) {
          const value = fields.get(key);
          if (value === undefined) return 1;
          const { version, headerLength, delta, isLast, wide, low } = value;
          numbers.set(key, { version, headerLength, delta, isLast, wide, low });
        }
        return 0;
      },
    },
  );
  const values = [
    { version: 4, headerLength: 5, delta: -3, isLast: true, wide: 0xff_1234_5678n, low: -64n },
    {
      version: 15,
      headerLength: 0,
      delta: 2 ** 19 - 1,
      isLast: false,
      wide: 1n << 39n,
      low: 63n,
    },
  ];
  for (const [key, value] of values.entries()) fields.set(key, value);
  expect(programs.socket.testRun({ data: packet }).returnValue).toBe(0);
  expect([numbers.get(0), numbers.get(1)]).toEqual(values);
});
