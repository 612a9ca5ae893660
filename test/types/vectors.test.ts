import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { testUnless } from "../support/skipping.ts";
import { type CLayout, compiler, generate } from "./generate_vectors.ts";
import { vectors } from "./vectors.ts";
import committed from "./vectors.json";

const layouts: Record<string, CLayout> = committed;

/** Returns the offset of a path such as `first.kind` in a struct. */
function offsetOf(type: t.Type<unknown>, path: string): number {
  let offset = 0;
  let part = type;
  for (const name of path.split(".")) {
    const field = (part as t.StructType<t.Fields>).fields[name]!;
    offset += field.offset;
    part = field.type;
  }
  return offset;
}

test("every struct of vectors.c has a type in vectors.ts", () => {
  expect(Object.keys(vectors).sort()).toEqual(Object.keys(layouts).sort());
});

describe.each(Object.entries(vectors))("C's struct %s", (name, { type, samples }) => {
  const layout = layouts[name]!;

  test("has the same size and alignment", () => {
    expect({ size: type.size, align: type.align }).toEqual({
      size: layout.size,
      align: layout.align,
    });
  });

  test("has its members at the same offsets", () => {
    const offsets = Object.keys(layout.offsets).map((path) => [path, offsetOf(type, path)]);
    expect(Object.fromEntries(offsets)).toEqual(layout.offsets);
  });

  test("has the same bytes, padding included", () => {
    expect(samples.length).toBe(Object.keys(layout.samples).length);
    samples.forEach((sample, index) => {
      // At an odd address, over nonzero bytes, and with neighbours that must not change.
      const bytes = new Uint8Array(type.size + 16).fill(0xaa);
      type.write(new DataView(bytes.buffer, 3), 2, sample as t.StructValue<t.Fields>);
      expect(bytes.subarray(5, 5 + type.size).toHex()).toBe(layout.samples[index]!);
      expect(bytes.subarray(0, 5).toHex()).toBe("aa".repeat(5));
      expect(bytes.subarray(5 + type.size).toHex()).toBe("aa".repeat(11));
    });
  });

  test("decodes to the same values", () => {
    samples.forEach((sample, index) => {
      const bytes = Uint8Array.fromHex("aaaaaaaaaa" + layout.samples[index]!);
      expect(type.read(new DataView(bytes.buffer, 3), 2)).toStrictEqual(
        sample as t.StructValue<t.Fields>,
      );
    });
  });
});

const compilerTest = testUnless(
  compiler === null ? "no cc, gcc or clang on this machine" : undefined,
);
compilerTest("vectors.json equals the output of vectors.c", async () => {
  expect(await generate(compiler!)).toEqual(layouts);
});
