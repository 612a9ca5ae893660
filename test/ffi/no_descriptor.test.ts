import { expect, test } from "bun:test";
import { bunWithDescriptors } from "../support/last_descriptors.ts";
import { bpfTest } from "../support/privilege.ts";
import { run, runBun } from "../support/run.ts";

const child = `${import.meta.dir}/children/no_descriptor.ts`;

/** The number of descriptors that things need at least; others need one. */
const needed: Readonly<Record<string, number>> = {
  // It was made before.
  "the view of an array": 0,
  // And the file that lists the CPUs.
  PerCpuArrayMap: 2,
  "the losses of a ring": 2,
  ArrayOfMaps: 2,
  PerfBuffer: 2,
};

bpfTest(
  "whatever finds no descriptor says so, names the limit, leaks nothing, and works when there is one",
  async () => {
    const names: string[] = JSON.parse((await runBun([child, "names"])).stdout);
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) {
      const { stdout, stderr } = await run(bunWithDescriptors(100, [child, name]));
      expect({ name, stderr }).toEqual({ name, stderr: "" });
      const {
        failures,
        outcome,
        leaked,
      }: {
        failures: { spare: number; name: string; code: string; message: string }[];
        outcome: string;
        leaked: string;
      } = JSON.parse(stdout);
      expect({ name, outcome, leaked }).toEqual({ name, outcome: "made", leaked: "" });
      expect({ name, isEnough: failures.length >= (needed[name] ?? 1) }).toEqual({
        name,
        isEnough: true,
      });
      for (const failure of failures) {
        expect({ ...failure, name }).toMatchObject({ name, code: "EMFILE" });
        expect(failure.message).toMatch(
          /^cannot [^\n]+: [^:]+: EMFILE \(too many open files\)\. Close some, or raise the limit of this process \(ulimit -n\)\n?$/,
        );
      }
    }
  },
  60_000,
);

test("a refusal that cannot be explained without a descriptor is the refusal still", async () => {
  const preload = ["--preload", "./test/support/drop_capabilities.ts"];
  const refused = `${import.meta.dir}/children/refused_without_descriptor.ts`;
  const { stdout } = await run(bunWithDescriptors(100, [...preload, refused]));
  expect(stdout).toBe(
    "cannot create the hash map: bpf(BPF_MAP_CREATE): EPERM (operation not permitted). The reason is not known: cannot open /proc/self/status: open: EMFILE (too many open files). Close some, or raise the limit of this process (ulimit -n)\n",
  );
});
