import { describe, expect, expectTypeOf, test } from "bun:test";
import { inspect } from "node:util";
import * as t from "../../src/types/t.ts";
import { repetitions } from "../support/effort.ts";
import { type Random, withRandom } from "./random.ts";
import { randomType } from "./random_type.ts";
import { viewOf } from "./view_of.ts";

const Address = t.struct({ port: t.be16, host: t.ipv4 });
const Event = t.struct({ pid: t.u32, addr: Address, ts: t.u64Number, comm: t.cstring(16) });
type Event = t.Infer<typeof Event>;
const first: Event = { pid: 1, addr: { port: 443, host: "10.0.0.1" }, ts: 5, comm: "bash" };
const second: Event = { pid: 2, addr: { port: 53, host: "10.0.0.2" }, ts: 2 ** 40, comm: "bun" };

describe("an event", () => {
  test("has the fields of the struct at the cursor's position", () => {
    const view = viewOf(Event, [first, second]);
    const cursor = Event.cursor();
    const { event } = cursor;
    for (const [index, value] of [first, second, first].entries()) {
      cursor.moveTo(view, (index % 2) * Event.size);
      expect(event).toEqual(value);
      expect([event.pid, event.ts, event.comm]).toEqual([value.pid, value.ts, value.comm]);
      expect([event.addr.port, event.addr.host]).toEqual([value.addr.port, value.addr.host]);
    }
    expect(cursor.event).toBe(event);
  });

  test("moves between views", () => {
    const views = [viewOf(Event, [first]), viewOf(Event, [second], 24)] as const;
    const cursor = Event.cursor();
    for (let i = 0; i < 3; i++) {
      cursor.moveTo(views[0], 0);
      expect(Event.copy(cursor.event)).toStrictEqual(first);
      cursor.moveTo(views[1], 24);
      expect(Event.copy(cursor.event)).toStrictEqual(second);
    }
  });

  test("reads the current bytes", () => {
    const view = viewOf(Event, [first]);
    const cursor = Event.cursor();
    cursor.moveTo(view, 0);
    expect(cursor.event.pid).toBe(1);
    Event.write(view, 0, second);
    expect(cursor.event.pid).toBe(2);
  });

  test("has nested events that move with it", () => {
    const Outer = t.struct({ a: t.u8, middle: t.struct({ b: t.u8, inner: Address }) });
    const values = [1, 2].map((n) => ({
      a: n,
      middle: { b: n + 2, inner: { port: n, host: `10.0.0.${n}` } },
    }));
    const view = viewOf(Outer, values);
    const cursor = Outer.cursor();
    const { middle } = cursor.event;
    const { inner } = middle;
    for (const [index, value] of values.entries()) {
      cursor.moveTo(view, index * Outer.size);
      expect(cursor.event.middle).toBe(middle);
      expect(middle.inner).toBe(inner);
      expect([middle.b, inner.port, inner.host]).toEqual([
        value.middle.b,
        value.middle.inner.port,
        value.middle.inner.host,
      ]);
    }
  });

  test("reads packed structs", () => {
    const type = t.struct({ a: t.u8, b: t.u64Number, c: Address, d: t.u16 }, { packed: true });
    const value = { a: 1, b: 2 ** 50, c: { port: 3, host: "10.0.0.4" }, d: 5 };
    const cursor = type.cursor();
    cursor.moveTo(viewOf(type, [value], 7), 7);
    expect(type.copy(cursor.event)).toStrictEqual(value);
  });

  test("returns copies of bytes and arrays", () => {
    const type = t.struct({ raw: t.bytes(20), list: t.array(Address, 2), long: t.array(t.u8, 99) });
    const view = viewOf(type, [
      {
        raw: new Uint8Array(20).fill(7),
        list: [first.addr, second.addr],
        long: new Array<number>(99).fill(9),
      },
    ]);
    const cursor = type.cursor();
    cursor.moveTo(view, 0);
    const { raw, list, long } = cursor.event;
    new Uint8Array(view.buffer).fill(0);
    cursor.release();
    expect(raw).toEqual(new Uint8Array(20).fill(7));
    expect(list).toStrictEqual([first.addr, second.addr]);
    expect(long).toEqual(new Array<number>(99).fill(9));
  });

  test("can be spread, listed, converted to JSON and written", () => {
    const cursor = Event.cursor();
    cursor.moveTo(viewOf(Event, [first]), 0);
    const { event } = cursor;
    expect(Object.keys(event)).toEqual(Object.keys(first));
    expect(JSON.stringify(event)).toBe(JSON.stringify(first));
    const spread = { ...event };
    cursor.moveTo(viewOf(Event, [second]), 0);
    expect(spread.pid).toBe(1);
    expect(Event.read(viewOf(Event, [event]), 0)).toStrictEqual(second);
    expect(structuredClone(event)).toStrictEqual(second);
  });

  test("is printed with its values", () => {
    const cursor = Event.cursor();
    cursor.moveTo(viewOf(Event, [first]), 0);
    for (const print of [inspect, Bun.inspect]) {
      expect(print(cursor.event)).toBe(print(first));
      expect(print([cursor.event.addr])).toBe(print([first.addr]));
    }
  });

  test("is read-only", () => {
    const { event } = Event.cursor();
    const change = event as { pid: number; addr: unknown; extra?: number };
    expect(() => (change.pid = 1)).toThrow(TypeError);
    expect(() => (change.addr = {})).toThrow(TypeError);
    expect(() => (change.extra = 1)).toThrow(TypeError);
    expect(Object.isFrozen(event)).toBe(true);
    expect(Object.isFrozen(event.addr)).toBe(true);
  });

  test("has the TypeScript type of the struct", () => {
    expectTypeOf(Event.cursor()).toEqualTypeOf<t.StructCursor<Event>>();
    const { event } = Event.cursor();
    expectTypeOf(event).toEqualTypeOf<Readonly<Event>>();
    expectTypeOf(Event.copy).returns.toEqualTypeOf<Event>();
    const refused = (): void => {
      // @ts-expect-error: read-only
      event.pid = 1;
      // @ts-expect-error: unknown field
      void event.name;
      // @ts-expect-error: another struct
      Event.copy({ pid: 1 });
    };
    void refused;
  });
});

