import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { release } from "node:os";
import { type FeatureReport, settingsData } from "../../src/cli/features_command.ts";
import { toJson } from "../../src/cli/output.ts";
import { kernelConfig } from "../../src/ffi/kernel.ts";
import type { KernelSettings } from "../../src/features/settings.ts";
import { features } from "../../src/index.ts";
import { probeCgroups } from "../features/probe_cgroups.ts";
import { failureOf } from "../support/commands.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { isGuest, testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const helpersTest = testUnless(bpfObstacle ?? (isGuest ? "it would take long" : undefined));

describe("bun-bpf features", () => {
  bpfTest("prints section by section, in aligned columns", async () => {
    const text = await cliText(["features", "kernel", "instructions"]);
    const [kernel = "", instructions = ""] = text.split("\n\n");
    expect(kernel).toContain(release());
    const [heading = "", ...lines] = instructions.trimEnd().split("\n");
    expect(heading).toMatch(/^INSTRUCTIONS +STATUS +SINCE +REASON$/);
    expect(lines.length).toBe(features.instructions.names.length);
    const column = heading.indexOf("STATUS");
    for (const line of lines) {
      expect(line.slice(column)).toMatch(/^(available|missing|refused) +\d+\.\d+ +\S/);
    }
  });

  bpfTest("prints map types with their operations and batch operations", async () => {
    const text = await cliText(["features", "maps"]);
    expect(text).toMatch(/^hash +available +3\.19 +lookup update delete get_next_key .*freeze +/m);
    const hash = /^hash .*$/m.exec(text)?.[0] ?? "";
    const hasBatches = features.mapOperations("hash").get("lookup_batch").available;
    expect(hash.endsWith("lookup lookup_and_delete update delete")).toBe(hasBatches);
  });

  bpfTest("prints the library's results as JSON", async () => {
    const report = await cliJson<FeatureReport>(["features", "kernel", "maps"]);
    expect(Object.keys(report)).toEqual(["settings", "mapTypes", "mapOperations"]);
    expect(report.settings.release).toBe(release());
    expect(report.mapTypes["hash"]).toEqual({ status: "available", since: "3.19" } as never);
  });

  test("prints the options of the kernel's build", async () => {
    const config = kernelConfig();
    const { config: shown } = await cliJson<FeatureReport>(["features", "config"]);
    const text = await cliText(["features", "config"]);
    if (config === undefined) {
      expect(shown).toBeNull();
      expect(text).toMatch(/^kernel configuration: +unknown\n$/);
      return;
    }
    const names = Object.keys(shown ?? {});
    // Options of BPF in general, and those of map types, program types, attach kinds and instructions.
    for (const name of ["BPF_SYSCALL", "HZ", "XDP_SOCKETS", "CGROUP_BPF", "KPROBE_EVENTS", "MMU"]) {
      expect(names).toContain(`CONFIG_${name}`);
    }
    expect(new Set(names).size).toBe(names.length);
    for (const [name, value] of Object.entries(shown ?? {})) {
      expect({ name, value }).toEqual({ name, value: config.get(name) ?? null });
      expect(text).toMatch(new RegExp(`^${name}: +${value ?? "not set"}$`, "m"));
    }
    expect(shown?.["CONFIG_BPF_SYSCALL"]).toBe("y");
  });

  bpfTest("finishes a probe at Ctrl-C, so that nothing of it is left", async () => {
    const before = probeCgroups();
    for (const format of [[], ["--json"]]) {
      const ended = await cli(["features", "attach", ...format], {
        preload: "./test/cli/children/interrupted_probe.ts",
      });
      expect(ended).toMatchObject({ signalCode: "SIGINT", stdout: "", stderr: "" });
      expect(probeCgroups()).toEqual(before);
    }
  });

  bpfTest("prints a section once that is named twice", async () => {
    const [once, twice] = await Promise.all([
      cliText(["features", "kernel"]),
      cliText(["features", "kernel", "kernel"]),
    ]);
    expect(twice).toBe(once);
  });

  const limitOf = async (limit: string): Promise<unknown> => {
    const line = `ulimit -l ${limit} && exec "$0" "$1" features kernel --json`;
    const { stdout } = await run(["sh", "-c", line, process.execPath, mainFile]);
    return (JSON.parse(stdout) as FeatureReport).settings.lockedMemory.limit;
  };

  bpfTest("has the limit on locked memory in bytes", async () => {
    expect(await limitOf("64")).toBe(64 * 1024);
  });

  testUnless(bpfObstacle ?? failureOf("sh", "-c", "ulimit -l unlimited"))(
    "has null in JSON for no limit on locked memory",
    async () => {
      expect(await limitOf("unlimited")).toBeNull();
    },
  );

  test("has the same keys of settings in JSON on every machine", () => {
    const settings: KernelSettings = {
      release: "4.18.0",
      architecture: "x64",
      pageSize: 4096,
      possibleCpus: 1,
      btf: { vmlinux: false, modules: 0 },
      jit: { mode: undefined, hardening: undefined, symbols: undefined, limit: undefined },
      unprivileged: undefined,
      lockdown: undefined,
      securityModules: undefined,
      lockedMemory: { countedBy: "rlimit", limit: Infinity },
      ioUring: { available: true, reason: undefined },
    };
    expect(JSON.parse(toJson(settingsData(settings)))).toEqual({
      ...settings,
      jit: { mode: null, hardening: null, symbols: null, limit: null },
      unprivileged: null,
      lockdown: null,
      securityModules: null,
      lockedMemory: { countedBy: "rlimit", limit: null },
      ioUring: { available: true },
    });
    const ioUring = { available: false, reason: "forbidden" };
    const known = { ...settings, securityModules: ["bpf"], ioUring };
    expect(settingsData(known)).toMatchObject({ securityModules: ["bpf"], ioUring });
  });

  // Tests of the library probe all helpers on emulated machines, which takes long there.
  helpersTest("prints the library's results about helpers as JSON", async () => {
    const report = await cliJson<FeatureReport>(["features", "helpers"]);
    expect(Object.keys(report)).toEqual(["helpers"]);
    const available = (type: "xdp" | "syscall") => {
      const group = features.helpers(type);
      return group.names.filter((name) => group.get(name).available);
    };
    expect(report.helpers["xdp"]).toEqual(available("xdp"));
    expect(report.helpers["syscall"]).toEqual(available("syscall"));
  });

  bpfTest("prints refused features without privilege, and succeeds", async () => {
    const { stdout, stderr, exitCode } = await cli(["features", "instructions"], {
      preload: "./test/support/drop_capabilities.ts",
    });
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    expect(stdout).not.toContain("available");
    expect(stdout).toMatch(/refused .*lacks CAP_BPF/);
  });

  test("rejects an unknown section with a list of the sections", async () => {
    const { stderr, exitCode } = await cli(["features", "everything"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(
      "kernel, config, maps, programs, attach, instructions, fixes, helpers",
    );
  });
});
