/** Types and getters of values are the user's code, which may use or dispose of the map during a call. */
import { describe, expect } from "bun:test";
import { DisposedError, HashMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

/** Called once, by the next decoding or encoding of a {@link Hooked} value. */
let hook: (() => void) | undefined;

function runHook(): void {
  const once = hook;
  hook = undefined;
  once?.();
}

const Hooked = t.custom<number>({
  size: 4,
  align: 4,
  read: (view, offset) => {
    runHook();
    return view.getUint32(offset, true);
  },
  write: (view, offset, value) => {
    runHook();
    view.setUint32(offset, value, true);
  },
});

function hookedMap(name: string): HashMap<t.Type<number>, t.Type<number>> {
  return new HashMap({ key: t.u32, value: Hooked, maxEntries: 1000, name });
}

describe("a map that is used while it encodes or decodes a value", () => {
  bpfTest("stores under the right key", () => {
    using map = hookedMap("map");
    hook = () => map.set(99, 990).get(98);
    map.set(1, 5);
    expect([...map].sort()).toEqual([
      [1, 5],
      [99, 990],
    ]);
  });

  bpfTest("decodes the right value", () => {
    using map = hookedMap("map");
    map.set(1, 5).set(2, 6);
    hook = () => expect(map.get(2)).toBe(6);
    expect(map.get(1)).toBe(5);
    hook = () => expect(map.take(2)).toBe(6);
    expect(map.take(1)).toBe(5);
    expect(map.count()).toBe(0);
  });

  bpfTest("accesses no other map if it is disposed of meanwhile", () => {
    const map = hookedMap("victim");
    let other: HashMap<t.Type<number>, t.Type<number>> | undefined;
    hook = () => {
      map[Symbol.dispose]();
      other = hookedMap("other");
    };
    expect(() => map.set(7, 77)).toThrow(DisposedError);
    expect([...(other as HashMap<t.Type<number>, t.Type<number>>)]).toEqual([]);
    other?.[Symbol.dispose]();
  });

  bpfTest("stores only the given pairs", () => {
    using map = hookedMap("map");
    const pairs: [number, number][] = [
      [1, 10],
      [2, 20],
    ];
    hook = () => {
      for (let i = 0; i < 500; i++) pairs.push([1000 + i, 0]);
    };
    map.setMany(pairs);
    expect([...map.keys()].sort()).toEqual([1, 2]);
  });
});

describe("values that are not pairs", () => {
  bpfTest.each([[[5]], [[[1]]], [[[1, 2, 3]]], [[undefined]]])(
    "%j are rejected, and nothing is stored",
    (pairs) => {
      using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "map" });
      const wrong = [[7, 7], ...pairs] as unknown as [number, number][];
      expect(() => map.setMany(wrong)).toThrow(
        /^pair 1 for hash map "map": expected \[key, value\], got /,
      );
      expect(map.count()).toBe(0);
    },
  );
});
