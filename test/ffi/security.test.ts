import { describe, expect, test } from "bun:test";
import { hasCapability } from "../../src/ffi/capabilities.ts";
import {
  activeSecurityModules,
  bpfModuleObstacle,
  parseSecurityModules,
  securityModuleName,
} from "../../src/ffi/security.ts";
import { InodeStorage, t } from "../../src/index.ts";
import { failureOf } from "../support/commands.ts";
import { runBunWithout } from "../support/hidden_folder.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";

describe("names of security modules", () => {
  test("are those of the kernel's ids", () => {
    // LSM_ID_BPF is 109: 110 is Landlock's, which is active on most machines.
    expect([100, 101, 108, 109, 110, 113].map(securityModuleName)).toEqual([
      "capability",
      "selinux",
      "lockdown",
      "bpf",
      "landlock",
      "ipe",
    ]);
    expect([0, 1, 99, 114, 2 ** 53].map(securityModuleName)).toEqual([
      "#0",
      "#1",
      "#99",
      "#114",
      "#9007199254740992",
    ]);
  });

  test("are parsed from the text of securityfs", () => {
    expect(parseSecurityModules("capability,landlock,bpf\n")).toEqual([
      "capability",
      "landlock",
      "bpf",
    ]);
    expect(parseSecurityModules("capability")).toEqual(["capability"]);
    expect(parseSecurityModules("\n")).toEqual([]);
    expect(parseSecurityModules("")).toEqual([]);
  });
});

describe("inode storage", () => {
  test("is allowed only if bpf is among the active modules", () => {
    expect(bpfModuleObstacle({ names: ["capability", "bpf", "#114"] })).toBeUndefined();
    expect(bpfModuleObstacle({ names: ["capability", "landlock", "yama"] })).toBe(
      "bpf is not among the kernel's active security modules (capability,landlock,yama). Boot with lsm=landlock,yama,bpf, which needs a kernel with CONFIG_BPF_LSM",
    );
    expect(bpfModuleObstacle({ names: [] })).toContain("Boot with lsm=bpf,");
    expect(bpfModuleObstacle({ names: ["bpfilter"] })).toContain("bpf is not among");
  });

  test("has no lsm= line in its remedy if the name of a module is not known", () => {
    expect(bpfModuleObstacle({ names: ["capability", "#114"] })).toBe(
      "bpf is not among the kernel's active security modules (capability,#114). Boot with bpf added to the list of lsm=, which needs a kernel with CONFIG_BPF_LSM",
    );
  });

  test("is refused if the active modules are not known, with the remedy", () => {
    const obstacle = bpfModuleObstacle({ unknown: "no such file" });
    expect(obstacle).toContain("are not known");
    expect(obstacle).toContain("(no such file). Mount securityfs: mount -t securityfs securityfs ");
  });
});

const capabilities = { bpf: 1n << 39n, perfmon: 1n << 38n };

interface Child {
  /** The error of lsm_list_modules, as in a kernel or container without it. */
  readonly errno?: number;
  /** The error of fsopen. */
  readonly mountErrno?: number;
  /** The capabilities that the child keeps. By default it keeps all. */
  readonly keep?: bigint;
}

/** Returns code that forbids its process these system calls and drops capabilities. */
function restrictions({ errno, mountErrno, keep }: Child): string {
  return `
    import { dlopen, ptr } from "bun:ffi";
    import { SYS_fsopen, SYS_lsm_list_modules } from "./src/uapi/system.ts";
    const { capset, prctl } = dlopen("libc.so.6", {
      capset: { args: ["ptr", "ptr"], returns: "i32" },
      prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
    }).symbols;
    const refused = [
      [SYS_lsm_list_modules[process.arch], ${errno ?? 0}],
      [SYS_fsopen[process.arch], ${mountErrno ?? 0}],
    ].filter(([, errno]) => errno !== 0);
    if (refused.length > 0) {
      // struct sock_filter { u16 code; u8 jt, jf; u32 k }: loads the number, compares it, returns SECCOMP_RET_*.
      const filter = new Uint32Array([
        0x20, 0,
        ...refused.flatMap(([number, errno]) => [0x01000015, number, 0x06, 0x50000 | errno]),
        0x06, 0x7fff0000,
      ]);
      const program = new BigUint64Array([BigInt(filter.length / 2), BigInt(ptr(filter))]);
      const noNewPrivileges = prctl(38, 1, 0, 0, 0);
      if (noNewPrivileges !== 0 || prctl(22, 2, ptr(program), 0, 0) !== 0) throw new Error("prctl");
    }
    ${
      keep === undefined
        ? ""
        : `const low = ${Number(keep & 0xffffffffn)}, high = ${Number(keep >> 32n)};
    const sets = new Uint32Array([low, low, 0, high, high, 0]);
    if (capset(new Uint32Array([0x20080522, 0]), sets) !== 0) throw new Error("capset");`
    }
  `;
}

const printModules = `
  const { activeSecurityModules } = await import("./src/ffi/security.ts");
  console.log(JSON.stringify(activeSecurityModules()));
`;

