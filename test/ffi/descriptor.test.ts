import { describe, expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { Descriptor, duplicate } from "../../src/ffi/descriptor.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  ArrayMap,
  asm,
  BpfError,
  DisposedError,
  HashMap,
  Program,
  RingBuf,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

/** O_CLOEXEC, as /proc/self/fdinfo shows it in octal. */
const closeOnExec = 0o2000000;

function flagsOf(fd: number): number {
  return Number.parseInt(
    /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "",
    8,
  );
}

describe("a descriptor", () => {
  test("is closed by disposal, and only once", () => {
    const descriptor = new Descriptor(openSync("/dev/null", "r"), "null device");
    const { fd } = descriptor;
    expect([readlinkSync(`/proc/self/fd/${fd}`), descriptor.disposed]).toEqual([
      "/dev/null",
      false,
    ]);
    descriptor[Symbol.dispose]();
    expect(descriptor.disposed).toBe(true);
    const next = openSync("/dev/zero", "r");
    expect(next).toBe(fd);
    descriptor[Symbol.dispose]();
    expect(readlinkSync(`/proc/self/fd/${next}`)).toBe("/dev/zero");
    closeSync(next);
    expect(() => descriptor.fd).toThrow(new DisposedError("null device"));
    expect(descriptor.refusal().message).toBe(
      "null device is disposed: it cannot be used any more",
    );
  });

  test("is not closed by disposal after release", () => {
    const descriptor = new Descriptor(openSync("/dev/null", "r"), "null device");
    const fd = descriptor.release();
    expect(() => descriptor.release()).toThrow(DisposedError);
    descriptor[Symbol.dispose]();
    closeSync(fd);
  });

  test("throws at disposal if its number was closed elsewhere", () => {
    const fd = openSync("/dev/null", "r");
    const descriptor = new Descriptor(fd, "null device");
    closeSync(fd);
    expect(() => descriptor[Symbol.dispose]()).toThrow(
      /^cannot close the null device: close: EBADF/,
    );
    descriptor[Symbol.dispose]();
  });

  test("is duplicated to a number above 2 that is closed on exec", () => {
    const copy = duplicate(0, "standard input");
    expect(copy).toBeGreaterThan(2);
    expect(flagsOf(copy) & closeOnExec).toBe(closeOnExec);
    closeSync(copy);
    expect(() => duplicate(-1, "nothing")).toThrow(BpfError);
    expect(() => duplicate(-1, "nothing")).toThrow(/fcntl\(F_DUPFD_CLOEXEC\): EBADF/);
  });
});

describe("descriptors of the library", () => {
  bpfTest("are all closed on exec", () => {
    using hash = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    using array = new ArrayMap({ value: t.u32, length: 1 });
    using ring = new RingBuf({ size: 65_536, event: t.u32 });
    using dup = hash.dup();
    using byId = HashMap.fromId(hash.id, hash.types);
    using byFd = HashMap.fromFd(hash.fd, hash.types);
    using mount = new DetachedMount("bpf");
    const pin = `${mount.path}/map`;
    using pinned = new HashMap({ ...hash.types, maxEntries: 1, pin });
    using opened = HashMap.open(pin, hash.types);
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    for (const { fd } of [hash, array, ring, dup, byId, byFd, pinned, opened, program]) {
      expect(flagsOf(fd) & closeOnExec).toBe(closeOnExec);
    }
    expect(flagsOf(Number(mount.path.split("/").at(-1))) & closeOnExec).toBe(closeOnExec);
  });

  bpfTest("never have the number of a standard stream, even if one is closed", async () => {
    const child = await runBun(["test/ffi/children/no_standard_input.ts"]);
    expect(child.stderr).toBe("");
    const { bpf, works, program } = JSON.parse(child.stdout);
    expect(works).toBe(true);
    expect(bpf.length).toBeGreaterThanOrEqual(6);
    expect(Math.min(program, ...bpf)).toBeGreaterThan(2);
  });
});
