/** @module The packet of XDP and tc programs: `ctx.packet`. */

import type { BuiltIn } from "./globals.ts";
import { BuiltInValue } from "./globals.ts";
import type { AccessSize, Node } from "../ir/ir.ts";
import { loadValue } from "./memory.ts";
import { numberOf } from "./numbers.ts";
import { TypeValue } from "./type_value.ts";
import {
  BooleanValue,
  FixedValue,
  MaybeValue,
  NumberValue,
  type Syntax,
  type Value,
  argument,
  type Lowering,
} from "./value.ts";
import { type MemoryPlace, writablePlace } from "./memory_place.ts";

/** Greatest offset of a view, which the verifier must know. */
const maxOffset = 0x3fff;

/** Offsets in the context of the fields that the verifier turns into pointers. */
export interface PacketFields {
  readonly data: number;
  readonly dataEnd: number;
  /** The packet's length, if the context has it. */
  readonly length: number | undefined;
}

/** Views that were made before the packet's start moved cannot be used any more. */
const moves = new WeakMap<Lowering, number>();

/** The packet. */
export class PacketValue extends FixedValue {
  readonly #context: Node;
  readonly #fields: PacketFields;

  constructor(context: Node, fields: PacketFields) {
    super();
    this.#context = context;
    this.#fields = fields;
  }

  override describe(): string {
    return "the packet";
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const { b } = l;
    const range = { min: 0, max: 2 ** 32 - 1 };
    switch (name) {
      case "length": {
        const { data, dataEnd, length } = this.#fields;
        if (length !== undefined)
          return new NumberValue(b.number(b.load(this.#context, length, 4), range));
        const [start, end] = [data, dataEnd].map((offset) => b.load(this.#context, offset, 4)) as [
          Node,
          Node,
        ];
        return new NumberValue(b.number(b.binary("sub", end, start), range));
      }
      case "at":
        return new BuiltInValue("packet.at", this.#at);
      case "adjustHead":
        if (this.#fields.length !== undefined) break;
        return new BuiltInValue("packet.adjustHead", (inner, args, where) => {
          const delta = numberOf(inner, argument(inner, args, 0, where), where).node(inner.b);
          const result = inner.b.callHelper("xdp_adjust_head", this.#context, delta);
          moves.set(inner, (moves.get(inner) ?? 0) + 1);
          return new BooleanValue(inner.b.compare("eq", result, 0));
        });
      default:
    }
    return l.refuse(at, `the packet has no member ${JSON.stringify(name)}`, "It has length and at");
  }

  /** Returns a view of the bytes at an offset, if they are in the packet. */
  readonly #at: BuiltIn = (l, args, at) => {
    const { b } = l;
    const offset = numberOf(l, argument(l, args, 0, at), at);
    const type = argument(l, args, 1, at);
    if (!(type instanceof TypeValue)) {
      return l.refuse(
        args[1] ?? at,
        `expected a type, got ${type.describe()}`,
        "Use a type of the scope, or k.Ipv4",
      );
    }
    const { data, dataEnd } = this.#fields;
    const start = b.load(this.#context, data, 4 as AccessSize);
    const end = b.load(this.#context, dataEnd, 4 as AccessSize);
    const known = offset.known?.value;
    const pointer =
      typeof known === "number"
        ? b.address(start, known)
        : b.address(start, 0, b.add({ kind: "bound", min: 0, max: maxOffset }, [offset.node(b)]));
    if (typeof known === "number" && (known < 0 || known > maxOffset)) {
      l.refuse(args[0] ?? at, `the offset of a view is from 0 to ${maxOffset}`);
    }
    const isInside = b.compare("le", b.address(pointer, type.type.size), end);
    const made = moves.get(l) ?? 0;
    const place: MemoryPlace = {
      ...writablePlace(pointer),
      align: 1,
      check: (inner, where) => {
        if ((moves.get(inner) ?? 0) !== made) {
          inner.refuse(
            where,
            "this view was made before the packet was moved",
            "Call packet.at() again after adjustHead()",
          );
        }
      },
    };
    return new MaybeValue(
      "undefined",
      isInside,
      (inner) => loadValue(inner, type.type, place, at),
      `a view of the packet`,
    );
  };
}
