import { expect, expectTypeOf, test } from "bun:test";
import { bpf } from "../../src/compiler/bpf.ts";
import type { KernelObject, KernelPointer, Programs } from "../../src/compiler/kernel_types.ts";
import type { Copy } from "../../src/compiler/scope_types.ts";
import type { ArrayMap } from "../../src/maps/array_map.ts";
import type { HashMap, LruHashMap, PerCpuHashMap } from "../../src/maps/hash_map.ts";
import type { LpmTrie } from "../../src/maps/lpm_trie.ts";
import type { BloomFilter, Queue } from "../../src/maps/queue.ts";
import type { StackTraceMap } from "../../src/maps/stack_trace_map.ts";
import type { Program } from "../../src/program/program.ts";
import type { RingBuf } from "../../src/ring/ring_buf.ts";
import * as t from "../../src/types/t.ts";
import type { BpfGlobal } from "../../src/compiler/language/shared_values.ts";

// The names are those of no kernel, because declarations are in force in the whole project.
declare module "../../src/compiler/kernel_types.ts" {
  interface KernelTypes {
    test_task_struct: {
      readonly pid: number;
      readonly tgid: number;
      readonly __state: number;
      readonly comm: string;
      readonly real_parent: KernelPointer<"test_task_struct">;
    };
    test_request: {
      readonly cmd_flags: number;
      readonly q: { readonly disk: KernelPointer<"gendisk"> | null };
    };
    /** Has a member with the name of a method of pointers. */
    test_seq_file: { readonly offset: bigint };
  }
  interface Tracepoints {
    "sched/test_exec": { readonly pid: number; readonly old_pid: number };
  }
  interface RawTracepoints {
    test_block_rq_issue: { readonly rq: KernelPointer<"test_request"> };
    test_block_rq_complete: {
      readonly rq: KernelPointer<"test_request">;
      readonly nr_bytes: number;
    };
    test_sched_wakeup: { readonly p: KernelPointer<"test_task_struct"> };
    test_sched_switch: {
      readonly preempt: boolean;
      readonly prev: KernelPointer<"test_task_struct">;
      readonly next: KernelPointer<"test_task_struct">;
    };
  }
  interface KernelFunctions {
    test_read: { readonly args: { readonly count: bigint }; readonly ret: bigint };
    bpf_lsm_test_open: {
      readonly args: { readonly file: { readonly f_inode: { readonly i_ino: bigint } } };
      readonly ret: number;
    };
  }
}

const Pair = t.struct({ a: t.u32, name: t.cstring(16) });
const Value = t.struct({ count: t.u64, at: t.array(t.u32, 4) });
const Row = t.struct({
  at: t.u64,
  source: t.ipv4,
  name: t.cstring(16),
  state: t.enum({ open: 1, closed: 2 }),
  part: t.union({ small: t.u8, large: t.u64 }),
});

/** Objects that need privileges to exist: only their types matter here. */
declare const scope: {
  pairs: HashMap<typeof Pair, typeof Value>;
  numbers: LruHashMap<typeof t.u32, typeof t.u64>;
  perCpu: PerCpuHashMap<typeof t.u32, typeof Value>;
  list: ArrayMap<typeof Value>;
  sums: ArrayMap<typeof t.u32>;
  routes: LpmTrie<typeof Pair, typeof t.u32>;
  queue: Queue<typeof Value>;
  filter: BloomFilter<typeof t.u32>;
  stacks: StackTraceMap;
  ring: RingBuf<typeof Row>;
  limit: BpfGlobal<typeof t.u64>;
  last: BpfGlobal<typeof Value>;
};

/** Checks types in a function that never runs. */
function typesOnly(_: () => void): void {}

test("bpf has its functions", () => {
  expect(Object.keys(bpf)).toEqual(["attach", "load", "compile", "fn", "global"]);
});

