import { describe, expect } from "bun:test";
import { closeSync } from "node:fs";
import {
  asm,
  CpuMap,
  DevMap,
  DevMapHash,
  type DevMapValue,
  possibleCpus,
  Program,
} from "../../src/index.ts";
import { createFromSpec } from "../../src/maps/create.ts";
import { mapType, type MapTypeName } from "../../src/maps/map_types.ts";
import { bpfTest } from "../support/privilege.ts";
import { refusalOf } from "./refusal_of.ts";
import { cpuMapProgram, devMapProgram, programId } from "./special_program.ts";

const { r0, r1, r2, r3, call, exit, ldMap, mov } = asm;

const XDP_PASS = 2;
const XDP_REDIRECT = 4;
/** Index of `lo` in every network namespace. */
const loopback = 1;

/** Returns true if a program can redirect a packet by a key. */
function redirects(map: DevMap | DevMapHash | CpuMap, key: number): boolean {
  using program = new Program({
    section: "xdp",
    license: "GPL",
    maps: { map },
    code: [ldMap(r1, "map"), mov(r2, key), mov(r3, XDP_PASS), call("redirect_map"), exit()],
  });
  const { returnValue } = program.testRun({ data: new Uint8Array(64) });
  expect([XDP_PASS, XDP_REDIRECT]).toContain(returnValue);
  return returnValue === XDP_REDIRECT;
}

/** Opens a map with values of 4 bytes, which have no room for a program. */
function small<Map>(type: MapTypeName, open: (fd: number) => Map): Map {
  const sizes = { keySize: 4, valueSize: 4, maxEntries: 4 };
  const rest = { flags: 0, numaNode: -1, name: "small", mapExtra: 0 };
  const fd = createFromSpec(mapType(type), { type, ...sizes, ...rest });
  try {
    return open(fd);
  } finally {
    closeSync(fd);
  }
}

const interfaceMaps: readonly [name: string, make: () => DevMap | DevMapHash][] = [
  ["an array", () => new DevMap({ length: 4, name: "ports" })],
  ["a hash", () => new DevMapHash({ maxEntries: 4, name: "ports" })],
];

