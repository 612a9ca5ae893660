/** Types of `attach()` by section. They are checked by the compiler; nothing here is run. */
import { expectTypeOf, test } from "bun:test";
import type {
  AttachOptions,
  IterLink,
  KprobeMultiLink,
  Link,
  PerfEventsLink,
  Program,
  ProgramSpec,
} from "../../src/index.ts";

test("the section decides the options of attach()", () => {
  expectTypeOf<keyof AttachOptions<"raw_tp">>().toEqualTypeOf<"tracepoint" | "cookie">();
  expectTypeOf<keyof AttachOptions<"raw_tp/sched_switch">>().toEqualTypeOf<"cookie">();
  expectTypeOf<keyof AttachOptions<"tp_btf/sched_switch">>().toEqualTypeOf<"cookie">();
  expectTypeOf<AttachOptions<"syscall">>().toBeNever();

  const accepted = (
    plain: Program<"tp">,
    targeted: Program<"tp/sched/sched_switch">,
    loadedFor: Program<"tp_btf/sched_switch">,
    unknown: Program,
  ): void => {
    expectTypeOf(plain.attach({ tracepoint: "sched/sched_switch" })).toExtend<Link>();
    plain.attach({ tracepoint: "sched/sched_switch", cookie: 1n });
    targeted.attach();
    targeted.attach({});
    targeted.attach({ cookie: 1n });
    loadedFor.attach();
    loadedFor.attach({ cookie: 1n });
    unknown.attach();
    unknown.attach({ interface: "lo" });
    unknown.attachAs("raw_tp/sched_switch");
    unknown.attachAs("raw_tp", { tracepoint: "sched_switch" });
  };
  void accepted;
});

test("wrong options of attach() do not compile", () => {
  const refused = (
    plain: Program<"tp">,
    targeted: Program<"tp/sched/sched_switch">,
    loadedFor: Program<"tp_btf/sched_switch">,
    other: Program<"syscall">,
  ): void => {
    // @ts-expect-error: the target is missing
    plain.attach();
    // @ts-expect-error: the target is missing
    plain.attach({ cookie: 1n });
    // @ts-expect-error: a misspelt option
    plain.attach({ tracepiont: "sched/sched_switch" });
    // @ts-expect-error: an option of another section
    plain.attach({ tracepoint: "sched/sched_switch", interface: "lo" });
    // @ts-expect-error: a number instead of a bigint
    plain.attach({ tracepoint: "sched/sched_switch", cookie: 1 });
    // @ts-expect-error: a string instead of an object
    plain.attach("sched/sched_switch");
    // @ts-expect-error: the section names the target already
    targeted.attach({ tracepoint: "sched/sched_switch" });
    // @ts-expect-error: the program is loaded for its target
    loadedFor.attach({ tracepoint: "sched_switch" });
    // @ts-expect-error: programs of this section cannot be attached
    other.attach();
    // @ts-expect-error: programs of this section cannot be attached
    other.attach({});
    // @ts-expect-error: the target is missing
    targeted.attachAs("tp");
    // @ts-expect-error: the section names the target already
    targeted.attachAs("tp/sched/sched_wakeup", { tracepoint: "sched/sched_wakeup" });
  };
  void refused;
});

test("network sections take their targets", () => {
  const accepted = (
    xdp: Program<"xdp">,
    tc: Program<"tc">,
    tcx: Program<"tcx/ingress">,
    netfilter: Program<"netfilter">,
    socket: Program<"socket">,
    skSkb: Program<"sk_skb">,
  ): void => {
    xdp.attach({ interface: "lo" });
    xdp.attach({ interface: 1, method: "netlink" });
    tc.attach({ interface: "lo", direction: "egress" });
    tcx.attach({ interface: "lo", method: "tcx" });
    netfilter.attach({ family: "ipv4", hook: "local_in", priority: -7 });
    socket.attach({ socket: { fd: 3 } });
    skSkb.attach({ map: { fd: 3 }, attachType: "sk_skb_stream_verdict" });
  };
  const refused = (
    xdp: Program<"xdp">,
    tc: Program<"tc">,
    tcx: Program<"tcx/ingress">,
    netfilter: Program<"netfilter">,
    socket: Program<"socket">,
    skSkb: Program<"sk_skb">,
  ): void => {
    // @ts-expect-error: the interface is missing
    xdp.attach();
    // @ts-expect-error: an unknown method
    xdp.attach({ interface: "lo", method: "tcx" });
    // @ts-expect-error: the section does not name the direction
    tc.attach({ interface: "lo" });
    // @ts-expect-error: the section names the direction already
    tcx.attach({ interface: "lo", direction: "egress" });
    // @ts-expect-error: an unknown hook
    netfilter.attach({ family: "ipv4", hook: "local", priority: -7 });
    // @ts-expect-error: the socket is missing
    socket.attach({});
    // @ts-expect-error: the section does not name the hook
    skSkb.attach({ map: { fd: 3 } });
  };
  void [accepted, refused];
});

test("sections of cgroups take a cgroup", () => {
  const accepted = (
    connect: Program<"cgroup/connect4">,
    lsm: Program<"lsm_cgroup/socket_bind">,
  ) => {
    connect.attach({ cgroup: "/sys/fs/cgroup" });
    connect.attach({ cgroup: { fd: 3 }, method: "link" });
    lsm.attach({ cgroup: "/sys/fs/cgroup" });
  };
  const refused = (connect: Program<"cgroup/connect4">, lsm: Program<"lsm_cgroup/socket_bind">) => {
    // @ts-expect-error: the cgroup is missing
    connect.attach();
    // @ts-expect-error: an interface is not a cgroup
    connect.attach({ interface: "lo" });
    // @ts-expect-error: the cgroup is missing
    lsm.attach();
  };
  void [accepted, refused];
});

