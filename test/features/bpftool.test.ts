/** What is found out here is what `bpftool feature probe` finds out, where that knows it. */
import { describe, expect } from "bun:test";
import { isKernelSince } from "../../src/ffi/kernel_release.ts";
import { features, type MapTypeKeyword, type ProgramTypeKeyword } from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";

interface Probe {
  readonly map_types: Readonly<Record<string, boolean>>;
  readonly program_types: Readonly<Record<string, boolean>>;
  readonly helpers: Readonly<Record<string, readonly string[]>>;
}

const probeTest = testUnless(bpfObstacle ?? bpftoolObstacle);

let probed: Promise<Probe> | undefined;

function probe(): Promise<Probe> {
  return (probed ??= bpftoolJson<Probe>("feature", "probe"));
}

/** `have_lru_hash_map_type` as it is called here: `"lru-hash"`. */
function keywordOf<Name extends string>(key: string): Name {
  return key
    .replace(/^have_|_(?:map|prog)_type$|_available_helpers$/g, "")
    .replaceAll("_", "-") as Name;
}

describe("bpftool agrees", () => {
  probeTest("about kinds of maps", async () => {
    const { map_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<MapTypeKeyword>(key);
      expect([type, features.mapTypes.get(type).available]).toEqual([type, has]);
    }
  });

  probeTest("about types of programs", async () => {
    const { program_types: types } = await probe();
    expect(Object.keys(types).length).toBeGreaterThan(25);
    // It loads such programs without a target in the kernel's types, which some of its versions take for a refusal.
    const withTarget: readonly ProgramTypeKeyword[] = ["tracing", "ext", "lsm", "struct-ops"];
    for (const [key, has] of Object.entries(types)) {
      const type = keywordOf<ProgramTypeKeyword>(key);
      if (!has && withTarget.includes(type)) continue;
      expect([type, features.programTypes.get(type).available]).toEqual([type, has]);
    }
  });

  // Versions before 7.5 do not understand what the verifier says since 6.10, and take all helpers for available.
  const misunderstands = isKernelSince("6.10")
    ? "kernels since 6.10 have other words for an unknown helper than most versions of bpftool know"
    : undefined;
  testUnless(misunderstands ?? bpftoolObstacle ?? bpfObstacle)(
    "about the helpers of each type of programs",
    async () => {
      const { helpers } = await probe();
      // Left out by it, unless asked for: they write to the kernel's log when they are tried.
      const quiet = /^(?:trace_printk|trace_vprintk|probe_write_user)$/;
      for (const [key, names] of Object.entries(helpers)) {
        const type = keywordOf<ProgramTypeKeyword>(key);
        const known = names.map((name) => name.replace(/^bpf_/, ""));
        if (known.length === 0) continue;
        const group = features.helpers(type);
        const own = group.names.filter((name) => group.get(name).available && !quiet.test(name));
        // It may be older than the kernel.
        const newest = known.at(-1);
        const compared = own.slice(0, own.findIndex((name) => name === newest) + 1);
        expect([type, compared]).toEqual([
          type,
          known.filter((name) => !quiet.test(name)),
        ] as never);
      }
    },
  );
});
