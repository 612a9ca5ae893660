import { defineType } from "./define.ts";
import { refuseType } from "./refusal.ts";
import type { Type } from "./type.ts";

function refuse(value: unknown, path: string): never {
  refuseType(path, "true or false (bool)", value);
}

/**
 * C's `bool`: one byte. Any byte but zero reads as `true`; `true` is written as 1. Only booleans can be
 * written: use {@link u8} for a byte that is a number.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(1));
 * t.bool.write(view, 0, true);
 * console.log(t.bool.read(view, 0)); // true
 * ```
 */
export const bool: Type<boolean> = defineType<boolean, Type<boolean>>(
  { kind: "bool", name: "bool", size: 1, align: 1 },
  {
    weight: 1,
    emitRead: (_source, place) => `view.getUint8(${place}) !== 0`,
    emitWrite(source, place, value, path) {
      source.line(
        `if (typeof ${value} !== "boolean") ${source.capture(refuse)}(${value}, ${path});`,
      );
      source.line(`view.setUint8(${place}, ${value} ? 1 : 0);`);
    },
    read: (view, offset) => view.getUint8(offset) !== 0,
    write(view, offset, value, path) {
      if (typeof value !== "boolean") refuse(value, path);
      view.setUint8(offset, value ? 1 : 0);
    },
  },
);