for (const [name, make] of interfaceMaps) {
  describe(`${name} of network interfaces`, () => {
    bpfTest("is used by programs that redirect packets", () => {
      using ports = make();
      expect(redirects(ports, 3)).toBe(false);
      expect(ports.set(3, loopback)).toBe(ports as never);
      expect(redirects(ports, 3)).toBe(true);
      expect(ports.get(3)).toEqual({ ifindex: loopback, programId: undefined });
      expect(ports.get(2)).toBeUndefined();
      expect([...ports.keys()]).toEqual([3]);
      expect(ports.delete(3)).toBe(true);
      expect(ports.delete(3)).toBe(false);
      expect(redirects(ports, 3)).toBe(false);
    });

    bpfTest("accepts names of interfaces, and programs", async () => {
      using ports = make();
      using program = devMapProgram();
      const id = await programId(program);
      ports
        .set(0, "lo")
        .set(1, { ifindex: "lo", program })
        .set(2, { ifindex: 1, program: undefined });
      expect(ports.getMany([0, 1, 2])).toEqual([
        { ifindex: loopback, programId: undefined },
        { ifindex: loopback, programId: id },
        { ifindex: loopback, programId: undefined },
      ]);
      ports.set(1, { ifindex: loopback });
      expect(ports.get(1)?.programId).toBeUndefined();
      ports.clear();
      expect(ports.count()).toBe(0);
    });

    bpfTest("rejects wrong interfaces and programs, with the cause", () => {
      using ports = make();
      using other = cpuMapProgram();
      using plain = new Program({
        section: "xdp",
        license: "GPL",
        code: [mov(r0, XDP_PASS), exit()],
      });
      const hint =
        /^This network namespace has no interface with that index .* \(section xdp\/devmap\)$/;
      expect(refusalOf(() => ports.set(0, 0x7fffffff)).hint).toMatch(hint);
      for (const program of [other, plain, ports, 999_999]) {
        const refusal = refusalOf(() => ports.set(0, { ifindex: 1, program }));
        expect([refusal.code, refusal.message]).toEqual([
          "EINVAL",
          expect.stringContaining('map "ports": bpf(BPF_MAP_UPDATE_ELEM): EINVAL'),
        ]);
        expect(refusal.hint).toMatch(hint);
      }
      const unknown = refusalOf(() => ports.set(0, "no such port"));
      expect([unknown.code, unknown.syscall]).toEqual(["ENODEV", "if_nametoindex"]);
      expect(unknown.hint).toContain("known names: ");
      const bad: readonly [value: unknown, error: ErrorConstructor, says: RegExp][] = [
        [0, RangeError, /ifindex: expected an integer from 1 to 2147483647, got 0/],
        [-1, RangeError, /ifindex: /],
        [1.5, RangeError, /ifindex: /],
        ["", TypeError, /ifindex: expected the name of a network interface/],
        ["lo\0", TypeError, /ifindex: expected the name/],
        [1n, TypeError, /ifindex: expected the index or the name .* got 1n/],
        [null, TypeError, /interface: expected an object, got null/],
        [{}, TypeError, /ifindex: expected the index or the name .* got undefined/],
        [{ ifindex: 1, progam: 5 }, TypeError, /unknown option "progam": did you mean "program"\?/],
        [{ ifindex: 1, program: 0 }, RangeError, /program: .* a descriptor from 1 to .* got 0/],
        [{ ifindex: 1, program: "p" }, TypeError, /program: expected a program: .* got "p"/],
        [{ ifindex: 1, program: {} }, TypeError, /program: expected a program: .* got an object/],
      ];
      for (const [value, error, says] of bad) {
        expect(() => ports.set(0, value as DevMapValue)).toThrow(error);
        expect(() => ports.set(0, value as DevMapValue)).toThrow(says);
      }
      expect(ports.count()).toBe(0);
    });
  });
}

describe("an array of network interfaces", () => {
  bpfTest("rejects programs if its values have 4 bytes", () => {
    using ports = small("devmap", (fd) => DevMap.fromFd(fd));
    using program = devMapProgram();
    ports.set(1, { ifindex: loopback });
    expect([...ports]).toEqual([[1, { ifindex: loopback, programId: undefined }]]);
    expect(() => ports.set(1, { ifindex: 1, program })).toThrow(
      'value of devmap map "small": program: expected none, because the values of this map have no room for one (4 bytes, not 8), got an object (Descriptor)',
    );
  });

  bpfTest("rejects indexes outside the array", () => {
    using ports = new DevMap({ length: 2 });
    expect(() => ports.set(2, loopback)).toThrow(RangeError);
    expect(() => ports.delete(2)).toThrow(RangeError);
    expect(() => ports.delete(-1)).toThrow(RangeError);
    expect(ports.get(2)).toBeUndefined();
    expect(ports.has(2)).toBe(false);
  });
});

describe("a hash of network interfaces", () => {
  bpfTest("takes entries with any key", () => {
    using ports = new DevMapHash({ maxEntries: 500 });
    const entry = { ifindex: loopback, programId: undefined };
    ports.setMany([...Array(300).keys()].map((key) => [0xffffffff - key, loopback]));
    expect(ports.take(0xffffffff)).toEqual(entry);
    expect(ports.take(0xffffffff)).toBeUndefined();
    expect(ports.deleteMany([0xffffffff, 0xfffffffe])).toBe(1);
    expect(ports.replace(5, loopback)).toBe(false);
    expect(ports.has(5)).toBe(false);
    expect(ports.add(5, loopback)).toBe(true);
    expect(ports.add(5, loopback)).toBe(false);
    expect(ports.replace(5, loopback)).toBe(true);
    expect(redirects(ports, 5)).toBe(true);
    const taken = [...ports.takeAll()];
    expect(new Set(taken.map(([key]) => key)).size).toBe(299);
    expect(taken).toHaveLength(299);
    expect(taken[0]?.[1]).toEqual(entry);
    expect(ports.count()).toBe(0);
  });

  bpfTest("rejects programs if its values have 4 bytes", () => {
    using ports = small("devmap_hash", (fd) => DevMapHash.fromFd(fd));
    using program = devMapProgram();
    ports.set(1, "lo");
    expect(ports.get(1)).toEqual({ ifindex: loopback, programId: undefined });
    expect(() => ports.set(1, { ifindex: 1, program })).toThrow(TypeError);
  });
});