/** Code that creates inode storage in every way, and prints the error of each, or "made". */
const printRefusals = `
  const { ArrayOfMaps, HashMap, HashOfMaps, InodeStorage, t } = await import("./src/index.ts");
  const value = t.u32;
  const inner = { type: "inode_storage", value };
  const attempt = (make) => {
    try {
      using _made = make();
      return "made";
    } catch (error) {
      return error.constructor.name + ": " + error.message;
    }
  };
  console.log(JSON.stringify([
    attempt(() => new InodeStorage({ value })),
    attempt(() => new ArrayOfMaps({ length: 1, inner })),
    attempt(() => new HashOfMaps({ key: t.u32, maxEntries: 1, inner })),
    attempt(() => new HashMap({ key: t.u32, value, maxEntries: 1 })),
    attempt(() => new InodeStorage({ value, flags: -1 })),
  ]));
`;

/** Runs a child in a mount namespace without securityfs. */
async function inChild(child: Child, code: string): Promise<unknown> {
  const script = restrictions(child) + code;
  const { stdout, stderr } = await runBunWithout("/sys/kernel/security", ["-e", script]);
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

const ENOSYS = 38;
const EPERM = 1;
const ENODEV = 19;
const EMFILE = 24;

const obstacle =
  (hasCapability("CAP_SYS_ADMIN") ? undefined : "this process lacks CAP_SYS_ADMIN") ??
  failureOf("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/sys/kernel/security") ??
  bpfObstacle;
const rootTest = testUnless(obstacle);

/** Expects the modules that this process finds. */
function expectSameModules(answer: unknown): void {
  expect(answer).toEqual(activeSecurityModules());
  expect(answer).toHaveProperty("names");
}

describe("the active security modules", () => {
  rootTest("are the same from the system call and from securityfs", async () => {
    expectSameModules(await inChild({}, printModules));
    expectSameModules(await inChild({ errno: ENOSYS }, printModules));
    expectSameModules(await inChild({ errno: EPERM }, printModules));
  });

  rootTest("are known without privileges where the kernel has the system call", async () => {
    const answer = await inChild({ keep: 0n }, printModules);
    // Kernels before 6.8 do not have it.
    if (JSON.stringify(answer).includes("lsm_list_modules: ENOSYS")) return;
    expectSameModules(answer);
  });

  const restricted = capabilities.bpf | capabilities.perfmon;
  for (const { why, child, reasons } of [
    {
      why: "if securityfs may not be mounted",
      child: { errno: ENOSYS, keep: restricted },
      reasons: ["lsm_list_modules: ENOSYS", "ENOENT", "fsopen: EPERM", "lacks CAP_SYS_ADMIN"],
    },
    {
      why: "if a filter forbids the call and securityfs may not be mounted",
      child: { errno: EPERM, keep: restricted },
      reasons: ["lsm_list_modules: EPERM", "ENOENT", "fsopen: EPERM"],
    },
    {
      why: "in a kernel without securityfs",
      child: { errno: ENOSYS, mountErrno: ENODEV },
      reasons: ["fsopen: ENODEV", "built without securityfs"],
    },
    {
      why: "in a kernel without private mounts",
      child: { errno: ENOSYS, mountErrno: ENOSYS },
      reasons: ["fsopen: ENOSYS", "needs Linux 5.2"],
    },
  ]) {
    rootTest(`are not known, and inode storage is refused, ${why}`, async () => {
      const [storage, array, hash, other, misspelt] = (await inChild(
        child,
        printRefusals,
      )) as string[];
      expect(storage).toStartWith(
        "Error: cannot use inode storage: the kernel's active security modules are not known",
      );
      for (const reason of reasons) expect(storage).toContain(reason);
      expect(storage).toEndWith("mount -t securityfs securityfs /sys/kernel/security");
      expect(storage).not.toContain("\n");
      expect([array, hash]).toEqual([storage, storage]);
      expect(other).toBe("made");
      expect(misspelt).toStartWith("RangeError: ");
    });
  }

  testUnless(obstacle ?? bpfModuleObstacle(activeSecurityModules()))(
    "are checked when inode storage is opened, and its descriptor is closed if they are not known",
    async () => {
      using storage = new InodeStorage({ value: t.u32 });
      const open = `
        const { readdirSync } = await import("node:fs");
        const { InodeStorage, t } = await import("./src/index.ts");
        const countDescriptors = () => readdirSync("/proc/self/fd").length;
        const before = countDescriptors();
        let message = "opened";
        try {
          InodeStorage.fromId(${storage.id}, { value: t.u32 });
        } catch (error) {
          message = error.message;
        }
        console.log(JSON.stringify([message, countDescriptors() - before]));
      `;
      const refused = await inChild({ errno: ENOSYS, mountErrno: ENODEV }, open);
      expect(refused).toEqual([expect.stringContaining("are not known"), 0]);
      expect(await inChild({}, open)).toEqual(["opened", 1]);
    },
  );

  rootTest("are not treated as unknown after an unexpected error, which is thrown", async () => {
    for (const child of [{ errno: EMFILE }, { errno: ENOSYS, mountErrno: EMFILE }]) {
      const [storage, array] = (await inChild(child, printRefusals)) as string[];
      expect(storage).toStartWith("BpfError: cannot ");
      expect(storage).toContain("EMFILE");
      expect(array).toBe(storage!);
    }
  });
});