test("maps have the methods of their types", () =>
  typesOnly(() => {
    bpf.load(scope, {
      "tp_btf/test_sched_switch"(
        _ctx,
        { pairs, numbers, perCpu, list, sums, routes, queue, filter, stacks },
      ) {
        const value = pairs.get({ a: 1, name: "x" });
        expectTypeOf(value).toEqualTypeOf<
          { readonly count: bigint; readonly at: readonly number[] } | undefined
        >();
        expectTypeOf(pairs.ref({ a: 1, name: "x" })).toEqualTypeOf<
          { count: bigint; at: number[] } | undefined
        >();
        expectTypeOf(pairs.getOrInit).returns.toEqualTypeOf<t.Inside<typeof Value> | undefined>();
        expectTypeOf(pairs.take).returns.toEqualTypeOf<Copy<t.Inside<typeof Value>> | undefined>();
        if (value !== undefined) pairs.set({ a: 2, name: "y" }, value) satisfies boolean;
        // @ts-expect-error the values are no numbers
        pairs.increment({ a: 1, name: "x" });
        // @ts-expect-error a key lacks a field
        pairs.has({ a: 1 });

        expectTypeOf(numbers.get(1)).toEqualTypeOf<bigint | undefined>();
        numbers.increment(1);
        numbers.increment(1, 5n);
        // @ts-expect-error number for bigint
        numbers.increment(1, 5);
        // @ts-expect-error a number has no parts to change
        numbers.ref(1);

        // One CPU's value.
        const own = perCpu.ref(1);
        if (own) own.count += 1n;

        expectTypeOf(list.length).toEqualTypeOf<number>();
        const element = list.ref(3);
        if (element) element.at[0] = 5;
        // @ts-expect-error arrays have all elements from the start
        list.getOrInit(1, { count: 0n, at: [0, 0, 0, 0] });
        // @ts-expect-error elements cannot be deleted
        list.delete(1);
        sums.increment(1, 2);

        expectTypeOf(routes.get({ a: 32, name: "" })).toEqualTypeOf<number | undefined>();
        // @ts-expect-error LPM tries have no increment()
        routes.increment({ a: 32, name: "" });

        queue.push({ count: 1n, at: [1, 2, 3, 4] }, { evict: true }) satisfies boolean;
        expectTypeOf(queue.pop).returns.toEqualTypeOf<Copy<t.Inside<typeof Value>> | undefined>();
        filter.add(3) satisfies boolean;
        filter.has(3) satisfies boolean;
        // @ts-expect-error kernel code has no methods of this map
        stacks.get(1);
      },
    });
  }));

test("what kernel code gets must be checked, and copies are not written", () =>
  typesOnly(() => {
    bpf.attach(scope, {
      "tp_btf/test_sched_switch"(ctx, { pairs }) {
        const value = pairs.get({ a: 1, name: ctx.comm });
        // @ts-expect-error it may be undefined
        value.count;
        // @ts-expect-error it is a copy
        if (value) value.count = 1n;
        // @ts-expect-error so are its parts
        if (value) value.at[0] = 1;
        const memory = pairs.ref({ a: 1, name: ctx.comm });
        // @ts-expect-error it may be undefined
        memory.count = 1n;
        if (memory) memory.count = 2n;
        // @ts-expect-error bigint with number
        ctx.now - 1;
        // @ts-expect-error the context has no such member
        ctx.nothing;
      },
    });
  }));

test("records have all fields, of the right types", () =>
  typesOnly(() => {
    bpf.attach(scope, {
      "tp_btf/test_sched_switch"(ctx, { ring }) {
        const name = ctx.args.next.comm;
        ring.output({ at: ctx.now, source: "192.0.2.1", name, state: 2, part: { small: 1 } });
        ring.output({ at: 1n, source: "192.0.2.1", name, state: "open", part: { large: 1n } });
        // @ts-expect-error number for bigint
        ring.output({ at: 1, source: "192.0.2.1", name, state: 2, part: { small: 1 } });
        // @ts-expect-error a number is no address
        ring.output({ at: 1n, source: 0x0a000001, name, state: 2, part: { small: 1 } });
        // @ts-expect-error the field "name" is missing
        ring.output({ at: 1n, source: "192.0.2.1", state: 2, part: { small: 1 } });
        // @ts-expect-error there is no field "color"
        ring.output({ at: 1n, source: "192.0.2.1", name, state: 2, part: { small: 1 }, color: 1 });
        // @ts-expect-error both members of a union
        ring.output({ at: 1n, source: "192.0.2.1", name, state: 2, part: { small: 1, large: 1n } });
        // @ts-expect-error an enum without this name
        ring.output({ at: 1n, source: "192.0.2.1", name, state: "ajar", part: { small: 1 } });
        // @ts-expect-error programs cannot read a ring
        ring.drain(() => {});
      },
    });
  }));

