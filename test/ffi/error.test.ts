import { describe, expect, test } from "bun:test";
import { hasCapability } from "../../src/ffi/capabilities.ts";
import { explainPermission } from "../../src/ffi/permission.ts";
import { errnoDescription, errnoName, ignoreErrors } from "../../src/ffi/error.ts";
import { bpfError } from "../../src/ffi/bpf.ts";
import { BpfError, DisposedError, HashMap, t } from "../../src/index.ts";
import { failureOf } from "../support/commands.ts";
import { bpfTest } from "../support/privilege.ts";
import { run, runBun } from "../support/run.ts";
import { readLockdown } from "../../src/ffi/security.ts";
import { testUnless } from "../support/skipping.ts";
import { BPF_MAP_CREATE } from "../../src/uapi/commands.ts";

describe("errno names", () => {
  test("are those of errno.h, and ENOTSUPP for 524", () => {
    expect([1, 2, 7, 16, 22, 524].map(errnoName)).toEqual([
      "EPERM",
      "ENOENT",
      "E2BIG",
      "EBUSY",
      "EINVAL",
      "ENOTSUPP",
    ]);
    expect([errnoName(11), errnoName(35), errnoName(95)]).toEqual([
      "EAGAIN",
      "EDEADLK",
      "EOPNOTSUPP",
    ]);
    expect(errnoName(4000)).toBe("errno 4000");
    expect(errnoDescription(1)).toBe("operation not permitted");
    expect([errnoDescription(524), errnoDescription(4000)]).toEqual([
      "operation is not supported",
      "",
    ]);
  });
});

describe("BpfError", () => {
  test("has a message with operation, call, error and hint, and properties for them", () => {
    const options = { errno: 7, syscall: "bpf(X)", doing: "do it", hint: "Try less" };
    const error = new BpfError(options);
    expect(error.message).toMatch(/^cannot do it: bpf\(X\): E2BIG \(.+\)\. Try less$/);
    expect(error).toMatchObject({ name: "BpfError", code: "E2BIG", errno: 7, syscall: "bpf(X)" });
    expect(error.hint).toBe("Try less");
    const bare = new BpfError({ errno: 4000, syscall: "bpf(X)", doing: "do it" });
    expect(bare.message).toBe("cannot do it: bpf(X): errno 4000");
    expect(bare.hint).toBeUndefined();
    expect(error instanceof Error).toBe(true);
  });

  test("has the hint for its code, whose function is called only for that code", () => {
    let made = 0;
    const hints = { EBUSY: "Wait", EINVAL: () => `made ${++made}` };
    const hintFor = (errno: number) =>
      bpfError(BPF_MAP_CREATE, errno, { doing: "do it", hints }).hint;
    expect([hintFor(16), hintFor(2), made]).toEqual(["Wait", undefined, 0]);
    expect(hintFor(22)).toBe("made 1");
    expect(hintFor(1)).toContain("CAP_BPF");
  });

  test("names the limit on open files of the process for EMFILE, of the machine for ENFILE", () => {
    const hintFor = (errno: number, hint?: string) =>
      new BpfError({ errno, syscall: "x", doing: "do it", hint }).hint;
    expect(hintFor(24)).toBe("Close open files, or raise the limit of this process (ulimit -n)");
    expect(hintFor(23)).toBe("Close open files, or raise the limit of the machine (fs.file-max)");
    expect(hintFor(24, "Another reason")).toBe("Another reason");
    expect(hintFor(22)).toBeUndefined();
  });

  test("keeps its code if the function for the hint throws", () => {
    const hint = () => {
      throw new Error("no file can be opened");
    };
    const error = new BpfError({ errno: 1, syscall: "x", doing: "do it", hint });
    expect(error).toMatchObject({
      code: "EPERM",
      hint: "The cause could not be determined: no file can be opened",
    });
  });

  bpfTest("names the object and the call when the kernel returns an error", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "one" });
    map.set(1, 1);
    expect(() => map.set(2, 2)).toThrow(
      /^cannot store a value in hash map "one": bpf\(BPF_MAP_UPDATE_ELEM\): E2BIG \(.+\)\. The map is full/,
    );
  });
});