test("an event has no opaque fields", () => {
  const type = t.struct({
    lock: t.spinLock,
    a: t.u32,
    inner: t.struct({ timer: t.timer, b: t.u8 }),
    none: t.struct({ c: t.struct({ d: t.u8 }) }),
  });
  const value = { a: 1, inner: { b: 2 }, none: { c: { d: 3 } } };
  const cursor = type.cursor();
  cursor.moveTo(viewOf(type, [value]), 0);
  expect(Object.keys(cursor.event)).toEqual(["a", "inner", "none"]);
  expect(Object.keys(cursor.event.inner)).toEqual(["b"]);
  expect(type.copy(cursor.event)).toStrictEqual(value);
  const Empty = t.struct({ lock: t.spinLock });
  expect(Empty.copy(Empty.cursor().event)).toStrictEqual({});
});

describe("field names of an event", () => {
  const names = ["__proto__", "constructor", "toString", "release", "moveTo", "event", "view"];
  names.push("offset", "a b", "", '"', "`${x}`", "\\", "\n", "\u2028", "\ud800", "é", "get", "*/");
  names.push("nextView", "captured0", "event0", "hasOwnProperty", "toJSON", "then");

  function fieldsOf<T>(value: (index: number) => T): Record<string, T> {
    return Object.fromEntries(names.map((name, index) => [name, value(index)]));
  }

  test("can be any string", () => {
    const type = t.struct(fieldsOf(() => t.u16));
    const value = fieldsOf((index) => index);
    const cursor = type.cursor();
    cursor.moveTo(viewOf(type, [value]), 0);
    expect(Object.entries(cursor.event)).toEqual(Object.entries(value));
    expect(Object.getPrototypeOf(cursor.event)).toBe(Object.prototype);
    expect(type.copy(cursor.event)).toStrictEqual(value);
    expect(type.copy({ ...cursor.event })).toStrictEqual(value);
  });

  test("can be any string for nested structs", () => {
    const type = t.struct(fieldsOf(() => t.struct({ ["__proto__"]: t.u16 })));
    const value = fieldsOf((index) => Object.fromEntries([["__proto__", index]]));
    const cursor = type.cursor();
    cursor.moveTo(viewOf(type, [value]), 0);
    expect(Object.keys(cursor.event)).toEqual(names);
    expect(Object.getPrototypeOf(cursor.event)).toBe(Object.prototype);
    for (const copy of [type.copy(cursor.event), type.copy({ ...cursor.event })]) {
      expect(Object.entries(copy).map(([name, part]) => [name, Object.entries(part)])).toEqual(
        names.map((name, index) => [name, [["__proto__", index]]]),
      );
    }
  });
});