test("declared types are known, others are loose", () =>
  typesOnly(() => {
    bpf.attach(
      {},
      {
        "tp_btf/test_sched_switch"(ctx) {
          const { prev, next } = ctx.args;
          expectTypeOf(prev.real_parent.real_parent.tgid).toEqualTypeOf<number>();
          expectTypeOf(next.address).toEqualTypeOf<bigint>();
          expectTypeOf(next.as("test_request").cmd_flags).toEqualTypeOf<number>();
          expectTypeOf(next.as("test_seq_file").offset).toEqualTypeOf<bigint>();
          expectTypeOf(next.as("pid_namespace")).toEqualTypeOf<KernelObject>();
          expectTypeOf(next.containerOf("test_task_struct", "se").pid).toEqualTypeOf<number>();
          // @ts-expect-error the declared type has no such field
          next.nothing;
          // @ts-expect-error the tracepoint has no such argument
          ctx.args.nobody;
        },
        "tp/sched/test_exec"(ctx) {
          expectTypeOf(ctx.args.old_pid).toEqualTypeOf<number>();
          // @ts-expect-error the tracepoint has no such field
          ctx.args.nothing;
        },
        "tp/syscalls/sys_enter_openat"(ctx) {
          expectTypeOf(ctx.args["filename"]).toBeAny();
          expectTypeOf(ctx.pid).toEqualTypeOf<number>();
        },
        "fentry/test_read"(ctx) {
          expectTypeOf(ctx.args.count).toEqualTypeOf<bigint>();
          // @ts-expect-error the function has not returned yet
          ctx.ret;
        },
        "fexit/test_read": (ctx) => {
          expectTypeOf(ctx.ret).toEqualTypeOf<bigint>();
        },
        "fexit/vfs_write": (ctx) => {
          expectTypeOf(ctx.ret).toBeAny();
        },
        "kprobe/vfs_read"(ctx) {
          // @ts-expect-error kprobes have no arguments by name
          ctx.args;
        },
      },
    );
  }));

test("results are those of the section", () =>
  typesOnly(() => {
    bpf.load(
      { ports: [80, 443], allowed: true },
      {
        xdp(ctx, { ports, k }) {
          const ip = ctx.packet.at(14, k.Ipv4);
          // @ts-expect-error it may be undefined
          ip.ttl;
          if (ip === undefined) return "pass";
          ip.ttl--;
          const tcp = ctx.packet.at(34, k.Tcp);
          if (ip.source === "192.0.2.1" && ctx.packet.adjustHead(-20)) return "tx";
          return tcp && ports.includes(tcp.destination) ? "drop" : k.XDP_PASS;
        },
        tc: (ctx) => (ctx.packet.length > 100 && ctx.mark === 5 ? "shot" : "next"),
        sk_lookup: () => "pass",
        "cgroup/connect4": (_ctx, { allowed }) => allowed,
        "lsm/test_open"(ctx, { k }) {
          if (ctx.args.file.f_inode.i_ino === 5n) return -k.EACCES;
          return;
        },
        socket: () => 96,
      },
    );
    bpf.load(
      {},
      {
        // @ts-expect-error an XDP program that returns nothing on a path
        xdp(ctx) {
          if (ctx.packet.length > 3) return "drop";
        },
      },
    );
    // @ts-expect-error an unknown result
    bpf.load({}, { xdp: () => "drip" });
    // @ts-expect-error a program of a cgroup that returns nothing
    bpf.load({}, { "cgroup/sock_create"() {} });
    // @ts-expect-error a result that the kernel does not take
    bpf.load({}, { "fentry/test_read": () => 1 });
    // @ts-expect-error functions of events are not asynchronous
    bpf.load({}, { "tp/sched/sched_switch": async () => {} });
    // @ts-expect-error tc packets have no start to move
    bpf.load({}, { tc: (ctx) => (ctx.packet.adjustHead(4) ? "ok" : "shot") });
  }));

test("places are those that compile, with their options", () =>
  typesOnly(() => {
    // @ts-expect-error a misspelt place
    bpf.attach(scope, { "kprob/x"() {} });
    // @ts-expect-error a misspelt place among right ones
    bpf.load(scope, { "kprobe/x"() {}, xpd() {} });
    // @ts-expect-error a tracepoint without a name
    bpf.load(scope, { tp() {} });
    // @ts-expect-error programs of a DevMap are stored there, not attached
    bpf.attach(scope, { "xdp/devmap": () => "pass" });
    bpf.attach(scope, {
      xdp: {
        on: { interface: "lo" },
        run: (ctx, { limit }) => (ctx.now > limit.value ? "pass" : "drop"),
      },
      "cgroup/connect4": {
        on: { cgroup: "/sys/fs/cgroup" },
        run: (_ctx, { sums }) => sums.length > 1,
      },
    });
    // @ts-expect-error the interface is missing
    bpf.attach({}, { xdp: () => "pass" });
    // @ts-expect-error a misspelt option
    bpf.attach({}, { xdp: { on: { interfaze: "lo" }, run: () => "pass" } });

    const programs = bpf.load({}, { xdp: () => "pass", "kprobe/vfs_read"() {} });
    expectTypeOf(programs).toEqualTypeOf<Programs<"xdp" | "kprobe/vfs_read">>();
    expectTypeOf(programs.xdp).toEqualTypeOf<Program<"xdp">>();
  }));

