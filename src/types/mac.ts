import { defineType } from "./define.ts";
import { hexDigit } from "./hex.ts";
import { scalarRecipe } from "./recipe.ts";
import { refuseRange, refuseType } from "./refusal.ts";
import type { Type } from "./type.ts";

const OCTETS = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, "0"));
const TEXT_LENGTH = "02:42:ac:11:00:02".length;

/** The octet that starts at an index of an address, or -1 when there is none. */
function octetAt(text: string, index: number): number {
  const high = hexDigit(text.charCodeAt(index));
  const low = hexDigit(text.charCodeAt(index + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/**
 * `__u8[6]`: an Ethernet address as text, `"02:42:ac:11:00:02"`. Writing takes either case, and `-` in
 * place of `:`.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(6));
 * t.mac.write(view, 0, "02-42-AC-11-00-02");
 * console.log(t.mac.read(view, 0)); // 02:42:ac:11:00:02
 * ```
 */
export const mac: Type<string> = defineType<string, Type<string>>(
  { kind: "mac", name: "mac", size: 6, align: 1 },
  scalarRecipe({
    read(view, offset) {
      let text = OCTETS[view.getUint8(offset)]!;
      for (let i = 1; i < 6; i++) text += `:${OCTETS[view.getUint8(offset + i)]!}`;
      return text;
    },
    write(view, offset, value) {
      if (typeof value !== "string" || value.length !== TEXT_LENGTH) return false;
      const separator = value[2];
      if (separator !== ":" && separator !== "-") return false;
      for (let i = 0; i < 6; i++) {
        const octet = octetAt(value, i * 3);
        if (octet < 0 || (i > 0 && value[i * 3 - 1] !== separator)) return false;
        view.setUint8(offset + i, octet);
      }
      return true;
    },
    refuse(value, path) {
      const expected = 'an Ethernet address such as "02:42:ac:11:00:02" (mac)';
      return typeof value === "string"
        ? refuseRange(path, expected, value)
        : refuseType(path, expected, value);
    },
  }),
);