test("a type from elsewhere is read by its method, also if its kind is struct", () => {
  const elsewhere = { ...Address, read: () => ({ port: 1, host: "x" }) };
  const type = t.struct({ elsewhere });
  const cursor = type.cursor();
  cursor.moveTo(new DataView(new ArrayBuffer(8)), 0);
  expect(cursor.event.elsewhere).not.toBe(cursor.event.elsewhere);
  expect(type.copy(cursor.event)).toStrictEqual({ elsewhere: { port: 1, host: "x" } });
});

/** Returns a random struct type, and a view with random values of it. */
function randomStruct(random: Random): { type: t.StructType<t.Fields>; view: DataView } {
  const samples = Array.from({ length: 1 + random.below(4) }, () => randomType(random, 3));
  // A struct can have one opaque field of each kind.
  const fields = samples.filter(({ type }, at) => at === 0 || !/spin_lock|timer/.test(type.name));
  const type = t.struct(Object.fromEntries(fields.map((field, at) => [`f${at}`, field.type])), {
    packed: random.below(3) === 0 && !/spin_lock|timer/.test(samples[0]!.type.name),
  });
  const values = [0, 1].map(() =>
    Object.fromEntries(fields.map((field, at) => [`f${at}`, field.value()])),
  );
  return { type, view: viewOf(type, values, 3) };
}

test("events equal the results of read() for random types and values", () => {
  withRandom((random) => {
    for (let i = 0; i < repetitions(200); i++) {
      const { type, view } = randomStruct(random);
      const cursor = type.cursor();
      for (const offset of [3, 3 + type.size]) {
        cursor.moveTo(view, offset);
        const value = type.read(view, offset);
        expect(cursor.event).toEqual(value);
        expect(type.copy(cursor.event)).toStrictEqual(value);
        expect(type.copy({ ...cursor.event })).toStrictEqual(value);
        for (const [name, { type: part, offset: at }] of Object.entries(type.fields)) {
          if ("opaque" in part) continue;
          expect(cursor.event[name]).toEqual(part.read(view, offset + at));
        }
      }
    }
  });
});

describe("copy()", () => {
  test("returns a plain object that does not change, with copies of nested structs", () => {
    const cursor = Event.cursor();
    cursor.moveTo(viewOf(Event, [first]), 0);
    const copies = [Event.copy(cursor.event), Event.copy({ ...cursor.event })];
    const part = Address.copy(cursor.event.addr);
    cursor.moveTo(viewOf(Event, [second]), 0);
    for (const copy of copies) expect(copy).toStrictEqual(first);
    expect(part).toStrictEqual(first.addr);
  });

  test("accepts plain objects, and shares values that are not structs", () => {
    const type = t.struct({ list: t.array(t.u8, 2), inner: Address, raw: t.bytes(1) });
    const value = { list: [1, 2], inner: { port: 1, host: "10.0.0.1" }, raw: new Uint8Array(1) };
    const copy = type.copy({ ...value, extra: 1 } as typeof value);
    expect(copy).toStrictEqual(value);
    expect(copy).not.toBe(value);
    expect(copy.inner).not.toBe(value.inner);
    expect(copy.list).toBe(value.list);
    expect(copy.raw).toBe(value.raw);
  });

  test("accepts the event of another type with the same fields", () => {
    const Wide = t.struct({ host: t.ipv4, more: t.u32, port: t.be16 });
    const cursor = Wide.cursor();
    cursor.moveTo(viewOf(Wide, [{ host: "10.0.0.9", more: 1, port: 9 }]), 0);
    expect(Address.copy(cursor.event)).toStrictEqual({ port: 9, host: "10.0.0.9" });
  });

  test.each([null, undefined, 1, "x"])("rejects %p", (value) => {
    expect(() => Address.copy(value as never)).toThrow(
      /^expected an object \(struct \{ port: be16, host: ipv4 \}\), got /,
    );
    expect(() => Event.copy({ ...first, addr: value } as never)).toThrow(
      /^field "addr": expected an object/,
    );
  });

  test("names a missing field", () => {
    expect(() => Event.copy({ ...first, addr: { port: 1 } } as never)).toThrow(
      new TypeError('missing field "addr.host": expected ipv4'),
    );
  });

  test("accepts undefined as the value of a custom type", () => {
    const option = t.custom<undefined>({ size: 1, read: () => undefined, write: () => {} });
    expect(t.struct({ option }).copy({ option: undefined })).toStrictEqual({ option: undefined });
  });
});

