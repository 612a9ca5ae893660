import type * as t from "../../src/types/t.ts";

/** Returns a view with the encoded values one after another, beginning at `start`. */
export function viewOf<T>(type: t.Type<T>, values: readonly T[], start = 0): DataView {
  const view = new DataView(new ArrayBuffer(start + type.size * values.length));
  values.forEach((value, index) => type.write(view, start + index * type.size, value));
  return view;
}
