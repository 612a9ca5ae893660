import { describe, expect } from "bun:test";
import { existsSync } from "node:fs";
import { pageSize } from "../../src/ffi/mapped_memory.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  Arena,
  ArrayMap,
  asm,
  BpfError,
  BpfFileSystem,
  type Code,
  Program,
  t,
} from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { withRandom } from "../types/random.ts";
import { repetitions } from "../support/effort.ts";
import { mapTest } from "../support/needs.ts";
import { endWorker } from "../support/end_worker.ts";

const arenaTest = mapTest("arena");

const { r0, r1, r2, r3, r4, r5, r6 } = asm;
const page = pageSize();
const index = JSON.stringify(new URL("../../src/index.ts", import.meta.url).pathname);

/** Loads a program that has a pointer into an arena in r6. */
function arenaProgram(arena: Arena, code: Code): Program {
  return new Program({
    section: "syscall",
    license: "GPL",
    maps: { arena },
    code: [asm.ldMap(r6, "arena"), code, asm.exit()],
  });
}

describe("an arena and programs", () => {
  arenaTest("share memory in both directions, and the same pointers", () => {
    using arena = new Arena({ pages: 4 });
    const { view, address } = arena;
    const [at, behind] = [page + 16, 3 * page + 8];
    view.setUint32(at, 41, true);
    view.setUint32(behind, 0, true);
    // The program reads through a pointer of user space, and stores a pointer that user space reads through.
    view.setBigUint64(0, BigInt(address + at), true);
    using program = arenaProgram(arena, [
      asm.lddw(r1, BigInt(address)),
      asm.addrSpaceCast(r1, r1, 0, 1),
      asm.ldxdw(r2, r1, 0),
      asm.addrSpaceCast(r2, r2, 0, 1),
      asm.ldxw(r0, r2, 0),
      asm.add(r0, 1),
      asm.lddw(r3, BigInt(address + behind)),
      asm.addrSpaceCast(r4, r3, 0, 1),
      asm.stxw(r4, 0, r0),
      asm.stxdw(r1, 8, r3),
    ]);
    expect(program.testRun().returnValue).toBe(42);
    const offset = Number(view.getBigUint64(8, true)) - address;
    expect(offset).toBe(behind);
    expect(view.getUint32(offset, true)).toBe(42);
  });

  arenaTest("share pages that a program allocates, and no others with segv_on_fault", () => {
    using arena = new Arena({ pages: 8, flags: ["segv_on_fault"] });
    using program = arenaProgram(arena, [
      asm.mov(r1, r6),
      asm.mov(r2, 0),
      asm.mov(r3, 2),
      asm.mov(r4, -1),
      asm.mov(r5, 0),
      asm.callKernelFunction("bpf_arena_alloc_pages"),
      asm.addrSpaceCast(r1, r0, 0, 1),
      asm.stdw(r1, 0, 77),
      asm.mov32(r0, r0),
    ]);
    const low = program.testRun().returnValue;
    const offset = low - (arena.address % 2 ** 32);
    expect(offset % page).toBe(0);
    expect(arena.view.getBigUint64(offset, true)).toBe(77n);
    expect(arena.view.getBigUint64(offset + page, true)).toBe(0n);
  });

  arenaTest("lose what a program stores to an unallocated page", () => {
    using arena = new Arena({ pages: 1 });
    using program = arenaProgram(arena, [
      asm.lddw(r1, BigInt(arena.address)),
      asm.addrSpaceCast(r1, r1, 0, 1),
      asm.stw(r1, 0, 7),
      asm.ldxw(r0, r1, 0),
    ]);
    expect([program.testRun().returnValue, arena.view.getUint32(0, true)]).toEqual([0, 0]);
    expect([program.testRun().returnValue, arena.view.getUint32(0, true)]).toEqual([7, 7]);
  });

  arenaTest("with segv_on_fault, end a process that touches an unallocated page", async () => {
    const script = `import { Arena } from ${index}; new Arena({ pages: 1, flags: ['segv_on_fault'] }).view.getUint8(0);`;
    const { exitCode, signalCode } = await runBun(["-e", script]);
    expect(signalCode ?? exitCode).not.toBe(0);
  });
});

