/** @module Counts the runs of programs that are attached to functions, and calls functions of libc and of the kernel. */
import { dlopen, type Pointer } from "bun:ffi";
import { readFileSync } from "node:fs";
import { ArrayMap, asm, Program, type SectionName, t } from "../../src/index.ts";

const { r0, r1, r2, r6, r7, r10 } = asm;

/** The runs of programs in this process. */
export class Hits implements Disposable {
  /** The number of runs, the last cookie, and the sum of all cookies. */
  readonly map: ArrayMap<t.Type<number>> = new ArrayMap({ value: t.u64Number, length: 3 });

  /** Loads a program that counts its runs in this process. */
  program<const S extends SectionName>(section: S, withCookie = false): Program<S> {
    const at = (index: number) => [
      asm.stw(r10, -4, index),
      asm.ldMap(r1, "hits"),
      asm.mov(r2, r10),
      asm.add(r2, -4),
      asm.call("map_lookup_elem"),
      asm.jeq(r0, 0, "out"),
    ];
    const storeCookie = [
      asm.mov(r1, r6),
      asm.call("get_attach_cookie"),
      asm.mov(r7, r0),
      ...at(1),
      asm.stxdw(r0, 0, r7),
      ...at(2),
      asm.atomicAdd(r0, 0, r7),
    ];
    return new Program({
      section,
      license: "GPL",
      name: "hit_counter",
      maps: { hits: this.map },
      code: [
        asm.mov(r6, r1),
        asm.call("get_current_pid_tgid"),
        asm.rsh(r0, 32),
        asm.jne(r0, process.pid, "out"),
        ...(withCookie ? storeCookie : []),
        ...at(0),
        asm.mov(r1, 1),
        asm.atomicAdd(r0, 0, r1),
        asm.label("out"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
  }

  /** Returns the number of runs since the last call. */
  take(): number {
    const count = this.map.get(0) ?? 0;
    this.map.set(0, 0);
    return count;
  }

  /** Returns the cookie of the last run. */
  get cookie(): number | undefined {
    return this.map.get(1);
  }

  [Symbol.dispose](): void {
    this.map[Symbol.dispose]();
  }
}

const libc = dlopen("libc.so.6", {
  dlsym: { args: ["ptr", "ptr"], returns: "ptr" },
  toascii: { args: ["i32"], returns: "i32" },
  labs: { args: ["i64"], returns: "i64" },
  getpgid: { args: ["i32"], returns: "i32" },
  getsid: { args: ["i32"], returns: "i32" },
}).symbols;

/** Functions of libc that other code hardly ever calls. */
export const calls = {
  toascii: (): void => void libc.toascii(65),
  labs: (): void => void libc.labs(-1),
} as const;

/** Calls the system call getpgid of the kernel. */
export function callGetpgid(): void {
  libc.getpgid(0);
}

/** Calls the system call getsid of the kernel. */
export function callGetsid(): void {
  libc.getsid(0);
}

/** Returns the name of the function that implements a system call of the kernel. */
export function syscallFunction(name: string): string {
  return `__${process.arch}_sys_${name}`;
}

/** Returns the place of a function of libc: the file and the offset in it. */
export function libcPlace(name: keyof typeof calls): {
  readonly path: string;
  readonly offset: number;
} {
  const text = Buffer.from(`${name}\0`);
  const defaultHandle = null as unknown as Pointer;
  const address = Number(libc.dlsym(defaultHandle, text));
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const [, start, end, offset, path] =
      /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+ +(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const first = Number.parseInt(start!, 16);
    if (address < first || address >= Number.parseInt(end!, 16)) continue;
    return { path, offset: address - first + Number.parseInt(offset!, 16) };
  }
  throw new Error(`${name} is not in a mapped file`);
}
