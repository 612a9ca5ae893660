import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";

const Address = t.struct({ port: t.be16, host: t.ipv4 });
const Event = t.struct({ pid: t.u32, addr: Address, ts: t.u64 });
const event = { pid: 1, addr: { port: 443, host: "10.0.0.1" }, ts: 5n };

test("a struct has the properties of its type", () => {
  expect(Event).toMatchObject({
    kind: "struct",
    name: "struct { pid: u32, addr: struct { port: be16, host: ipv4 }, ts: u64 }",
    size: 24,
    align: 8,
    packed: false,
  });
  expect(Object.keys(Event.fields)).toEqual(["pid", "addr", "ts"]);
  expect(Event.fields.addr).toEqual({ type: Address, offset: 4 });
  expect(Event.fields.ts.offset).toBe(16);
});

test("a packed struct has the properties of its type", () => {
  const type = t.struct({ a: t.u8, b: t.u64 }, { packed: true });
  expect(type).toMatchObject({ name: "packed struct { a: u8, b: u64 }", size: 9, align: 1 });
  expect(type.packed).toBe(true);
  expect(type.fields.b.offset).toBe(1);
});

test("padding is written as zero, between members and at the end", () => {
  const type = t.struct({ a: t.u8, b: t.u64, c: t.u8 });
  expect(encode(type, { a: 0xff, b: 2n ** 64n - 1n, c: 0xff })).toBe(
    "ff00000000000000ffffffffffffffffff00000000000000",
  );
});

test("padding is ignored when read", () => {
  const type = t.struct({ a: t.u8, b: t.u16 });
  expect(decode(type, "01aa0000")).toEqual({ a: 1, b: 0 });
});

test("read() returns a new plain object", () => {
  const value = roundTrip(Event, event);
  expect(value).toStrictEqual(event);
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  expect(Object.keys(value)).toEqual(["pid", "addr", "ts"]);
});

describe("writing a struct", () => {
  test("names the nested field that is out of range", () => {
    expect(refusal(Event, { ...event, addr: { ...event.addr, port: 70000 } })).toBe(
      'RangeError: field "addr.port": expected an integer from 0 to 65535 (be16), got 70000',
    );
  });

  test("names the field of the wrong type", () => {
    expect(refusal(Event, { ...event, ts: 5 })).toBe(
      'TypeError: field "ts": expected a bigint from 0 to 18446744073709551615 (u64), got 5: pass a bigint, e.g. 5n, or use t.u64Number',
    );
    expect(refusal(Event, { ...event, addr: "10.0.0.1:443" })).toBe(
      'TypeError: field "addr": expected an object (struct { port: be16, host: ipv4 }), got "10.0.0.1:443"',
    );
  });

  test("names elements of arrays of structs", () => {
    const type = t.struct({ peers: t.array(Address, 2), many: t.array(Address, 100) });
    const value = {
      peers: [event.addr, event.addr],
      many: new Array(100).fill(event.addr) as (typeof event.addr)[],
    };
    expect(roundTrip(type, value)).toStrictEqual(value);
    value.many[99] = { port: -1, host: "10.0.0.1" };
    expect(refusal(type, value)).toStartWith('RangeError: field "many[99].port": ');
    value.peers[1] = { port: 1, host: "10.0.0" };
    expect(refusal(type, value)).toStartWith('RangeError: field "peers[1].host": ');
  });

  test("names a missing field", () => {
    expect(refusal(Event, { pid: 1, addr: event.addr })).toBe(
      'TypeError: missing field "ts": expected u64',
    );
    expect(refusal(Event, { ...event, addr: { port: 1 } })).toBe(
      'TypeError: missing field "addr.host": expected ipv4',
    );
    expect(refusal(Event, {})).toBe('TypeError: missing field "pid": expected u32');
  });

  test("rejects a field that is undefined", () => {
    expect(refusal(Event, { ...event, pid: undefined })).toStartWith(
      'TypeError: field "pid": expected an integer from 0 to 4294967295 (u32), got undefined',
    );
  });

  test("names an unknown field, with a suggestion if a name is similar", () => {
    expect(refusal(Event, { ...event, pidd: 1 })).toBe(
      'TypeError: unknown field "pidd": did you mean "pid"?',
    );
    expect(refusal(Event, { ...event, comm: "x" })).toBe(
      'TypeError: unknown field "comm": known names: "pid", "addr", "ts"',
    );
    expect(refusal(Event, { ...event, addr: { ...event.addr, prt: 1 } })).toBe(
      'TypeError: unknown field "addr.prt": did you mean "port"?',
    );
  });

  test("names a misspelt field rather than the missing one", () => {
    expect(refusal(Event, { pdi: 1, addr: event.addr, ts: 5n })).toBe(
      'TypeError: unknown field "pdi": did you mean "pid"?',
    );
  });

  test.each([1, "x", null, undefined, true, 5n, () => event, [[event]], new Map()])(
    "rejects %p",
    (value) => {
      expect(refusal(Event, value)).toMatch(/^TypeError: (expected an object|unknown|missing)/);
    },
  );

  test("accepts an instance of a class, getters and inherited fields", () => {
    class Sample {
      readonly pid = 1;
      get addr() {
        return event.addr;
      }
    }
    const value = Object.assign(new Sample(), { ts: 5n });
    expect(encode(Event, value)).toBe(encode(Event, event));
    expect(encode(Event, Object.create(event))).toBe(encode(Event, event));
  });

  test("ignores symbols and properties that are not enumerable", () => {
    const value = { ...event, [Symbol("note")]: 1 };
    Object.defineProperty(value, "hidden", { value: 1 });
    expect(encode(Event, value)).toBe(encode(Event, event));
  });

  test("reads each field once", () => {
    let reads = 0;
    const value = {
      addr: event.addr,
      ts: 5n,
      get pid() {
        reads++;
        return reads === 1 ? 7 : -1;
      },
    };
    expect(decode(Event, encode(Event, value)).pid).toBe(7);
  });
});