describe("an arena", () => {
  arenaTest("reports its properties", () => {
    using arena = new Arena({ pages: 3, name: "shared" });
    expect(arena).toMatchObject({
      type: "arena",
      name: "shared",
      pages: 3,
      maxEntries: 3,
      size: 3 * page,
      keySize: 0,
      valueSize: 0,
      flags: 0x400,
    });
    expect(arena.view.byteLength).toBe(arena.size);
    expect(arena.view).toBe(arena.view);
    expect(arena.address % page).toBe(0);
  });

  arenaTest("keeps what is stored anywhere in it", () => {
    withRandom((random) => {
      const pages = 1 + random.below(64);
      using arena = new Arena({ pages });
      const model = new DataView(new ArrayBuffer(arena.size));
      for (let store = 0; store < 2000; store++) {
        const [offset, value] = [random.below(arena.size - 3), random.below(2 ** 32)];
        arena.view.setUint32(offset, value);
        model.setUint32(offset, value);
      }
      const bytes = new Uint8Array(arena.view.buffer);
      expect(Buffer.compare(bytes, new Uint8Array(model.buffer))).toBe(0);
    });
  });

  arenaTest("can have 4 GiB, of which only touched pages take memory", () => {
    using arena = new Arena({ pages: 2 ** 32 / page });
    expect(arena.view.byteLength).toBe(2 ** 32);
    arena.view.setUint8(2 ** 32 - 1, 9);
    expect(arena.view.getUint8(2 ** 32 - 1)).toBe(9);
    expect(arena.address % 2 ** 32).toBe(0);
  });

  arenaTest("is mapped at the requested address, a number or a bigint", () => {
    for (const address of [2 ** 43, 2n ** 43n]) {
      using arena = new Arena({ pages: 2, address });
      expect(arena.address).toBe(2 ** 43);
      expect(arena.info().mapExtra).toBe(2 ** 43);
    }
  });
});