describe("a map of CPUs", () => {
  const [cpu = 0] = possibleCpus();

  bpfTest("is used by programs that redirect packets", async () => {
    using cpus = new CpuMap();
    expect(cpus.length).toBe(Math.max(...possibleCpus()) + 1);
    using program = cpuMapProgram();
    const id = await programId(program);
    expect(redirects(cpus, cpu)).toBe(false);
    expect(cpus.set(cpu, { queueSize: 64 })).toBe(cpus);
    expect(redirects(cpus, cpu)).toBe(true);
    expect(cpus.get(cpu)).toEqual({ queueSize: 64, programId: undefined });
    cpus.set(cpu, { queueSize: 16384, program });
    expect([...cpus]).toEqual([[cpu, { queueSize: 16384, programId: id }]]);
    expect(cpus.delete(cpu)).toBe(true);
    expect(cpus.delete(cpu)).toBe(false);
    expect(redirects(cpus, cpu)).toBe(false);
  });

  bpfTest("rejects wrong CPUs, queues and programs, with the cause", () => {
    const impossible = Math.max(...possibleCpus()) + 1;
    using cpus = new CpuMap({ length: impossible + 1, name: "cpus" });
    using other = devMapProgram();
    const noCpu = refusalOf(() => cpus.set(impossible, { queueSize: 1 }));
    expect([noCpu.code, noCpu.hint]).toEqual(["ENODEV", expect.stringContaining("possibleCpus()")]);
    for (const program of [other, cpus]) {
      const refusal = refusalOf(() => cpus.set(cpu, { queueSize: 1, program }));
      expect(refusal.hint).toStartWith("The program is not an XDP program that was loaded for cpu");
    }
    const bad: readonly [value: unknown, error: ErrorConstructor, says: RegExp][] = [
      [{ queueSize: 0 }, RangeError, /queueSize: expected an integer from 1 to 16384, got 0/],
      [{ queueSize: 16385 }, RangeError, /queueSize: /],
      [{}, RangeError, /queueSize: expected an integer .* got undefined/],
      [64, TypeError, /queue: expected an object, got 64/],
      [{ queueSize: 1, qsize: 1 }, TypeError, /unknown option "qsize"/],
      [{ queueSize: 1, program: 0 }, RangeError, /program: .* a descriptor from 1 to/],
    ];
    for (const [value, error, says] of bad) {
      expect(() => cpus.set(cpu, value as { queueSize: number })).toThrow(error);
      expect(() => cpus.set(cpu, value as { queueSize: number })).toThrow(says);
    }
    expect(() => cpus.set(impossible + 1, { queueSize: 1 })).toThrow(RangeError);
    expect(cpus.count()).toBe(0);
  });

  bpfTest("rejects programs if its values have 4 bytes", () => {
    using cpus = small("cpumap", (fd) => CpuMap.fromFd(fd));
    using program = cpuMapProgram();
    cpus.set(cpu, { queueSize: 8 });
    expect(cpus.get(cpu)).toEqual({ queueSize: 8, programId: undefined });
    expect(() => cpus.set(cpu, { queueSize: 8, program })).toThrow(TypeError);
  });
});