test("globals, functions and constants have their types", () =>
  typesOnly(() => {
    const clamp = bpf.fn({ most: 10, sums: scope.sums }, ({ most, sums }, n: number) => {
      sums.increment(0);
      return Math.min(n, most);
    });
    const table = { port: 80, names: ["a", "b"], nested: { on: true } };
    bpf.attach(
      { ...scope, clamp, Row, table, ports: new Uint16Array([1]) },
      {
        "tp/sched/sched_switch"(ctx, { limit, last, clamp, Row, table, ports, k }) {
          limit.value = 5n;
          expectTypeOf(limit.add(1n)).toEqualTypeOf<bigint>();
          limit.compareExchange(1n, 2n);
          // @ts-expect-error number for bigint
          limit.exchange(1);
          last.value.count = 1n;
          // @ts-expect-error a struct has no atomic operations
          last.add(1n);

          expectTypeOf(clamp(5)).toEqualTypeOf<number>();
          // @ts-expect-error the argument is a number
          clamp(5n);

          expectTypeOf(table.names).toEqualTypeOf<readonly string[]>();
          expectTypeOf(ports).toEqualTypeOf<readonly number[]>();
          // @ts-expect-error constants do not change
          table.port = 81;
          // @ts-expect-error constants do not change
          table.nested.on = false;

          for (const i of k.range(4)) expectTypeOf(i).toEqualTypeOf<number>();
          const row = k.zeroed(Row);
          row.at = ctx.now;
          expectTypeOf(row.name).toEqualTypeOf<string>();
          k.atomic.add(row, "at", 1n);
          // @ts-expect-error no number
          k.atomic.add(row, "name", "x");
          expectTypeOf(k.u32(ctx.now)).toEqualTypeOf<number>();
          // @ts-expect-error x >>> 0 does it for numbers
          k.u32(ctx.pid);
          expectTypeOf(k.log2(ctx.nowUs)).toEqualTypeOf<number>();
          (-k.EACCES + k.AF_INET + k.IPPROTO_TCP) satisfies number;
          // @ts-expect-error no such constant
          k.NOTHING;
        },
      },
    );
  }));

// The programs that the language was designed with, with maps in place of aggregations.
test("programs of the design have their types", () =>
  typesOnly(() => {
    const Disk = t.struct({ disk: t.u32, flags: t.u32 });
    const Denied = t.struct({ pid: t.u32, uid: t.u32, comm: t.cstring(16) });
    const Slot = t.struct({ disk: Disk, slot: t.u32 });
    const maps = {} as {
      start: HashMap<typeof t.u64, typeof t.u64>;
      queued: HashMap<typeof t.u32, typeof t.u64>;
      usecs: HashMap<typeof Slot, typeof t.u64>;
      denied: HashMap<typeof Pair, typeof t.u32>;
      events: RingBuf<typeof Denied>;
    };

    // Latency of disks.
    bpf.attach(
      { ...maps, perDisk: true, perFlag: false },
      {
        "tp_btf/test_block_rq_issue"(ctx, { start }) {
          start.set(ctx.args.rq.address, ctx.now);
        },
        "tp_btf/test_block_rq_complete"(ctx, { usecs, start, perDisk, perFlag, k }) {
          const { rq } = ctx.args;
          const since = start.take(rq.address);
          if (since === undefined) return;
          const disk = perDisk ? rq.q.disk : null;
          usecs.increment({
            disk: {
              disk: disk ? (disk["major"] << 20) | disk["first_minor"] : 0,
              flags: perFlag ? rq.cmd_flags : 0,
            },
            slot: k.log2((ctx.now - since) / 1000n),
          });
        },
      },
    );

    // Latency of the run queue.
    bpf.attach(
      { ...maps, pid: 0 },
      {
        "tp_btf/test_sched_wakeup"(ctx, { queued, pid }) {
          const { p } = ctx.args;
          if (pid === 0 || p.tgid === pid) queued.set(p.pid, ctx.now);
        },
        "tp_btf/test_sched_switch"(ctx, { queued, pid }) {
          const { prev, next } = ctx.args;
          if (prev.__state === 0 && (pid === 0 || prev.tgid === pid)) queued.set(prev.pid, ctx.now);
          const since = queued.take(next.pid);
          if (since !== undefined) queued.add(next.pid, (ctx.now - since) / 1000n);
        },
      },
    );

    // A deny list.
    bpf.attach(
      { ...maps, prefixes: ["ssl", "ssh"], except: 0 },
      {
        "lsm/test_open"(ctx, { denied, events, prefixes, except, k }) {
          if (ctx.uid === except) return 0;
          const { comm } = ctx;
          if (!denied.has({ a: 1, name: comm }) && !prefixes.some((p) => comm.startsWith(p)))
            return 0;
          events.output({ pid: ctx.pid, uid: ctx.uid, comm });
          return -k.EACCES;
        },
      },
    );

    // Retransmitted segments, without declarations.
    bpf.attach(maps, {
      "tp_btf/tcp_retransmit_skb"(ctx, { events }) {
        const { sk } = ctx.args as { sk: KernelObject };
        events.output({ pid: ctx.pid, uid: sk["__sk_common"].skc_state, comm: ctx.comm });
      },
    });
  }));