test("DisposedError names the object", () => {
  const error = new DisposedError('hash map "a"');
  expect(error).toMatchObject({ name: "DisposedError" });
  expect(error instanceof BpfError).toBe(false);
  expect(error.message).toBe('hash map "a" is disposed: it cannot be used any more');
});

describe("explainPermission", () => {
  const print = (code: string) => [
    "-e",
    `import { hasCapability } from "./src/ffi/capabilities.ts";
     import { explainPermission } from "./src/ffi/permission.ts"; ${code}`,
  ];

  test("names every missing capability, and three ways to get them", async () => {
    const code = `console.log(hasCapability("CAP_BPF"), explainPermission(["CAP_BPF", "CAP_PERFMON"]))`;
    const preload = ["--preload", "./test/support/drop_capabilities.ts"];
    const { stdout, stderr } = await runBun([...preload, ...print(code)]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(
      /^false This process lacks CAP_BPF and CAP_PERFMON: run as root \(sudo -E\), .*setcap cap_bpf,cap_perfmon\+ep.*--cap-add BPF --cap-add PERFMON/,
    );
  });

  bpfTest("names the lockdown mode, also where securityfs is not mounted", () => {
    const lockdown = readLockdown();
    const text = explainPermission(["CAP_BPF"]);
    if (lockdown === undefined) expect(text).toContain("its lockdown (in ");
    else if (lockdown === "none") expect(text).not.toContain("lock");
    else expect(text).toContain(`the kernel's lockdown (${lockdown})`);
  });

  test("names the missing capabilities in setcap and --cap-add, and CAP_PERFMON with CAP_BPF", async () => {
    const code = `for (const needed of [["CAP_BPF"], ["CAP_SYS_ADMIN"], ["CAP_BPF", "CAP_NET_ADMIN"], ["CAP_PERFMON"]])
      console.log(explainPermission(needed));`;
    const preload = ["--preload", "./test/support/drop_capabilities.ts"];
    const { stdout } = await runBun([...preload, ...print(code)]);
    const line = (lacks: string, list: string, options: string) =>
      `This process lacks ${lacks}: run as root (sudo -E), give a compiled script the capabilities (setcap ${list}+ep), or start the container with ${options}\n`;
    expect(stdout).toBe(
      line("CAP_BPF", "cap_bpf,cap_perfmon", "--cap-add BPF --cap-add PERFMON") +
        line("CAP_SYS_ADMIN", "cap_sys_admin", "--cap-add SYS_ADMIN") +
        line(
          "CAP_BPF and CAP_NET_ADMIN",
          "cap_bpf,cap_perfmon,cap_net_admin",
          "--cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN",
        ) +
        line("CAP_PERFMON", "cap_perfmon", "--cap-add PERFMON"),
    );
  });

  const namespaceTest = testUnless(failureOf("unshare", "-r", "true"));
  namespaceTest("says in a user namespace that the initial one is required", async () => {
    const code = `console.log(explainPermission(["CAP_BPF", "CAP_PERFMON"]))`;
    const { stdout } = await run(["unshare", "-r", process.execPath, ...print(code)]);
    expect(stdout).toStartWith(
      "This process is in a user namespace, as in a rootless container, but needs CAP_BPF and CAP_PERFMON in the initial user namespace: run it there",
    );
  });

  bpfTest("names other causes if no capability is missing", () => {
    if (!hasCapability("CAP_BPF")) return;
    expect(explainPermission(["CAP_BPF"])).toMatch(/has CAP_BPF, so something else/);
  });
});

test("ignoreErrors() passes on results and other errors", () => {
  const fail = () => {
    throw new BpfError({ errno: 2, syscall: "open", doing: "open a file" });
  };
  expect(ignoreErrors(["ENOENT"], () => 7)).toBe(7);
  expect(ignoreErrors(["EPERM", "ENOENT"], fail)).toBeUndefined();
  expect(() => ignoreErrors(["EPERM"], fail)).toThrow(BpfError);
  expect(() =>
    ignoreErrors(["ENOENT"], () => {
      throw new TypeError("ENOENT");
    }),
  ).toThrow(TypeError);
});
