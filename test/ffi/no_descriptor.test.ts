import { expect, test } from "bun:test";
import type { Outcome } from "./children/no_descriptor.ts";
import { bunWithDescriptors } from "../support/last_descriptors.ts";
import { bpfTest } from "../support/privilege.ts";
import { run, runBun } from "../support/run.ts";

const child = `${import.meta.dir}/children/no_descriptor.ts`;

/** The least number of descriptors that operations need, if it is not one. */
const needed: Readonly<Record<string, number>> = {
  // The map exists already.
  "the view of an array": 0,
  // A second one for the file with the possible CPUs.
  PerCpuArrayMap: 2,
  "the losses of a ring": 2,
  PerfBuffer: 2,
  "a pinned PerfBuffer": 2,
  ArrayOfMaps: 2,
};

/** Time limit for emulated machines, where reading the kernel's types and symbols takes long. */
const timeoutMs = 240_000;

/** Operations that are tested in separate processes, because the list of CPUs is read only once. */
const alone = ["PerfBuffer", "the losses of a ring", "the number of CPUs"];

bpfTest(
  "every operation names the limit if no descriptor is left, leaks nothing, and works when one is free",
  async () => {
    const names: string[] = JSON.parse((await runBun([child])).stdout);
    const together = names.filter((name) => !alone.includes(name));
    expect(together.length).toBeGreaterThan(15);
    const runs = [together, ...alone.map((name) => [name])].map(async (group) => {
      const command = bunWithDescriptors(100, [child, ...group]);
      const { stdout, stderr } = await run(command, { timeout: timeoutMs });
      expect({ group, stderr }).toEqual({ group, stderr: "" });
      return JSON.parse(stdout) as Outcome[];
    });
    for (const { what, failures, isMade, leaked } of (await Promise.all(runs)).flat()) {
      const isEnough = failures.length >= (needed[what] ?? 1);
      expect({ what, isMade, leaked, isEnough }).toEqual({
        what,
        isMade: true,
        leaked: "",
        isEnough: true,
      });
      for (const failure of failures) {
        expect({ what, ...failure }).toMatchObject({ what, code: "EMFILE" });
        expect(failure.message).toMatch(
          /^cannot [^\n]+: [^:]+: EMFILE \(too many open files\)\. Close open files, or raise the limit of this process \(ulimit -n\)\n?$/,
        );
      }
    }
  },
  timeoutMs,
);

test("an error is reported although its hint needs a descriptor and none is left", async () => {
  const preload = ["--preload", "./test/support/drop_capabilities.ts"];
  const refused = `${import.meta.dir}/children/refused_without_descriptor.ts`;
  const { stdout } = await run(bunWithDescriptors(100, [...preload, refused]));
  expect(stdout).toBe(
    "cannot create the hash map: bpf(BPF_MAP_CREATE): EPERM (operation not permitted). The cause could not be determined: cannot open /proc/self/status: open: EMFILE (too many open files). Close open files, or raise the limit of this process (ulimit -n)\n",
  );
});
