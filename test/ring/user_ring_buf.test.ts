import { expect } from "bun:test";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { asm, Program, RingBuf, t, UserRingBuf } from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";

bpfTest("a user ring says what it is", () => {
  using ring = new UserRingBuf({ size: 8192, event: t.u64, name: "commands" });
  expect(ring).toMatchObject({
    size: 8192,
    maxEntries: 8192,
    keySize: 0,
    valueSize: 0,
    type: "user-ringbuf",
    name: "commands",
    types: { event: t.u64 },
  });
  expect(`${ring}`).toBe('user-ringbuf map "commands"');
  expect(ring.info().maxEntries).toBe(8192);
});

bpfTest("a user ring can be referred to by a program that drains it", () => {
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
  // Nothing has been put into it.
  expect(program.testRun().returnValue).toBe(0);
});

bpfTest("a user ring opened otherwise takes its size from the kernel", () => {
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
    expect([other.size, other.id]).toEqual([16384, ring.id]);
    expect(other.fd).not.toBe(ring.fd);
  }
  expect(() => RingBuf.fromFd(ring.fd, { event: t.u32 })).toThrow(
    "type is user-ringbuf, not ringbuf",
  );
  ring[Symbol.dispose]();
  expect(() => ring.fd).toThrow("user-ringbuf map");
});

bpfTest("a size that the kernel would refuse, and misspelt options, are refused before", () => {
  for (const size of [0, 1, 4095, 12288, 2 ** 32, Number.NaN, undefined as never]) {
    expect(() => new UserRingBuf({ size, event: t.u32 })).toThrow(RangeError);
  }
  // @ts-expect-error: misspelt on purpose
  expect(() => new UserRingBuf({ sise: 4096, event: t.u32 })).toThrow('did you mean "size"?');
  // @ts-expect-error: no type on purpose
  expect(() => new UserRingBuf({ size: 4096 })).toThrow("event: expected a type such as t.u32");
});

bpfTest("1,000 user rings leave nothing open", () => {
  const before = openKernelObjects();
  for (let round = 0; round < 1000; round++) {
    using ring = new UserRingBuf({ size: 4096, event: t.u32 });
    using _same = ring.dup();
  }
  expect(openKernelObjects()).toEqual(before);
});
