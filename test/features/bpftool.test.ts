/** Compares the features with those that `bpftool feature probe` finds. */
import { describe, expect } from "bun:test";
import { isKernelSince, isVersionSince } from "../../src/ffi/kernel.ts";
import { features, type MapTypeName, type ProgramTypeName } from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";

interface Probe {
  readonly map_types: Readonly<Record<string, boolean>>;
  readonly program_types: Readonly<Record<string, boolean>>;
  readonly helpers: Readonly<Record<string, readonly string[]>>;
}

const probeTest = testUnless(bpfObstacle ?? bpftoolObstacle);

const helpersObstacle = bpftoolObstacle ?? (await findHelpersObstacle());

/** Finds a bpftool that takes the message of kernels since 6.10 about an unknown helper for an available helper. */
async function findHelpersObstacle(): Promise<string | undefined> {
  const { version } = await bpftoolJson<{ version: string }>("version");
  if (!isKernelSince("6.10") || isVersionSince(version, "7.5")) return undefined;
  return `bpftool ${version} does not understand the message of kernels since 6.10 about unknown helpers`;
}

let probed: Promise<Probe> | undefined;

function probe(): Promise<Probe> {
  return (probed ??= bpftoolJson<Probe>("feature", "probe"));
}

/** Converts a key of bpftool such as `have_lru_hash_map_type` to this library's name: `"lru_hash"`. */
function keywordOf<Name extends string>(key: string): Name {
  return key.replace(/^have_|_(?:map|prog)_type$|_available_helpers$/g, "") as Name;
}

describe("bpftool agrees", () => {
  probeTest("about map types", async () => {
    const { map_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<MapTypeName>(key);
      // bpftool reports the result of Linux 5.10 as missing, although such maps can be created and registered.
      if (!has && type === "struct_ops" && features.attachKinds.get("struct_ops").available)
        continue;
      expect([type, features.mapTypes.get(type).available]).toEqual([type, has]);
    }
  });

  probeTest("about program types", async () => {
    const { program_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    // bpftool loads such programs without a target, and some of its versions report that error as missing support.
    const withTarget: readonly ProgramTypeName[] = ["tracing", "ext", "lsm", "struct_ops"];
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<ProgramTypeName>(key);
      if (!has && withTarget.includes(type)) continue;
      expect([type, features.programTypes.get(type).available]).toEqual([type, has]);
    }
  });

  testUnless(bpfObstacle ?? helpersObstacle)("about the helpers of each program type", async () => {
    const { helpers } = await probe();
    // bpftool leaves these out by default, because their probes write to the kernel's log.
    const quiet = /^(?:trace_printk|trace_vprintk|probe_write_user)$/;
    // bpftool reports these as available, because it does not understand the verifier's messages: helpers that sleep (since
    // 6.12), one that tracepoints do not support, and those that depend on the traced function.
    const judged = /^(?:copy_from_user(?:_task)?|get_func_ip|sk_storage_(?:get|delete)|d_path)$/;
    // These are available for some attach types only, and bpftool probes only the first one.
    const ofSomeAttachTypes = /^[gs]et(?:_retval|sockopt)$/;
    const differences = Object.entries(helpers).flatMap(([key, names]) => {
      const type = keywordOf<ProgramTypeName>(key);
      const theirs = names.map((name) => name.replace(/^bpf_/, ""));
      if (theirs.length === 0) return [];
      const group = features.helpers(type);
      // bpftool may be older than the kernel.
      const newest = group.names.findIndex((name) => name === theirs.at(-1));
      const compared = group.names.slice(0, newest + 1).filter((name) => !quiet.test(name));
      return compared.flatMap((name) => {
        const [isOurs, isTheirs] = [group.get(name).available, theirs.includes(name)];
        if (isOurs === isTheirs || (isOurs ? ofSomeAttachTypes : judged).test(name)) return [];
        return [`${type}: ${name} is ${isOurs ? "available here" : "available to bpftool"} alone`];
      });
    });
    expect(differences).toEqual([]);
  });
});
