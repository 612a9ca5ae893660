import { describe, expect, test } from "bun:test";
import { Features } from "../../src/features/features.ts";
import { type Feature, features } from "../../src/index.ts";
import { mountObstacle, runBunWithout } from "../support/hidden_folder.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { run, runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { contradictions } from "./contradictions.ts";
import { fresh, statuses } from "./fresh.ts";
import { expectRefusals } from "./unprivileged.ts";

describe("available features match the kernel's version", () => {
  bpfTest("map types", () => {
    expect(contradictions(features.mapTypes)).toEqual([]);
  });

  bpfTest("map operations", () => {
    const operations = features.mapTypes.names.flatMap((type) => [...features.mapOperations(type)]);
    expect(operations.length).toBeGreaterThan(300);
    expect(contradictions(operations)).toEqual([]);
  });

  bpfTest("program types", () => {
    expect(contradictions(features.programTypes)).toEqual([]);
  });

  bpfTest("fixes", () => {
    expect(contradictions(features.fixes)).toEqual([]);
  });
});

describe("helpers", () => {
  bpfTest(
    "that programs of all types can call are available to all program types of the kernel",
    () => {
      for (const type of features.programTypes.names) {
        // An ext program has the helpers of the program whose function it replaces.
        if (type === "ext" || !features.programTypes.get(type).available) continue;
        for (const name of ["map_lookup_elem", "map_update_elem", "map_delete_elem"] as const) {
          expect([type, name, features.helpers(type).get(name).status]).toEqual([
            type,
            name,
            "available",
          ]);
        }
      }
    },
  );

  bpfTest("of one program type are missing for others, with the reason", () => {
    expect(features.helpers("xdp").get("xdp_adjust_head").available).toBe(true);
    const { status, reason, since } = features.helpers("socket_filter").get("xdp_adjust_head");
    expect({ status, reason, since }).toEqual({
      status: "missing",
      reason: "the verifier does not let programs of this type call it",
      since: undefined,
    });
  });

  bpfTest("of missing program types are missing for the same reason", () => {
    const types = [...features.programTypes.names].filter((type) => type !== "ext");
    for (const type of types) {
      const { status, reason } = features.programTypes.get(type);
      if (status !== "missing") continue;
      const helper = features.helpers(type).get("map_lookup_elem");
      expect([type, helper.status, helper.reason]).toEqual([type, status, reason]);
    }
  });
});

bpfTest("probes leave nothing open", () => {
  const before = countResources();
  for (const name of features.mapTypes.names) {
    new Features().mapTypes.get(name).status;
    for (const operation of new Features().mapOperations(name)) operation.status;
  }
  for (const name of features.programTypes.names) {
    const again = new Features();
    again.programTypes.get(name).status;
    for (const helper of again.helpers(name)) helper.status;
  }
  expect(countResources()).toEqual(before);
});

for (const sort of ["maps", "programs"] as const) {
  bpfTest(
    `all ${sort} are refused to a process without capabilities`,
    () => expectRefusals(sort),
    60_000,
  );
}

testUnless(bpfObstacle ?? mountObstacle)(
  "without BTF of the kernel, only the map types are missing that need it",
  async () => {
    const child = ["test/features/children/statuses.ts", "maps"];
    const { stdout, stderr, exitCode } = await runBunWithout("/sys/kernel/btf", child);
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    const found: Record<string, string> = JSON.parse(stdout);
    const differences = Object.entries(statuses(fresh.maps())).filter(
      ([name, status]) => found[name] !== status,
    );
    for (const [name] of differences) expect(name).toContain("struct_ops");
    expect(found["map type struct_ops"]).toBe("missing");
  },
  60_000,
);

bpfTest("a probe that fails for a lack of descriptors runs again on the next read", async () => {
  const child = "test/features/children/no_descriptors.ts";
  const command = 'ulimit -n 256; exec "$@"';
  const { stdout, stderr } = await run(["sh", "-c", command, "sh", process.execPath, child]);
  expect(stderr).toBe("");
  expect(stdout.trim().split("\n")).toEqual([
    "EMFILE",
    "cannot probe the map type hash: a probe: EMFILE (too many open files). Close open files, or raise the limit of this process (ulimit -n)",
    "true",
  ]);
});

test("unknown names are errors that suggest a similar name", () => {
  const { mapTypes, programTypes } = features;
  // Untyped arguments, as in JavaScript.
  const get = (group: { get(name: never): Feature }, name: string) => group.get(name as never);
  const wrong: [() => unknown, RegExp][] = [
    [() => get(mapTypes, "ring-buf"), /^unknown map type "ring-buf": did you mean "ringbuf"/],
    [() => features.mapOperations("hush" as "hash"), /^unknown map type "hush": .*"hash"/],
    [
      () => get(features.mapOperations("hash"), "lookup-batch"),
      /^unknown operation "lookup-batch": .*"lookup_batch"/,
    ],
    [() => get(programTypes, "sched-cls"), /^unknown program type .* did you mean "sched_cls"/],
    [() => features.helpers("XDP" as "xdp"), /^unknown program type "XDP": did you mean "xdp"/],
    [() => get(features.helpers("tracing"), "bpf_loop"), /^unknown helper .* did you mean "loop"/],
    [
      () => get(features.helpers("tracing"), "nothing_like_it"),
      /^unknown helper .*: there are 211$/,
    ],
  ];
  for (const [use, message] of wrong) {
    expect(use).toThrow(TypeError);
    expect(use).toThrow(message);
  }
});

test("the reason of a feature that no known kernel supports says so", () => {
  const { since, reason, available } = features.mapOperations("queue").get("get_next_key");
  expect({ since, available }).toEqual({ since: undefined, available: false });
  expect(reason).toBe("no known kernel version has it");
});

test("importing the library and listing features makes no call of bpf(2)", async () => {
  const { stdout, exitCode, stderr } = await runBun(["test/features/children/lazy.ts"]);
  expect({ stderr, exitCode, stdout }).toEqual({
    stderr: "",
    exitCode: 0,
    stdout: "0 calls, then 1\n",
  });
});
