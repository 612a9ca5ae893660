import { expectTypeOf, test } from "bun:test";
import * as t from "../../src/types/t.ts";

// `bun check` checks these assertions; running them does nothing.

const Address = t.struct({ port: t.be16, host: t.ipv4 });
const Event = t.struct({
  pid: t.u32,
  ts: t.u64,
  comm: t.cstring(16),
  raw: t.bytes(4),
  ok: t.bool,
  addr: Address,
  peers: t.array(Address, 2),
  grid: t.array(t.array(t.i64Number, 2), 2),
  at: t.custom<Date>({ size: 8, read: () => new Date(), write: () => {} }),
});

test("scalars have inferred types", () => {
  expectTypeOf<t.Infer<typeof t.u8>>().toEqualTypeOf<number>();
  expectTypeOf<t.Infer<typeof t.i32>>().toEqualTypeOf<number>();
  expectTypeOf<t.Infer<typeof t.u64>>().toEqualTypeOf<bigint>();
  expectTypeOf<t.Infer<typeof t.i64>>().toEqualTypeOf<bigint>();
  expectTypeOf<t.Infer<typeof t.u64Number>>().toEqualTypeOf<number>();
  expectTypeOf<t.Infer<typeof t.be64>>().toEqualTypeOf<bigint>();
  expectTypeOf<t.Infer<typeof t.bool>>().toEqualTypeOf<boolean>();
  expectTypeOf<t.Infer<typeof t.ipv6>>().toEqualTypeOf<string>();
  expectTypeOf<t.Infer<typeof t.cidr4>>().toEqualTypeOf<string>();
  expectTypeOf<t.Infer<t.BytesType>>().toEqualTypeOf<Uint8Array>();
  expectTypeOf<t.Infer<string>>().toEqualTypeOf<never>();
});

test("structs and arrays have exact inferred types", () => {
  expectTypeOf<t.Infer<typeof Event>>().toEqualTypeOf<{
    pid: number;
    ts: bigint;
    comm: string;
    raw: Uint8Array;
    ok: boolean;
    addr: { port: number; host: string };
    peers: { port: number; host: string }[];
    grid: number[][];
    at: Date;
  }>();
});

test("a type has the types of its elements and members", () => {
  expectTypeOf(Event.fields.addr.type.fields.port.type).toEqualTypeOf<t.IntegerType<number>>();
  expectTypeOf(Event.kind).toEqualTypeOf<"struct">();
  expectTypeOf(t.array(t.u32, 4).element).toEqualTypeOf<t.Type<number, number>>();
  expectTypeOf(t.u64.max).toEqualTypeOf<bigint>();
});

test("every type is a Type<unknown>, and a Type<T> only for its own T", () => {
  expectTypeOf(Event).toExtend<t.Type<unknown>>();
  expectTypeOf(t.u32).toExtend<t.Type<number>>();
  expectTypeOf(t.u32).not.toExtend<t.Type<bigint>>();
  expectTypeOf(t.cstring(16)).not.toExtend<t.Type<number>>();
});

test("wrong types do not compile", () => {
  const view = new DataView(new ArrayBuffer(Event.size));
  const refused = (): void => {
    // @ts-expect-error: a bigint instead of a number
    t.u32.write(view, 0, 5n);
    // @ts-expect-error: a number instead of a bigint
    t.u64.write(view, 0, 5);
    // @ts-expect-error: a field is missing
    Address.write(view, 0, { port: 1 });
    // @ts-expect-error: a field is unknown
    Address.write(view, 0, { port: 1, host: "10.0.0.1", name: "x" });
    // @ts-expect-error: an unknown field
    void Address.fields.name;
    // @ts-expect-error: not a type
    t.struct({ a: "u32" });
    // @ts-expect-error: a misspelt option
    t.struct({ a: t.u8 }, { packd: true });
    // @ts-expect-error: a typed array instead of an array
    t.array(t.u8, 4).write(view, 0, new Uint8Array(4));
    // @ts-expect-error: read-only
    Event.size = 5;
  };
  void refused;
});
