import { expect } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { asm, DisposedError, Program, RingBuf, t, UserRingBuf } from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { mapTest } from "../support/needs.ts";
import { countResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { Drainer } from "./drainer.ts";
import { repetitions } from "../support/effort.ts";

const userRingTest = mapTest("user_ringbuf");

const numbered = t.struct({ length: t.u32, value: t.u32 });

userRingTest("a user ring has the properties that it was created with", () => {
  using ring = new UserRingBuf({ size: 8192, event: t.u64, name: "commands" });
  expect(ring).toMatchObject({
    byteLength: 8192,
    maxEntries: 8192,
    keySize: 0,
    valueSize: 0,
    type: "user_ringbuf",
    name: "commands",
    types: { event: t.u64 },
  });
  expect(`${ring}`).toBe('user_ringbuf map "commands"');
  expect(ring.info().maxEntries).toBe(8192);
});

userRingTest("records have the size that the event type had when the user ring was created", () => {
  const event = { ...t.u32, kind: "changing", size: 4 };
  using ring = new UserRingBuf({ size: 4096, event });
  expect(ring.types.event).toBe(event);
  for (const later of [NaN, -8, 1.5, 5000, 2 ** 31]) {
    event.size = later;
    expect(ring.output(7)).toBe(true);
    using record = ring.reserve();
    expect(record?.length).toBe(4);
    record?.set(8);
  }
  expect(ring.stats).toMatchObject({ events: 5, discarded: 5, bytes: 160 });
  expect(() => new UserRingBuf({ size: 4096, event })).toThrow(/^event: size: expected an integer/);
});

userRingTest("a program that drains a user ring can refer to it by name", () => {
  using ring = new UserRingBuf({ size: 4096, event: t.u64 });
  const { r0, r1, r2, r3, r4, r10 } = asm;
  using program = new Program({
    section: "syscall",
    license: "GPL",
    maps: { ring },
    code: [
      asm.ldMap(r1, "ring"),
      asm.ldFunc(r2, "each"),
      asm.mov(r3, r10),
      asm.mov(r4, 0),
      asm.call("user_ringbuf_drain"),
      asm.exit(),
      asm.func("each"),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
  // The ring is empty.
  expect(program.testRun().returnValue).toBe(0);
});

userRingTest(
  "a user ring that is opened by path, id or descriptor gets its size from the kernel",
  () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/ring`;
    using ring = new UserRingBuf({ size: 16384, event: t.u32, pin });
    for (const open of [
      () => UserRingBuf.open(pin, { event: t.u32 }),
      () => UserRingBuf.fromId(ring.id, { event: t.u32 }),
      () => UserRingBuf.fromFd(ring.fd, { event: t.u32 }),
      () => ring.dup(),
    ]) {
      using other = open();
      expect([other.byteLength, other.id]).toEqual([16384, ring.id]);
      expect(other.fd).not.toBe(ring.fd);
    }
    expect(() => RingBuf.fromFd(ring.fd, { event: t.u32 })).toThrow(
      "type is user_ringbuf, not ringbuf",
    );
    ring[Symbol.dispose]();
    expect(() => ring.fd).toThrow("user_ringbuf map");
  },
);

userRingTest("an invalid size and misspelt options are rejected before the system call", () => {
  for (const size of [0, 1, 4095, 12288, 2 ** 32, Number.NaN, undefined as never]) {
    expect(() => new UserRingBuf({ size, event: t.u32 })).toThrow(RangeError);
  }
  // @ts-expect-error: misspelt on purpose
  expect(() => new UserRingBuf({ sise: 4096, event: t.u32 })).toThrow('did you mean "size"?');
  // @ts-expect-error: no type on purpose
  expect(() => new UserRingBuf({ size: 4096 })).toThrow("event: expected a type such as t.u32");
});

userRingTest("1,000 user rings leave no descriptor open", () => {
  const before = openKernelObjects();
  for (let round = 0; round < repetitions(1000); round++) {
    using ring = new UserRingBuf({ size: 4096, event: t.u32 });
    using _same = ring.dup();
  }
  expect(openKernelObjects()).toEqual(before);
});

userRingTest("every method except disposal throws DisposedError after disposal", () => {
  for (const isWrittenTo of [false, true]) {
    const ring = new UserRingBuf({ size: 4096, event: t.u32 });
    const record = isWrittenTo ? ring.reserve() : undefined;
    ring[Symbol.dispose]();
    ring[Symbol.dispose]();
    expect(ring.disposed).toBe(true);
    const uses: readonly (() => unknown)[] = [
      () => ring.fd,
      () => ring.backlog,
      () => ring.stats,
      () => ring.output(1),
      () => ring.reserve(),
      () => ring.writable(),
      () => ring.dup(),
    ];
    for (const use of uses) expect(use).toThrow(DisposedError);
    record?.[Symbol.dispose]();
    if (record === undefined) continue;
    expect(record.isOpen).toBe(false);
    for (const use of [() => record.submit(), () => record.view, () => record.set(1)]) {
      expect(use).toThrow(DisposedError);
    }
  }
});

userRingTest("disposal discards open records and unblocks the records after them", () => {
  const ring = new UserRingBuf({ size: 4096, event: numbered });
  using other = ring.dup();
  using drainer = new Drainer(other);
  ring.output({ length: 8, value: 1 });
  const records = [ring.reserve(), ring.reserve(100), ring.reserve()];
  const bytes = records.map((record) => record?.bytes);
  other.output({ length: 8, value: 2 });
  records[1]?.[Symbol.dispose]();
  expect(drainer.readNumbers()).toEqual([1]);
  ring[Symbol.dispose]();
  expect(bytes.map((each) => each?.length)).toEqual([0, 0, 0]);
  expect(drainer.readNumbers()).toEqual([2]);
  expect(other.backlog).toBe(0);
});

userRingTest(
  "submit and disposal throw while Bun reads the view of a record, and work afterwards",
  async () => {
    const length = 1 << 20;
    using ring = new UserRingBuf({ size: 2 * length, event: numbered });
    using drainer = new Drainer(ring);
    const small = ring.reserve();
    const record = ring.reserve(length);
    record?.view.setUint32(0, 8, true);
    const path = join(tmpdir(), `bun-bpf-user-ring-${process.pid}`);
    const writing = writeFile(path, record?.bytes as Uint8Array);
    const message = "an asynchronous operation uses its memory; await that first";
    expect(() => record?.submit()).toThrow(message);
    expect(() => record?.[Symbol.dispose]()).toThrow(message);
    expect(() => ring[Symbol.dispose]()).toThrow(message);
    expect([ring.disposed, record?.isOpen, small?.isOpen]).toEqual([false, true, true]);
    small?.set({ length: 8, value: 5 }).submit();
    await writing;
    await rm(path);
    record?.discard();
    expect(drainer.readNumbers()).toEqual([5]);
  },
);

/** Returns the number of epoll instances of this process, including that of Bun. */
function epollInstances(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventpoll]";
    } catch {
      // The descriptor of the directory listing itself is closed by now.
      return false;
    }
  }).length;
}

userRingTest("1,000 rings with a waiting call leave no descriptor open", async () => {
  const before = [countResources(), epollInstances()];
  for (let round = 0; round < repetitions(1000); round++) {
    using ring = new UserRingBuf({ size: 4096, event: t.u32 });
    using record = ring.reserve(4000);
    const waiting = ring.reserveWhenFree(100);
    void record?.bytes;
    ring[Symbol.dispose]();
    await expect(waiting).rejects.toThrow(DisposedError);
  }
  await Bun.sleep(20);
  expect([countResources(), epollInstances()]).toEqual(before);
});

userRingTest(
  "a view of a record that is kept cannot access other records or crash optimized code",
  async () => {
    const child = `${import.meta.dir}/children/user_ring_views.ts`;
    const ended = await runBun([child], { timeout: 30_000 });
    expect(ended).toMatchObject({ exitCode: 0, signalCode: null, stdout: "survived\n" });
  },
);
