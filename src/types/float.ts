import { refuseRange, refuseType } from "../check/describe.ts";
import { BTF_KIND_FLOAT } from "../uapi/btf.ts";
import { defineType } from "./compile.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import type { Type } from "./type.ts";

/** Defines a floating-point type. */
function defineFloat(kind: "f32" | "f64", c: string, size: 4 | 8): Type<number, number> {
  const accessor = `Float${size * 8}` as "Float32" | "Float64";
  const isTooLarge = (value: number) =>
    kind === "f32" && Number.isFinite(value) && !Number.isFinite(Math.fround(value));
  function check(value: unknown, path: string): asserts value is number {
    if (typeof value !== "number") refuseType(path, `a number (${kind})`, value);
    if (isTooLarge(value)) {
      refuseRange(path, "a number up to 3.4028234663852886e38 (f32)", value, "use t.f64");
    }
  }
  return defineType<number, Type<number, number>>(
    { kind, name: kind, size, align: size },
    {
      weight: 1,
      emitRead: (_source, place) => `view.get${accessor}(${place}, ${LITTLE_ENDIAN})`,
      emitWrite(source, place, value, path) {
        const isWrong = `typeof ${value} !== "number" || ${source.capture(isTooLarge)}(${value})`;
        source.line(`if (${isWrong}) ${source.capture(check)}(${value}, ${path});`);
        source.line(`view.set${accessor}(${place}, ${value}, ${LITTLE_ENDIAN});`);
      },
      read: (view, offset) => view[`get${accessor}`](offset, LITTLE_ENDIAN),
      write(view, offset, value, path) {
        check(value, path);
        view[`set${accessor}`](offset, value, LITTLE_ENDIAN);
      },
    },
    {
      size,
      encode(types) {
        // BTF_KIND_FLOAT exists since 5.13. Older kernels get an empty struct of the same size, as libbpf does.
        types.usesNewKinds = true;
        return types.isLegacy ? types.struct("", size, []) : types.add(BTF_KIND_FLOAT, c, size);
      },
    },
  );
}

/**
 * Floating-point number of 4 bytes, C's `float`. Values are numbers.
 *
 * Writing rounds to the nearest `float`, as C does. It rejects finite numbers beyond the largest `float`; infinities and NaN are
 * allowed. Kernel code cannot calculate with floating-point numbers, only copy them.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(4));
 * t.f32.write(view, 0, 0.1);
 * console.log(t.f32.read(view, 0)); // 0.10000000149011612
 * ```
 */
export const f32: Type<number, number> = /*@__PURE__*/ defineFloat("f32", "float", 4);

/**
 * Floating-point number of 8 bytes, C's `double`. Values are numbers, which JavaScript stores in the same format. Kernel code cannot
 * calculate with floating-point numbers, only copy them.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(8));
 * t.f64.write(view, 0, 0.1);
 * console.log(t.f64.read(view, 0)); // 0.1
 * ```
 */
export const f64: Type<number, number> = /*@__PURE__*/ defineFloat("f64", "double", 8);
