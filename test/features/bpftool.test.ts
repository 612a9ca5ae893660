/** What is found out here is what `bpftool feature probe` finds out, where that knows it. */
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

const helpersObstacle = bpftoolObstacle ?? (await misunderstanding());

/** Since 6.10 the verifier has other words for a helper that it does not know, which bpftool takes for a helper that there is. */
async function misunderstanding(): Promise<string | undefined> {
  const { version } = await bpftoolJson<{ version: string }>("version");
  if (!isKernelSince("6.10") || isVersionSince(version, "7.5")) return undefined;
  return `bpftool ${version} does not understand what kernels since 6.10 say of unknown helpers`;
}

let probed: Promise<Probe> | undefined;

function probe(): Promise<Probe> {
  return (probed ??= bpftoolJson<Probe>("feature", "probe"));
}

/** `have_lru_hash_map_type` as it is called here: `"lru_hash"`. */
function keywordOf<Name extends string>(key: string): Name {
  return key.replace(/^have_|_(?:map|prog)_type$|_available_helpers$/g, "") as Name;
}

describe("bpftool agrees", () => {
  probeTest("about map types", async () => {
    const { map_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<MapTypeName>(key);
      // It takes the answer of 5.10 for a refusal, where such maps are made and registered.
      if (!has && type === "struct_ops" && features.attachKinds.get("struct_ops").available)
        continue;
      expect([type, features.mapTypes.get(type).available]).toEqual([type, has]);
    }
  });

  probeTest("about program types", async () => {
    const { program_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    // It loads such programs without a target in the kernel's types, which some of its versions take for a refusal.
    const withTarget: readonly ProgramTypeName[] = ["tracing", "ext", "lsm", "struct_ops"];
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<ProgramTypeName>(key);
      if (!has && withTarget.includes(type)) continue;
      expect([type, features.programTypes.get(type).available]).toEqual([type, has]);
    }
  });

  testUnless(bpfObstacle ?? helpersObstacle)("about the helpers of each program type", async () => {
    const { helpers } = await probe();
    // Left out by it, unless asked for: they write to the kernel's log when they are tried.
    const quiet = /^(?:trace_printk|trace_vprintk|probe_write_user)$/;
    // It takes for available what the verifier refuses by a look at the program, in words that it does not know: helpers that sleep
    // (since 6.12), one that tracepoints have no answer for, and those that depend on the traced function.
    const judged = /^(?:copy_from_user(?:_task)?|get_func_ip|sk_storage_(?:get|delete)|d_path)$/;
    // Which of the ways to attach programs of a type have them varies: it asks about the first.
    const ofSomeAttachTypes = /^[gs]et(?:_retval|sockopt)$/;
    const differences = Object.entries(helpers).flatMap(([key, names]) => {
      const type = keywordOf<ProgramTypeName>(key);
      const theirs = names.map((name) => name.replace(/^bpf_/, ""));
      if (theirs.length === 0) return [];
      const group = features.helpers(type);
      // It may be older than the kernel.
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