test("sections of functions and events have their options and links", () => {
  const accepted = (
    event: Program<"perf_event">,
    kprobe: Program<"kprobe">,
    targeted: Program<"kprobe/vfs_read">,
    multi: Program<"kprobe.multi/vfs_*">,
    iter: Program<"iter/task">,
    replacement: Program<"freplace/open">,
  ): void => {
    expectTypeOf(
      event.attach({ event: "cpu-clock", frequency: 99 }),
    ).toEqualTypeOf<PerfEventsLink>();
    kprobe.attach({ function: "vfs_read" });
    targeted.attach();
    targeted.attach({ cookie: 1n });
    expectTypeOf(multi.attach()).toEqualTypeOf<KprobeMultiLink>();
    expectTypeOf(iter.attach()).toEqualTypeOf<IterLink>();
    expectTypeOf(replacement.attach()).toEqualTypeOf<Link>();
  };
  const refused = (
    event: Program<"perf_event">,
    kprobe: Program<"kprobe">,
    targeted: Program<"kprobe/vfs_read">,
    multi: Program<"kprobe.multi/vfs_*">,
    iter: Program<"iter/task">,
    replacement: Program<"freplace/open">,
  ): void => {
    // @ts-expect-error: the event is missing
    event.attach();
    // @ts-expect-error: the function is missing
    kprobe.attach();
    // @ts-expect-error: the section names the function already
    targeted.attach({ function: "vfs_read" });
    // @ts-expect-error: several functions have several cookies
    multi.attach({ cookie: 1n });
    // @ts-expect-error: iterators have no interface
    iter.attach({ interface: "lo" });
    // @ts-expect-error: the function is not that of an interface
    replacement.attach({ interface: "lo" });
  };
  void [accepted, refused];
});

test("sections that libbpf does not know do not compile", () => {
  const spec = (section: ProgramSpec["section"]): void => void section;
  const accepted = (): void => {
    for (const section of ["xdp", "kprobe", "kprobe/vfs_read", "cgroup/connect4"] as const) {
      spec(section);
    }
  };
  const refused = (): void => {
    // @ts-expect-error: a misspelt section
    spec("tp_bft/sched_switch");
    // @ts-expect-error: a section without targets
    spec("xdp/eth0");
    // @ts-expect-error: a section that needs a target
    spec("tp_btf");
    // @ts-expect-error: an unknown name
    spec("cgroup/connect5");
    // @ts-expect-error: no name
    spec("");
  };
  void accepted;
  void refused;
});

test("options that exclude or need one another are checked together", () => {
  const accepted = (
    perf: Program<"perf_event">,
    elements: Program<"iter/bpf_map_elem">,
    tasks: Program<"iter/task">,
    xdp: Program<"xdp">,
    tc: Program<"tc">,
    tcx: Program<"tcx/ingress">,
  ): void => {
    perf.attach({ event: "cpu-clock", frequency: 99 });
    perf.attach({ event: "cpu-clock", period: 1000n });
    perf.attach({ event: { breakpoint: "vfs_read", access: "execute" } });
    elements.attach({ map: { fd: 3 } });
    tasks.attach();
    tasks.attach({ pid: 1 });
    xdp.attach({ interface: "lo", replace: false });
    xdp.attach({ interface: "lo", method: "netlink", replace: true });
    xdp.attach({ interface: "lo", method: "netlink", replace: { fd: 3 } });
    tc.attach({ interface: "lo", direction: "ingress", method: "netlink", priority: 1 });
    tcx.attach({ interface: "lo", before: "all" });
    tcx.attach({ interface: "lo", method: "tcx", after: "all" });
  };
  const refused = (
    perf: Program<"perf_event">,
    elements: Program<"iter/bpf_map_elem">,
    sockets: Program<"iter.s/sockmap">,
    tasks: Program<"iter/task">,
    xdp: Program<"xdp">,
    tc: Program<"tc">,
    tcx: Program<"tcx/ingress">,
  ): void => {
    // @ts-expect-error: neither a frequency nor a period
    perf.attach({ event: "cpu-clock" });
    // @ts-expect-error: a frequency and a period
    perf.attach({ event: "cpu-clock", frequency: 1, period: 1 });
    // @ts-expect-error: the map is missing
    elements.attach();
    // @ts-expect-error: the map is missing
    elements.attach({});
    // @ts-expect-error: the map is missing
    sockets.attach();
    // @ts-expect-error: a process and a thread
    tasks.attach({ pid: 1, tid: 1 });
    // @ts-expect-error: a link is not replaced
    xdp.attach({ interface: "lo", replace: true });
    // @ts-expect-error: a link is not replaced
    xdp.attach({ interface: "lo", method: "link", replace: true });
    // @ts-expect-error: classic filters have priorities instead
    tc.attach({ interface: "lo", direction: "ingress", method: "netlink", before: "all" });
    // @ts-expect-error: classic filters have priorities instead
    tcx.attach({ interface: "lo", method: "netlink", after: "all" });
  };
  void [accepted, refused];
});
