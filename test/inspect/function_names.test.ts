import { expect } from "bun:test";
import { asm, Program } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

bpfTest("the target of a tracing link is undefined without privilege", async () => {
  using program = new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
  const child = `${import.meta.dir}/children/unseen_target.ts`;
  const preload = ["--preload", "./test/support/drop_capabilities.ts"];
  const { stdout, stderr, exitCode } = await runBun([...preload, child, `${program.info().id}`]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  expect(stdout).toBe("undefined\nundefined\n");
});