describe("field names of a struct", () => {
  const hostile = [
    "__proto__",
    "constructor",
    "toString",
    "value",
    "view",
    "offset",
    "path",
    "captured0",
    'a"b',
    "a'b",
    "a`${b}",
    "a\\",
    "a\nb",
    "\u2028",
    "\ud800",
    "é",
    "日本",
    "",
    " ",
    "class",
    "a.b",
    "*/",
    "];process.exit(1);//",
  ];
  const fields = Object.fromEntries(hostile.map((name) => [name, t.u16]));
  const type = t.struct({ ...fields, ["__proto__"]: t.u16 });
  const value = Object.fromEntries(hostile.map((name, index) => [name, index]));

  test("can be any string", () => {
    const result = roundTrip(type, value);
    expect(Object.entries(result).sort()).toEqual(Object.entries(value).sort());
    expect(Object.getPrototypeOf(result)).toBe(Object.prototype);
  });

  test.each(hostile)("appear in errors: %j", (name) => {
    const bad = Object.fromEntries(Object.entries(value));
    Object.defineProperty(bad, name, { value: -1, enumerable: true });
    expect(refusal(type, bad)).toMatch(/^RangeError: field ".*": expected .* got -1$/s);
    expect(refusal(type, bad)).toContain(JSON.stringify(JSON.stringify(name)).slice(3, -3));
  });

  test("are missing if only Object.prototype has them", () => {
    const short = Object.fromEntries(Object.entries(value).filter(([name]) => name !== "toString"));
    expect(refusal(type, short)).toBe(
      'TypeError: field "toString": expected an integer from 0 to 65535 (u16), got a function',
    );
  });

  test("cannot be numbers, which JavaScript would move to the front", () => {
    expect(() => t.struct({ a: t.u8, 0: t.u32 })).toThrow(TypeError);
    expect(() => t.struct({ a: t.u8, 0: t.u32 })).toThrow('the name "0" is a number');
  });
});

describe("t.struct()", () => {
  test("rejects a struct without fields", () => {
    expect(() => t.struct({})).toThrow(
      new TypeError("struct(fields): expected at least one field"),
    );
  });

  test.each([null, undefined, "x", 1])("rejects %p as fields", (fields) => {
    expect(() => t.struct(fields as never)).toThrow("struct(fields): expected an object of types");
  });

  test("rejects a field that is not a type", () => {
    expect(() => t.struct({ pid: "u32" } as never)).toThrow(
      new TypeError('struct(fields): field "pid": expected a type such as t.u32, got "u32"'),
    );
    expect(() => t.struct({ comm: t.cstring } as never)).toThrow("was it meant to be called");
  });

  test("rejects a misspelt option, with a hint", () => {
    expect(() => t.struct({ a: t.u8 }, { packd: true } as never)).toThrow(
      new TypeError('struct(options): unknown option "packd": did you mean "packed"?'),
    );
  });

  test.each([null, 1, "packed"])("rejects %p as options", (options) => {
    expect(() => t.struct({ a: t.u8 }, options as never)).toThrow("struct(options): expected an");
  });

  test.each([1, "yes", null])("rejects { packed: %p }", (packed) => {
    expect(() => t.struct({ a: t.u8 }, { packed } as never)).toThrow(
      "struct(options): packed: expected true or false",
    );
  });

  test("rejects a struct larger than 2^31 - 1 bytes", () => {
    const half = t.bytes(2 ** 30);
    expect(() => t.struct({ a: half, b: half })).toThrow(RangeError);
  });

  test("is not affected by later changes of the fields object", () => {
    const fields: Record<string, t.Type<unknown>> = { a: t.u8 };
    const type = t.struct(fields);
    fields["b"] = t.u8;
    expect(roundTrip(type, { a: 1 })).toEqual({ a: 1 });
  });
});

test("types cannot be changed", () => {
  const type = t.struct({ a: t.u8 });
  const change = type as { size: number; read: unknown; fields: Record<string, unknown> };
  expect(() => (change.size = 2)).toThrow(TypeError);
  expect(() => (change.read = null)).toThrow(TypeError);
  expect(() => (change.fields["a"] = null)).toThrow(TypeError);
  expect(() => Object.assign(type, { extra: 1 })).toThrow(TypeError);
  roundTrip(type, { a: 1 });
  expect(Object.isFrozen(type)).toBe(true);
});

test("large structs in structs and arrays have the right values and paths", () => {
  const names = Array.from({ length: 70 }, (_, index) => `f${index}`);
  const Large = t.struct(Object.fromEntries(names.map((name) => [name, t.u32])));
  const type = t.struct({ a: t.u8, one: Large, many: t.array(Large, 3), again: Large });
  const large = Object.fromEntries(names.map((name, index) => [name, index * 3]));
  const value = { a: 1, one: large, many: [large, large, large], again: large };
  expect(roundTrip(type, value)).toStrictEqual(value);
  const bad = { ...value, many: [large, large, { ...large, f69: -1 }] };
  expect(refusal(type, bad)).toStartWith('RangeError: field "many[2].f69": ');
  expect(refusal(Large, { ...large, f0: -1 })).toStartWith('RangeError: field "f0": ');
});
