/** Behaviour that differs between the types of local storage, and access by programs. */
import { describe, expect } from "bun:test";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountCgroups } from "../../src/features/attach_probes.ts";
import { openPidfd } from "../../src/ffi/namespace.ts";
import {
  asm,
  BpfError,
  Btf,
  CgroupStorage,
  type Code,
  Program,
  SkStorage,
  t,
  TaskStorage,
} from "../../src/index.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { descriptorOf } from "./storage_owners.ts";
import { mapTest } from "../support/needs.ts";
import { skipping, testUnless } from "../support/skipping.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";

const taskTest = mapTest("task_storage");
const cgroupTest = mapTest("cgrp_storage");

const { r0, r1, r2, r3, r4 } = asm;

type Storage =
  TaskStorage<t.Type<bigint>> | SkStorage<t.Type<bigint>> | CgroupStorage<t.Type<bigint>>;

/** Attaches a program to a tracepoint that gets or creates the storage of the owner in r2, and adds 1 to it. */
function counting(
  tracepoint: string,
  storage: Storage,
  helper: "task_storage_get" | "sk_storage_get" | "cgrp_storage_get",
  owner: Code,
  create: boolean,
): Disposable {
  using program = new Program({
    section: `tp_btf/${tracepoint}`,
    license: "GPL",
    maps: { storage },
    code: [
      owner,
      asm.ldMap(r1, "storage"),
      asm.mov(r3, 0),
      asm.mov(r4, create ? 1 : 0),
      asm.call(helper),
      asm.jeq(r0, 0, "end"),
      asm.mov(r1, 1),
      asm.atomicAdd(r0, 0, r1),
      asm.label("end"),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
  // The link keeps the program loaded.
  return program.attach();
}

const currentTask: Code = [asm.call("get_current_task_btf"), asm.mov(r2, r0)];
/** Loads the first argument of the tracepoint. */
const firstArgument: Code = [asm.ldxdw(r2, r1, 0)];

/** Returns the id of a thread of this process that is not its first. */
function otherThread(): number {
  const ids = readdirSync("/proc/self/task").map(Number);
  return ids.find((id) => id !== process.pid)!;
}

describe("task storage", () => {
  taskTest("that user space created is changed by a program", () => {
    using storage = new TaskStorage({ value: t.u64 });
    storage.set(process.pid, 1000n);
    using _counting = counting("sys_enter", storage, "task_storage_get", currentTask, false);
    for (let call = 0; call < 500; call++) existsSync("/");
    expect(storage.get(process.pid)).toBeGreaterThanOrEqual(1500n);
    expect(storage.get(process.ppid)).toBeUndefined();
  });

  taskTest(
    "that a program created is read by user space, and is freed with its process",
    async () => {
      using storage = new TaskStorage({ value: t.u64 });
      using _counting = counting(
        "sched_process_exec",
        storage,
        "task_storage_get",
        currentTask,
        true,
      );
      const child = Bun.spawn(["sleep", "1000"], { stdout: "ignore" });
      using pidfd = openPidfd(child.pid);
      while (!storage.has(child.pid)) await Bun.sleep(1);
      expect(storage.get(pidfd)).toBe(1n);
      child.kill("SIGKILL");
      await child.exited;
      expect([storage.get(pidfd), storage.take(pidfd)]).toEqual([undefined, undefined]);
      expect([storage.delete(pidfd), storage.replace(pidfd, 1n)]).toEqual([false, false]);
      for (const store of [() => storage.set(pidfd, 1n), () => storage.add(pidfd, 1n)]) {
        expect(store).toThrow(BpfError);
        expect(store).toThrow(
          expect.objectContaining({ code: "ENOENT", hint: "The process has ended" }),
        );
      }
      for (const use of [() => storage.get(child.pid), () => storage.set(child.pid, 1n)]) {
        expect(use).toThrow(BpfError);
        expect(use).toThrow(
          expect.objectContaining({
            code: "ESRCH",
            syscall: "pidfd_open",
            hint: expect.stringContaining("it has ended"),
          }),
        );
      }
    },
  );

  (isKernelSince("6.9") ? taskTest : skipping("descriptors of threads came with kernel 6.9"))(
    "is separate for each thread",
    () => {
      using storage = new TaskStorage({ value: t.u32 });
      const thread = otherThread();
      storage.set(process.pid, 1).set(thread, 2);
      expect([storage.get(process.pid), storage.get(thread)]).toEqual([1, 2]);
    },
  );

  taskTest("treats a number as a process id, and an object as a pidfd", () => {
    using storage = new TaskStorage({ value: t.u32, name: "tasks" });
    expect(() => storage.get(0)).toThrow(
      'owner of a value of task_storage map "tasks": pid: expected an integer from 1 to',
    );
    const noPidfd = () => storage.get({ fd: storage.fd });
    expect(noPidfd).toThrow(
      'cannot look up a value in task_storage map "tasks": bpf(BPF_MAP_LOOKUP_ELEM): EBADF',
    );
    expect(noPidfd).toThrow("The descriptor is not that of a process");
  });

  taskTest("throws after disposal before the owner is opened", () => {
    const storage = new TaskStorage({ value: t.u32 });
    const owner = {
      get fd(): number {
        storage[Symbol.dispose]();
        return 1;
      },
    };
    expect(() => storage.get(owner)).toThrow("is disposed");
  });
});

describe("socket storage", () => {
  /** Returns the value of an accepted socket after one was stored for its listening socket. */
  async function acceptedValue(storage: SkStorage<t.Type<number>>): Promise<number | undefined> {
    const accepted = Promise.withResolvers<number | undefined>();
    const open = (socket: object): void =>
      accepted.resolve(storage.get({ fd: descriptorOf(socket) }));
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {}, open } });
    storage.set(descriptorOf(server), 77);
    const { hostname, port } = server;
    const client = await Bun.connect({ hostname, port, socket: { data() {} } });
    const value = await accepted.promise;
    client.end();
    server.stop(true);
    return value;
  }

  bpfTest("is copied to accepted sockets only with the flag clone", async () => {
    using cloned = new SkStorage({ value: t.u32, flags: ["clone"] });
    using own = new SkStorage({ value: t.u32 });
    expect(cloned.flags).toBe(0x201);
    expect([await acceptedValue(cloned), await acceptedValue(own)]).toEqual([77, undefined]);
  });

  bpfTest("rejects other descriptors and closed sockets", async () => {
    using storage = new SkStorage({ value: t.u32, name: "sockets" });
    const file = openSync("/dev/null", "r");
    expect(() => storage.set(file, 1)).toThrow(/ENOTSOCK.*does not refer to a socket/);
    closeSync(file);
    expect(() => storage.has(1_000_000)).toThrow(/EBADF.*does not refer to a socket/);
    const socket = await Bun.udpSocket({});
    socket.close();
    expect(() => storage.get({ fd: descriptorOf(socket) })).toThrow(RangeError);
  });

  const sending = "sock_send_length";
  const hasTracepoint = () => Btf.kernel().find("typedef", `btf_trace_${sending}`) !== undefined;
  const sendingObstacle =
    bpfObstacle ?? (hasTracepoint() ? undefined : `${sending} came with kernel 6.3`);
  testUnless(sendingObstacle)("is changed by a program", async () => {
    using storage = new SkStorage({ value: t.u64 });
    using _counting = counting(sending, storage, "sk_storage_get", firstArgument, false);
    const [from, other] = [await Bun.udpSocket({}), await Bun.udpSocket({})];
    storage.set(descriptorOf(from), 10n);
    for (let sent = 0; sent < 5; sent++) from.send("x", other.port, "127.0.0.1");
    other.send("x", from.port, "127.0.0.1");
    expect(storage.get(descriptorOf(from))).toBe(15n);
    expect(storage.has(descriptorOf(other))).toBe(false);
    from.close();
    other.close();
  });
});

describe("cgroup storage", () => {
  cgroupTest("that a program created for a new group is read by user space", () => {
    using mount = mountCgroups();
    using storage = new CgroupStorage({ value: t.u64 });
    using _counting = counting("cgroup_mkdir", storage, "cgrp_storage_get", firstArgument, true);
    const path = join(mount.path, `bun-bpf-${process.pid}-made`);
    mkdirSync(path);
    try {
      expect(storage.get(path)).toBe(1n);
      expect(storage.has(mount.path)).toBe(false);
    } finally {
      rmdirSync(path);
    }
    expect(() => storage.get(path)).toThrow(expect.objectContaining({ code: "ENOENT" }));
  });

  cgroupTest("rejects paths that are not groups", () => {
    using storage = new CgroupStorage({ value: t.u32 });
    expect(() => storage.get(tmpdir())).toThrow(/EBADF.*does not refer to a cgroup: /);
    expect(() => storage.get(import.meta.path)).toThrow(
      expect.objectContaining({ code: "ENOTDIR" }),
    );
  });
});