describe("objects of one arena", () => {
  arenaTest("share its memory, and are disposed of independently", () => {
    const first = new Arena({ pages: 2 });
    using same = first.dup();
    using byId = Arena.fromId(first.id);
    using byFd = Arena.fromFd(first.fd, { address: first.address });
    const views = [first, same, byId, byFd].map(({ view }) => view);
    views[0]!.setUint32(page, 5, true);
    expect(views.map((view) => view.getUint32(page, true))).toEqual([5, 5, 5, 5]);
    const { address } = first;
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    expect(() => views[0]!.byteLength).toThrow(TypeError);
    expect(() => first.view).toThrow("is disposed");
    expect(() => first.address).toThrow("is disposed");
    expect([views[1]!.getUint32(page, true), same.address]).toEqual([5, address]);
  });

  arenaTest("see stored data after all other objects unmapped the memory", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/arena`;
    const options = { pages: 1, address: 2 ** 43 + 2 ** 33, pin };
    {
      using arena = new Arena(options);
      arena.view.setUint32(4, 6, true);
    }
    using opened = Arena.open(pin);
    expect([opened.address, opened.view.getUint32(4, true)]).toEqual([options.address, 6]);
    using again = new Arena(options);
    expect(again.id).toBe(opened.id);
    expect(() => Arena.open(pin, { address: 2 ** 43 })).toThrow(
      "does not fit: its address is 0x80200000000, not 0x80000000000",
    );
    expect(() => new Arena({ ...options, pages: 2 })).toThrow(": pages is 1, not 2");
  });

  arenaTest("need the option address after all objects with the mapping are disposed of", () => {
    using bpffs = new DetachedMount("bpf");
    const pin = `${bpffs.path}/arena`;
    let address = 0;
    {
      using arena = new Arena({ pages: 1, pin });
      ({ address } = arena);
      arena.view.setUint8(0, 8);
    }
    using lost = Arena.open(pin);
    for (const [arena, hint] of [
      [lost, "was mapped before, and every process must map it at the same address"],
      [Arena.open(pin, { address: address + page }), "was mapped at another address before"],
    ] as const) {
      using _arena = arena;
      expect(() => arena.view).toThrow(BpfError);
      expect(() => arena.view).toThrow(hint);
    }
    using found = Arena.open(pin, { address: BigInt(address) });
    expect(found.view.getUint8(0)).toBe(8);
  });

  arenaTest("remove a new pin if the memory cannot be mapped", () => {
    using fileSystem = new BpfFileSystem();
    const pin = `${fileSystem.path}/arena`;
    using arena = new Arena({ pages: 1 });
    expect(() => new Arena({ pages: 1, address: arena.address, pin })).toThrow(/EEXIST/);
    expect(existsSync(pin)).toBe(false);
  });

  arenaTest(
    "are rejected if the address is in use or another thread has mapped the arena",
    async () => {
      using arena = new Arena({ pages: 1 });
      const taken = () => new Arena({ pages: 1, address: arena.address });
      expect(taken).toThrow(expect.objectContaining({ code: "EEXIST", syscall: "mmap" }));
      expect(taken).toThrow("Other memory is mapped at this address");
      const script = `
      import { Arena } from ${index};
      try {
        using arena = Arena.fromId(${arena.id}, { address: ${arena.address} });
        postMessage("mapped " + arena.view.byteLength);
      } catch (error) { postMessage(String(error)); }`;
      const worker = new Worker(
        URL.createObjectURL(new Blob([script], { type: "text/javascript" })),
      );
      const { promise, resolve } = Promise.withResolvers<unknown>();
      worker.onmessage = ({ data }: { readonly data: unknown }) => resolve(data);
      expect(await promise).toContain("another thread of this process has mapped the arena");
      await endWorker(worker);
    },
  );

  arenaTest("map it at the same address in other processes", async () => {
    using arena = new Arena({ pages: 1, address: 2 ** 43 + 2 ** 34 });
    arena.view.setUint8(0, 1);
    const script = `
      import { Arena } from ${index};
      using arena = Arena.fromId(${arena.id});
      arena.view.setUint8(1, arena.view.getUint8(0) + 1);
      console.log(arena.address);`;
    const { stdout, stderr } = await runBun(["-e", script]);
    expect([stdout.trim(), stderr]).toEqual([`${2 ** 43 + 2 ** 34}`, ""]);
    expect(arena.view.getUint8(1)).toBe(2);
  });

  arenaTest("leave nothing mapped after 1,000 creations", () => {
    const before = openKernelObjects();
    for (let round = 0; round < repetitions(1000); round++) {
      using arena = new Arena({ pages: 1 + (round % 16) });
      using same = arena.dup();
      same.view.setUint8(round % arena.size, 1);
    }
    {
      using taken = new Arena({ pages: 1 });
      expect(() => new Arena({ pages: 1, address: taken.address })).toThrow("EEXIST");
    }
    expect(openKernelObjects()).toEqual(before);
  });
});

describe("options of an arena", () => {
  bpfTest("are checked before any system call", () => {
    const make = (options: object) => () => new Arena(options as never);
    for (const pages of [0, -1, 1.5, 2 ** 32 / page + 1, Number.NaN, "1", undefined]) {
      expect(make({ pages })).toThrow(RangeError);
      expect(make({ pages })).toThrow("pages: expected an integer from 1 to");
    }
    for (const address of [1, page + 1, -page, 2n ** 60n + 1n, Number.NaN, 2 ** 60]) {
      expect(make({ pages: 1, address })).toThrow(RangeError);
      expect(() => Arena.open("/sys/fs/bpf/none", { address })).toThrow(RangeError);
    }
    expect(make({ pages: 1, address: "4096" })).toThrow(TypeError);
    expect(make({ pages: 2, address: 2 ** 43 - page })).toThrow("cross a multiple of 4 GiB");
    expect(make({ pages: 1, numaNode: 0 })).toThrow("numaNode: Arena does not support it");
    expect(make({ pages: 1, value: t.u32 })).toThrow('unknown option "value"');
    expect(make({ pgaes: 1 })).toThrow('did you mean "pages"?');
  });

  bpfTest("do not open other map types as arenas", () => {
    using array = new ArrayMap({ value: t.u32, length: 1, mmap: true });
    expect(() => Arena.fromFd(array.fd)).toThrow("type is array, not arena");
  });
});

/** Never called: must not compile. */
export function typeErrors(arena: Arena): void {
  // @ts-expect-error: an arena has no elements
  arena.get(1);
  // @ts-expect-error: nor values of a type
  void new Arena({ pages: 1, value: t.u32 });
  // @ts-expect-error: the size comes from the kernel
  Arena.fromId(1, { pages: 1 });
}
