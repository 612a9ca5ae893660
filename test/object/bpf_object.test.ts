import { describe, expect, test } from "bun:test";
import {
  ArrayMap,
  asm,
  BpfError,
  BpfObject,
  DisposedError,
  HashMap,
  type ObjectSpec,
  type ProgramSpec,
  t,
  VerifierError,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";

const { r0, r1, r2, r3, r4, r10 } = asm;
const packet = new Uint8Array(14);

/** A program that stores the packet's length in a map, and counts its runs in a global variable. */
const spec = {
  maps: {
    lengths: {
      type: "hash",
      keySize: 4,
      valueSize: 8,
      maxEntries: 16,
      flags: 0,
      name: "lengths",
      numaNode: -1,
      mapExtra: 0,
    },
  },
  variables: {
    ".data": { contents: new Uint8Array(16), places: { runs: { offset: 8, size: 8 } } },
    ".rodata": { contents: Uint8Array.of(7, 0, 0, 0), isReadOnly: true },
  },
  programs: {
    store: {
      section: "socket",
      name: "store",
      license: "GPL",
      code: [
        asm.ldxw(r2, r1, 0),
        asm.stxdw(r10, -16, r2),
        asm.ldMapValue(r1, ".rodata", 0),
        asm.ldxw(r2, r1, 0),
        asm.stxw(r10, -4, r2),
        asm.ldMap(r1, "lengths"),
        asm.mov(r2, r10),
        asm.add(r2, -4),
        asm.mov(r3, r10),
        asm.add(r3, -16),
        asm.mov(r4, 0),
        asm.call("map_update_elem"),
        asm.ldMapValue(r1, ".data", 8),
        asm.mov(r2, 1),
        asm.atomicAdd(r1, 0, r2),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    },
    seven: { section: "xdp", license: "GPL", code: [asm.mov(r0, 7), asm.exit()] },
  },
} as const satisfies ObjectSpec;

bpfTest("programs of a spec can have flags", () => {
  const code = [asm.ldMapValue(r1, ".data", 0), asm.ldxw(r0, r1, 1), asm.exit()];
  const unaligned = (flags: ProgramSpec["flags"]) => ({
    variables: { ".data": { contents: new Uint8Array(8) } },
    programs: {
      read: { section: "socket", license: "GPL", code, ...(flags && { flags }) } as const,
    },
  });
  using _object = BpfObject.load(unaligned(undefined));
  const spec = structuredClone(unaligned(["strict_alignment"]));
  expect(() => BpfObject.load(spec)).toThrow(VerifierError);
});

describe("BpfObject.load()", () => {
  test("takes a spec that is plain data", () => {
    const clone = structuredClone(spec);
    expect(clone).toEqual(spec);
  });

  bpfTest("loads maps, variables and programs, also from a cloned spec", () => {
    const before = countResources();
    {
      using object = BpfObject.load(structuredClone(spec) as ObjectSpec);
      expect([...object.maps.keys()]).toEqual(["lengths", ".data", ".rodata"]);
      expect([...object.programs.keys()]).toEqual(["store", "seven"]);
      const { store, seven } = Object.fromEntries(object.programs);
      expect(seven?.testRun({ data: packet }).returnValue).toBe(7);
      expect([seven?.section, store?.name, store?.type]).toEqual(["xdp", "store", "socket_filter"]);
      store?.testRun({ data: new Uint8Array(60), repeat: 3 });
      const fd = (name: string) => object.maps.get(name)?.fd ?? -1;
      using lengths = HashMap.fromFd(fd("lengths"), { key: t.u32, value: t.u64Number });
      // Socket filters see the packet after its Ethernet header.
      expect([...lengths]).toEqual([[7, 60 - 14]]);
      using data = ArrayMap.fromFd(fd(".data"), { value: t.array(t.u64Number, 2) });
      expect(data.get(0)).toEqual([0, 3]);
      const { name, type, maxEntries } = object.maps.get("lengths")?.info() ?? {};
      expect({ name, type, maxEntries }).toEqual({ name: "lengths", type: "hash", maxEntries: 16 });
    }
    expect(countResources()).toEqual(before);
  });

  bpfTest("freezes read-only variables", () => {
    using object = BpfObject.load({ variables: spec.variables });
    using constants = ArrayMap.fromFd(object.maps.get(".rodata")?.fd ?? -1, { value: t.u32 });
    expect(constants.get(0)).toBe(7);
    expect(() => constants.set(0, 8)).toThrow(BpfError);
    expect(constants.get(0)).toBe(7);
  });

  bpfTest("leaves nothing open if a part fails", () => {
    const bad = { section: "socket", license: "GPL", code: [asm.exit()] };
    const before = countResources();
    for (const [broken, error] of [
      [{ ...spec, programs: { ...spec.programs, bad } }, VerifierError],
      [{ ...spec, programs: { bad: { ...bad, section: "sockets" } } }, TypeError],
      [{ ...spec, variables: { ".bss": { contents: new Uint8Array(0) } } }, TypeError],
      [{ ...spec, variables: { lengths: { contents: new Uint8Array(1) } } }, TypeError],
      [{ ...spec, maps: { ...spec.maps, bad: { ...spec.maps.lengths, keySize: 0 } } }, BpfError],
    ] as const) {
      expect(() => BpfObject.load(broken as ObjectSpec)).toThrow(error);
    }
    expect(countResources()).toEqual(before);
  });

  bpfTest("rejects references to open maps and to missing maps", () => {
    using open = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    const program = (map: string | HashMap<typeof t.u32, typeof t.u32>): ObjectSpec => ({
      programs: {
        it: {
          section: "socket",
          license: "GPL",
          code: [[asm.ldMap(r1, map)], asm.mov(r0, 0), asm.exit()],
        },
      },
    });
    expect(() => BpfObject.load(program(open))).toThrow(
      "the code of a spec refers to maps by name",
    );
    expect(() => BpfObject.load(program("lengthz"))).toThrow('refers to a map "lengthz" that was');
  });

  test("rejects misspelt properties and options", () => {
    expect(() => BpfObject.load({ map: {} } as object)).toThrow('did you mean "maps"?');
    expect(() => BpfObject.load({}, { lag: "verbose" } as object)).toThrow('did you mean "log"?');
    const { lengths } = spec.maps;
    const program = { section: "socket", license: "GPL", code: [asm.mov(r0, 0), asm.exit()] };
    for (const [broken, message] of [
      [{ maps: { lengths: { ...lengths, flag: 1 } } }, 'maps: lengths: unknown option "flag"'],
      [{ maps: { lengths: undefined } }, "maps: lengths: expected an object, got undefined"],
      [{ maps: { lengths: { ...lengths, name: undefined } } }, "name: expected a string"],
      [{ programs: { it: { ...program, nmae: "it" } } }, 'did you mean "name"?'],
      [{ programs: { it: null } }, "programs: it: expected an object, got null"],
      [{ variables: { ".data": { contents: packet, readOnly: true } } }, "isReadOnly"],
    ] as const) {
      expect(() => BpfObject.load(broken as object)).toThrow(message);
    }
  });
});

bpfTest("a disposed object has closed its maps and programs", () => {
  const object = BpfObject.load(spec);
  const [map] = object.maps.values();
  const [program] = object.programs.values();
  object[Symbol.dispose]();
  object[Symbol.dispose]();
  expect(object.disposed).toBe(true);
  expect(() => map?.info()).toThrow(DisposedError);
  expect(() => program?.testRun({ data: packet })).toThrow(DisposedError);
});
