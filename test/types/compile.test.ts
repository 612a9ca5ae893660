import { describe, expect, test } from "bun:test";
import { recipeOf } from "../../src/types/compile.ts";
import * as t from "../../src/types/t.ts";
import { Random, seed, withRandom } from "./random.ts";
import { randomType } from "./random_type.ts";

describe("a type's methods", () => {
  const make = () => t.struct({ pid: t.u32, ports: t.array(t.be16, 2) });
  const value = { pid: 7, ports: [1, 65535] };

  test("are replaced by compiled functions on the first call", () => {
    const type = make();
    const view = new DataView(new ArrayBuffer(type.size));
    const { read, write } = type;
    type.write(view, 0, value);
    expect(type.write).not.toBe(write);
    expect(type.read).toBe(read);
    type.read(view, 0);
    expect(type.read).not.toBe(read);
    const compiled = type.read;
    type.read(view, 0);
    expect(type.read).toBe(compiled);
  });

  test("have as many parameters as callers pass arguments, because a mismatch is slow", () => {
    const type = make();
    const view = new DataView(new ArrayBuffer(type.size));
    type.write(view, 0, type.read(view, 0));
    expect(type.read.toString()).toStartWith("(view, offset) =>");
    expect(type.write.toString()).toStartWith("(view, offset, value) =>");
  });

  test("work when taken off the type before the first call", () => {
    const type = make();
    const view = new DataView(new ArrayBuffer(type.size));
    const { read, write } = type;
    for (let i = 0; i < 3; i++) {
      write(view, 0, { ...value, pid: i });
      expect(read(view, 0)).toEqual({ ...value, pid: i });
      expect(type.read(view, 0)).toEqual({ ...value, pid: i });
    }
  });

  test("inline nested structs and short arrays, and have loops for long arrays", () => {
    const inner = t.struct({ a: t.u8, b: t.array(t.u16, 2) });
    const type = t.struct({ inner, list: t.array(t.u32, 100) });
    const view = new DataView(new ArrayBuffer(type.size));
    type.read(view, 0);
    const source = type.read.toString();
    expect(source.match(/for \(/g)).toHaveLength(1);
    expect(source).not.toContain("captured");
  });
});

test("types can be used with many views", () => {
  const type = t.struct({ name: t.cstring(40), raw: t.bytes(20) });
  const views = Array.from(
    { length: 5 },
    (_, i) => new DataView(new ArrayBuffer(type.size + i), i),
  );
  views.forEach((view, i) =>
    type.write(view, 0, { name: `é${i}`, raw: new Uint8Array(20).fill(i) }),
  );
  views.forEach((view, i) =>
    expect(type.read(view, 0)).toEqual({ name: `é${i}`, raw: new Uint8Array(20).fill(i) }),
  );
});

test("random values of random types are read as written", () => {
  withRandom((random) => {
    for (let i = 0; i < 150; i++) {
      const { type, value } = randomType(random, 3);
      const bytes = new Uint8Array(type.size + 13);
      const view = new DataView(bytes.buffer, 5);
      for (let j = 0; j < 3; j++) {
        const sample = value();
        bytes.fill(0x55);
        type.write(view, 3, sample);
        expect(type.read(view, 3)).toStrictEqual(sample);
        expect(bytes.subarray(0, 8).toHex()).toBe("55".repeat(8));
        expect(bytes.subarray(8 + type.size).toHex()).toBe("55".repeat(5));
      }
    }
  });
});

/** Writes a value, and returns the bytes or the error. */
function outcome(size: number, write: (view: DataView) => void): string {
  const bytes = new Uint8Array(size).fill(0x55);
  try {
    write(new DataView(bytes.buffer));
  } catch (error) {
    return String(error);
  }
  return bytes.toHex();
}

/** Returns a value with a random part replaced by a value that may be invalid. */
function invalidate(random: Random, value: unknown): unknown {
  const odd = [undefined, null, -1, 0.5, NaN, 2 ** 40, 2 ** 53, 5n, -(2n ** 63n), 2n ** 64n];
  const odder = ["", "x", "::1", "\ud800", true, [], {}, new Uint8Array(3), () => 0];
  if (random.below(4) > 0 && Array.isArray(value)) {
    const index = random.below(value.length);
    return random.below(5) === 0
      ? value.slice(1)
      : value.with(index, invalidate(random, value[index]));
  }
  if (random.below(4) > 0 && value !== null && value?.constructor === Object) {
    const entries = Object.entries(value);
    const index = random.below(entries.length);
    if (random.below(5) === 0) return Object.fromEntries(entries.toSpliced(index, 1));
    if (random.below(5) === 0) return Object.fromEntries([...entries, ["extra", 1]]);
    const [name, part] = entries[index]!;
    return Object.fromEntries(entries.with(index, [name, invalidate(random, part)]));
  }
  return random.pick([...odd, ...odder]);
}

test("generated code and plain functions have the same results and errors", () => {
  withRandom((random) => {
    let errors = 0;
    for (let i = 0; i < 300; i++) {
      const { type, value } = randomType(random, 3);
      const recipe = recipeOf(type);
      for (let j = 0; j < 8; j++) {
        const sample = j === 0 ? value() : invalidate(random, value());
        const compiled = outcome(type.size, (view) => type.write(view, 0, sample));
        const interpreted = outcome(type.size, (view) => recipe.write(view, 0, sample, ""));
        expect(compiled).toBe(interpreted);
        if (/Error: /.test(compiled)) errors++;
      }
      const bytes = Uint8Array.from({ length: type.size }, () => random.below(256));
      const view = new DataView(bytes.buffer);
      // The generator's custom type checks nothing, and reads any bytes.
      expect(type.read(view, 0)).toStrictEqual(recipe.read(view, 0));
    }
    expect(errors).toBeGreaterThan(300);
  });
});

/** Script that writes and reads random types, and prints a digest of the bytes, values and errors. */
const script = `
  import { randomType } from ${JSON.stringify(import.meta.resolve("./random_type.ts"))};
  import { Random } from ${JSON.stringify(import.meta.resolve("./random.ts"))};
  const random = new Random(${seed});
  const hasher = new Bun.CryptoHasher("sha256");
  let forbidden = false;
  try { new Function("") } catch { forbidden = true }
  for (let i = 0; i < 60; i++) {
    const { type, value } = randomType(random, 3);
    const bytes = new Uint8Array(type.size).fill(0x55);
    const view = new DataView(bytes.buffer);
    type.write(view, 0, value());
    hasher.update(bytes);
    hasher.update(Bun.inspect(type.read(view, 0), { depth: 10 }));
    for (const bad of [-1, null, {}, []]) {
      try { type.write(view, 0, bad); hasher.update(bytes) } catch (error) { hasher.update(String(error)) }
    }
  }
  console.log(JSON.stringify({ forbidden, digest: hasher.digest("hex") }));
`;

function run(...flags: string[]): { forbidden: boolean; digest: string } {
  const { stdout, stderr } = Bun.spawnSync([process.execPath, ...flags, "-e", script]);
  expect(stderr.toString()).toBe("");
  return JSON.parse(stdout.toString());
}

test("the results are the same if code generation from strings is disabled", () => {
  withRandom(() => {
    const free = run();
    const restricted = run("--disallow-code-generation-from-strings");
    expect(free.forbidden).toBe(false);
    expect(restricted).toEqual({ forbidden: true, digest: free.digest });
  });
});
