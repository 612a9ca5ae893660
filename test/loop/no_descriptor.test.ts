import { expect } from "bun:test";
import type { BridgeName } from "../../src/loop/bridge.ts";
import { bridges } from "./bridges.ts";
import { bunWithDescriptors } from "../support/last_descriptors.ts";
import { bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";

const child = `${import.meta.dir}/children/no_descriptor.ts`;
const [best] = bridges.filter(({ obstacle }) => obstacle === undefined).map(({ name }) => name);

const cases = [
  [0, "timer"],
  [1, "aio"],
  [2, "aio"],
  [3, "io_uring"],
] as const;

/** The processes of all cases, which run side by side: each one mostly waits. */
let started: readonly ReturnType<typeof run>[] | undefined;

function startAll() {
  return cases.map(([spare]) =>
    run(bunWithDescriptors(100, [child, `${spare}`]), { env: { BUN_BPF_LOOP: "" } }),
  );
}

for (const [index, [spare, bridge]] of cases.entries()) {
  bpfTest(
    `a consumer that starts with ${spare} free descriptors gets its events, and later a better bridge`,
    async () => {
      started ??= startAll();
      const { stdout, stderr } = await started[index]!;
      expect(stderr).toBe("");
      const result: {
        bridges: (BridgeName | null)[];
        events: number[];
        messages: { code: string; message: string }[];
      } = JSON.parse(stdout);
      const isAllowed = bridges.some(({ name, obstacle }) => name === bridge && !obstacle);
      const fallback = isAllowed && best !== "timer" ? bridge : "timer";
      expect(result.bridges).toEqual([
        best ?? null,
        fallback,
        best ?? null,
        "timer",
        best ?? null,
        null,
      ]);
      expect(result.events).toEqual([20, 20, 20, 20]);
      for (const { code, message } of result.messages) {
        expect(code).toBe("EMFILE");
        expect(message).toContain("(ulimit -n)");
      }
      const better = { io_uring: 0, aio: 1, timer: 2 };
      if (best === "io_uring") expect(result.messages).toHaveLength(better[fallback]);
    },
    30_000,
  );
}
