/** Tests of BTF by id, and of BTF with a base. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeBtf } from "../../src/btf/encode.ts";
import { nextObjectId, openById } from "../../src/ffi/bpf_object.ts";
import { readKernelBtf } from "../../src/btf/btf.ts";
import { readBtfObject } from "../../src/ffi/bpf_btf.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { BpfError, Btf, HashMap, t } from "../../src/index.ts";
import { bpftoolJson, bpftoolTest } from "../support/bpftool.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { testUnless } from "../support/skipping.ts";
import { kernelTypesObstacle } from "./kernel_types.ts";
import { RawTypes } from "./raw_types.ts";

describe("the BTF of a map", () => {
  const value = t.struct({ pid: t.u32, comm: t.cstring(16), lock: t.spinLock, bytes: t.u64 });

  bpfTest("has the types of the map, and decodes its values", () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 4 });
    map.set(7, { pid: 12, comm: "bash", bytes: 2n ** 40n });
    const { btfId, btfKeyTypeId, btfValueTypeId } = map.info();
    const btf = Btf.fromId(btfId);
    const { bytes, valueTypeId } = encodeBtf({ key: t.u32, value });
    expect(btf.length).toBe(Btf.parse(bytes).length);
    expect(btfValueTypeId).toBe(valueTypeId);
    expect(btf.sizeOf(btfKeyTypeId)).toBe(4);
    const stored = new Uint8Array(value.size);
    value.write(new DataView(stored.buffer), 0, { pid: 12, comm: "bash", bytes: 2n ** 40n });
    expect(btf.decode(btfValueTypeId, stored)).toMatchObject({
      pid: 12,
      comm: "bash",
      lock: { val: 0 },
      bytes: 2n ** 40n,
    });
  });

  bpfTest("is freed with the map, and no descriptor stays open", async () => {
    const before = countResources();
    let id: number;
    {
      using map = new HashMap({ key: t.u32, value, maxEntries: 4 });
      id = map.info().btfId;
      Btf.fromId(id);
    }
    expect(countResources()).toEqual(before);
    // The kernel frees a map some time after its last descriptor was closed.
    for (let round = 0; round < 500 && isThere(id); round++) await Bun.sleep(10);
    expect(() => Btf.fromId(id)).toThrow(BpfError);
    expect(() => Btf.fromId(id)).toThrow(`cannot open the btf with id ${id}`);
  });
});

function isThere(id: number): boolean {
  try {
    Btf.fromId(id);
    return true;
  } catch {
    return false;
  }
}

test("an invalid id is rejected before the system call", () => {
  for (const id of [0, -1, 0.5, 2 ** 32, "1"] as number[]) {
    expect(() => Btf.fromId(id)).toThrow(RangeError);
  }
});

const folder = "/sys/kernel/btf";

bpfTest("the kernel's own BTF is recognized by its name, on kernels that report names", () => {
  const names = new Map<string, number>();
  for (let id = nextObjectId("btf", 0); id !== undefined; id = nextObjectId("btf", id)) {
    using descriptor = new Descriptor(openById("btf", id), `BTF ${id}`);
    const { name, isKernel, bytes } = readBtfObject(descriptor.fd, descriptor.what);
    if (isKernel) names.set(name, id);
    if (name === "vmlinux") expect(bytes).toEqual(new Uint8Array(readKernelBtf()));
  }
  const own = names.get("vmlinux");
  if (own === undefined) return;
  expect(Btf.fromId(own).length).toBe(Btf.kernel().length);
  expect(Btf.fromId(own)).toBe(Btf.kernel());
  // The BTF of modules, if there are any, has the kernel's as its base.
  for (const [name, id] of [...names].slice(0, 20)) {
    if (name === "vmlinux") continue;
    const btf = Btf.fromId(id);
    expect(btf.length).toBeGreaterThan(Btf.kernel().length);
    expect(btf.type(btf.length - 1).kind).not.toBe("void");
  }
});

const modules =
  kernelTypesObstacle === undefined ? readdirSync(folder).filter((name) => name !== "vmlinux") : [];
const modulesObstacle = modules.length === 0 ? "there are no modules with BTF" : undefined;
testUnless(kernelTypesObstacle ?? modulesObstacle)("modules' types come after the kernel's", () => {
  for (const name of modules.slice(0, 5)) {
    const btf = Btf.parse(new Uint8Array(readKernelBtf(`${folder}/${name}`)), Btf.kernel());
    expect(btf.length).toBeGreaterThan(Btf.kernel().length);
    for (let id = Btf.kernel().length; id < btf.length; id++) btf.resolve(id);
  }
});

describe("types of BTF with a base", () => {
  const baseTypes = new RawTypes();
  const int = baseTypes.int("int", 4, 1);
  const point = baseTypes.struct("point", 8, [
    { name: "x", type: int, bit: 0 },
    { name: "y", type: int, bit: 32 },
  ]);
  const types = new RawTypes(baseTypes);
  const line = types.struct("line", 16, [
    { name: "from", type: point, bit: 0 },
    { name: "to", type: point, bit: 64 },
  ]);
  const mode = types.enum("mode", 4, { FAST: 1 });
  const base = Btf.parse(baseTypes.encode());
  const bytes = types.encode();

  test("refer to types and names of the base", () => {
    const btf = Btf.parse(bytes, base);
    expect([base.length, btf.length, line]).toEqual([3, 5, 3]);
    expect(btf.type(point)).toEqual(base.type(point));
    expect(btf.type(line)).toMatchObject({ id: 3, kind: "struct", name: "line", size: 16 });
    expect(btf.members(line).map(({ name }) => name)).toEqual(["from", "to"]);
    expect(btf.enumerators(mode)).toEqual([{ name: "FAST", value: 1 }]);
    expect(btf.field("line", "to.y")).toEqual({ offset: 12, size: 4, typeId: int });
    const value = Uint8Array.from({ length: 16 }, (_, index) => (index % 4 === 0 ? index : 0));
    expect(btf.decode(line, value)).toEqual({ from: { x: 0, y: 4 }, to: { x: 8, y: 12 } });
  });

  test("are found by kind and name, like those of the base", () => {
    const btf = Btf.parse(bytes, base);
    expect(btf.find("struct", "line")).toBe(line);
    expect(btf.find("enum", "mode")).toBe(mode);
    expect(btf.find("struct", "point")).toBe(point);
    expect(btf.find("struct", "mode")).toBeUndefined();
    expect(base.find("struct", "line")).toBeUndefined();
    // The first look-ups search all names, later ones use the index.
    for (let round = 0; round < 50; round++) {
      expect(btf.findAll("struct", "line")).toEqual([line]);
      expect(btf.findAll("struct", "point")).toEqual([point]);
    }
    expect([...btf.ids("struct")]).toEqual([point, line]);
    expect(() => btf.type(5)).toThrow("BTF type id: expected an integer from 1 to 4, got 5");
  });

  test("may have the same names as the base, from its strings or their own", () => {
    const more = new RawTypes(baseTypes);
    const own = more.struct("point", 4, [{ name: "z", type: int, bit: 0 }]);
    const sharedName = more.nameAt(1).typedef("", point);
    const btf = Btf.parse(more.encode(), base);
    expect(base.type(int).name).toBe("int");
    for (let round = 0; round < 50; round++) {
      expect(btf.findAll("struct", "point")).toEqual([point, own]);
      expect(() => btf.find("struct", "point")).toThrow("2 types of the kind struct");
      expect(btf.findAll("typedef", "int")).toEqual([sharedName]);
    }
    expect(base.find("struct", "point")).toBe(point);
  });

  test("cannot be read without the base", () => {
    expect(() => Btf.parse(bytes)).toThrow(RangeError);
  });

  test("may have an empty string section", () => {
    const bare = new RawTypes(baseTypes);
    const pointer = bare.ptr(point);
    const btf = Btf.parse(bare.encode(), base);
    expect(btf.type(pointer)).toMatchObject({ kind: "ptr", typeId: point, name: "" });
  });
});

bpftoolTest("bpftool reads the same types of BTF with a base", async () => {
  const baseTypes = new RawTypes();
  const int = baseTypes.int("int", 4, 1);
  const types = new RawTypes(baseTypes);
  types.typedef("number", int);
  types.struct("pair", 8, [
    { name: "a", type: int, bit: 0 },
    { name: "b", type: types.typedef("other", int), bit: 32 },
  ]);
  const path = mkdtempSync(join(tmpdir(), "btf-"));
  try {
    writeFileSync(join(path, "base"), baseTypes.encode());
    writeFileSync(join(path, "split"), types.encode());
    const printed = await bpftoolJson<{ types: { id: number; name: string }[] }>(
      ...["-B", join(path, "base")],
      ...["btf", "dump", "file", join(path, "split")],
    );
    const btf = Btf.parse(types.encode(), Btf.parse(baseTypes.encode()));
    expect(printed.types.map(({ id, name }) => [id, name])).toEqual(
      printed.types.map(({ id }) => [id, btf.type(id).name]),
    );
    expect(printed.types.at(-1)).toMatchObject({ id: btf.length - 1, name: "pair" });
  } finally {
    rmSync(path, { recursive: true });
  }
});
