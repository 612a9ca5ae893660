/** Types of `attach()` by section. They are checked by the compiler; nothing here is run. */
import { expectTypeOf, test } from "bun:test";
import type { AttachOptions, Link, Program, ProgramSpec } from "../../src/index.ts";

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