const released = /^this event was released: .* copy it with type\.copy\(event\)/;

const everyKind = t.struct({
  u32: t.u32,
  u64: t.u64,
  u64Number: t.u64Number,
  bool: t.bool,
  short: t.bytes(5),
  long: t.bytes(40),
  comm: t.cstring(16),
  text: t.cstring(50),
  ipv4: t.ipv4,
  ipv6: t.ipv6,
  mac: t.mac,
  cidr: t.cidr6,
  array: t.array(t.u8, 3),
  loop: t.array(t.u8, 99),
  structs: t.array(Address, 2),
  custom: t.custom({
    size: 2,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, 2).slice(),
    write: () => {},
  }),
});

/** Returns the error of reading each field, or "nothing". */
function refusals(event: object): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of Object.keys(event)) {
    try {
      void (event as Record<string, unknown>)[name];
      found.set(name, "nothing");
    } catch (error) {
      found.set(name, String(error));
    }
  }
  return found;
}

describe("every getter of an event throws", () => {
  const view = () => new DataView(new ArrayBuffer(everyKind.size));

  test("before the first move, and after each release", () => {
    const cursor = everyKind.cursor();
    for (let i = 0; i < 3; i++) {
      const errors = refusals(cursor.event);
      expect(errors.size).toBe(16);
      for (const error of errors.values()) {
        expect(error).toMatch(
          /^Error: this event was released: its bytes may belong to another event/,
        );
      }
      cursor.moveTo(view(), 0);
      expect([...refusals(cursor.event).values()]).toEqual(new Array(16).fill("nothing"));
      cursor.release();
      cursor.release();
    }
  });

  test("if the view's buffer is detached", () => {
    const cursor = everyKind.cursor();
    const place = view();
    cursor.moveTo(place, 0);
    (place.buffer as ArrayBuffer).transfer(0);
    for (const error of refusals(cursor.event).values()) {
      expect(error).toMatch(/^TypeError: .*detached/);
    }
    expect(Bun.inspect(cursor.event)).toMatch(/^\[.*detached.*\]$/);
  });

  test("if the bytes lie outside the view", () => {
    const cursor = everyKind.cursor();
    const { custom: _, ...own } = Object.fromEntries(refusals(cursor.event));
    cursor.moveTo(view(), everyKind.size);
    for (const name of Object.keys(own)) {
      expect(() => cursor.event[name as "u32"]).toThrow(RangeError);
    }
  });

  test("also in nested events, and when copying", () => {
    const cursor = Event.cursor();
    const { event } = cursor;
    const { addr } = event;
    expect(() => addr.port).toThrow(released);
    cursor.moveTo(viewOf(Event, [first]), 0);
    expect(addr.port).toBe(443);
    cursor.release();
    expect(() => addr.port).toThrow(released);
    expect(() => Event.copy(event)).toThrow(released);
    expect(() => Address.copy(addr)).toThrow(released);
    expect(() => ({ ...event })).toThrow(released);
    expect(() => JSON.stringify(event)).toThrow(released);
  });
});

test("a released event is printed as its error", () => {
  const { event } = Event.cursor();
  for (const text of [inspect(event), Bun.inspect(event)]) {
    expect(text.slice(1, -1)).toMatch(released);
  }
  expect(inspect([event.addr])).toContain("this event was released");
});

test("cursors of one type move independently", () => {
  const view = viewOf(Event, [first, second]);
  const [one, two] = [Event.cursor(), Event.cursor()];
  one.moveTo(view, 0);
  two.moveTo(view, Event.size);
  expect([one.event.pid, two.event.pid]).toEqual([1, 2]);
  one.release();
  expect(() => one.event.pid).toThrow(released);
  expect(two.event.pid).toBe(2);
});
