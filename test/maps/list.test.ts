import { describe, expect } from "bun:test";
import { ArrayMap, BpfFileSystem, DisposedError, HashMap, listMaps, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";

describe("listMaps", () => {
  bpfTest("returns each live map once, in the order of ids", () => {
    using first = new HashMap({ key: t.u32, value: t.u64, maxEntries: 3, name: "listed" });
    const second = new ArrayMap({ value: t.u32, length: 2 });
    const list = [...listMaps()];
    const ids = list.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
    expect(list.find(({ id }) => id === first.id)).toEqual(first.info());
    expect(ids).toContain(second.id);
    second[Symbol.dispose]();
    expect([...listMaps()].some(({ id }) => id === second.id)).toBe(false);
  });

  bpfTest("continues if maps are freed meanwhile, and leaves none open", () => {
    const before = countResources();
    const maps = Array.from({ length: 50 }, () => new ArrayMap({ value: t.u32, length: 1 }));
    const ids = maps.map(({ id }) => id);
    const seen = new Set<number>();
    for (const { id } of listMaps()) {
      seen.add(id);
      // The next map is freed before the list reaches it.
      maps[ids.indexOf(id) + 1]?.[Symbol.dispose]();
    }
    expect(ids.filter((id) => seen.has(id)).length).toBeGreaterThan(0);
    for (const map of maps) map[Symbol.dispose]();
    for (const _info of listMaps()) break;
    expect(countResources()).toEqual(before);
  });
});

describe("a private BPF file system", () => {
  bpfTest("keeps pinned objects until its disposal", async () => {
    const bpffs = new BpfFileSystem();
    const path = `${bpffs.path}/kept`;
    let id: number;
    {
      using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, pin: path });
      ({ id } = map.set(1, 2));
    }
    using again = HashMap.open(path, { key: t.u32, value: t.u32 });
    expect([again.id, again.get(1)]).toEqual([id, 2]);
    again[Symbol.dispose]();
    bpffs[Symbol.dispose]();
    bpffs[Symbol.dispose]();
    expect(() => bpffs.path).toThrow(DisposedError);
    // Some kernels free the map a moment later.
    const isListed = () => [...listMaps()].some((map) => map.id === id);
    for (let attempts = 0; attempts < 200 && isListed(); attempts++) await Bun.sleep(10);
    expect(isListed()).toBe(false);
  });

  bpfTest("is a new one each time", () => {
    using one = new BpfFileSystem();
    using two = new BpfFileSystem();
    using map = new ArrayMap({ value: t.u32, length: 1 });
    map.pin(`${one.path}/same`);
    expect(() => ArrayMap.open(`${two.path}/same`, map.types)).toThrow(/Nothing is pinned/);
  });
});
