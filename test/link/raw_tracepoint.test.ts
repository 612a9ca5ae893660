import { expect } from "bun:test";
import { ArrayMap, asm, features, Program, t } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { runOneByOne } from "../support/run_program.ts";
import { wayTest } from "./way.ts";

const { r0, r1, r2 } = asm;

/** Checks that programs of a section get the cookie of their link. */
async function checkCookie(
  section:
    "raw_tp/sched_process_exec" | "tp/sched/sched_process_exec" | "tp_btf/sched_process_exec",
): Promise<void> {
  using values = new ArrayMap({ value: t.u64, length: 1 });
  using program = new Program({
    section,
    license: "GPL",
    maps: { values },
    code: [
      asm.call("get_attach_cookie"),
      asm.ldMapValue(r1, "values", 0),
      asm.stxdw(r1, 0, r0),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
  const execute = () => Bun.spawn(["/bin/true"], { stdout: "ignore" }).exited;
  {
    using _link = program.attach({ cookie: 0x1122_3344_5566_7788n });
    await execute();
    expect(values.at(0)).toBe(0x1122_3344_5566_7788n);
    values.set(0, 0n);
  }
  await execute();
  expect(values.at(0)).toBe(0n);
}

wayTest("raw_tp_cookie", () => checkCookie("raw_tp/sched_process_exec"));

testWith(features.attachKinds.get("perf_event_cookie"))("tp passes the cookie to the program", () =>
  checkCookie("tp/sched/sched_process_exec"),
);

testWith(features.attachKinds.get("raw_tp_cookie"))("tp_btf passes the cookie to the program", () =>
  checkCookie("tp_btf/sched_process_exec"),
);

wayTest("raw_tp.w", () => {
  using counts = new ArrayMap({ value: t.u64, length: 1 });
  using program = new Program({
    // Each BPF_PROG_TEST_RUN ends with this tracepoint.
    section: "raw_tp.w/bpf_test_finish",
    license: "GPL",
    maps: { counts },
    code: [
      asm.ldMapValue(r1, "counts", 0),
      asm.mov(r2, 1),
      asm.atomicAdd(r1, 0, r2),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
  using socket = new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(r0, 0), asm.exit()],
  });
  {
    using _link = program.attach();
    runOneByOne(socket, 3);
    // Test runs of other processes count, too.
    expect(counts.at(0)).toBeGreaterThanOrEqual(3n);
  }
  counts.set(0, 0n);
  runOneByOne(socket, 3);
  expect(counts.at(0)).toBe(0n);
});
