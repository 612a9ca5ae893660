import { describe, expect, test } from "bun:test";
import { inspect } from "node:util";
import * as t from "../../src/types/t.ts";
import { viewOf } from "./view_of.ts";

const Address = t.struct({ port: t.be16, host: t.ipv4 });
const Event = t.struct({ pid: t.u32, addr: Address, ts: t.u64Number, comm: t.cstring(16) });
type Event = t.Infer<typeof Event>;
const first: Event = { pid: 1, addr: { port: 443, host: "10.0.0.1" }, ts: 5, comm: "bash" };
const second: Event = { pid: 2, addr: { port: 53, host: "10.0.0.2" }, ts: 2 ** 40, comm: "bun" };

const released = /^this event was released: .* copy what is needed \(type\.copy\(event\)\)/;

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

/** What reading a field throws. */
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

describe("every getter throws", () => {
  const view = () => new DataView(new ArrayBuffer(everyKind.size));

  test("before the first place, after a release, and after each further one", () => {
    const cursor = everyKind.cursor();
    for (let i = 0; i < 3; i++) {
      const errors = refusals(cursor.event);
      expect(errors.size).toBe(16);
      for (const error of errors.values()) {
        expect(error).toMatch(/^Error: this event was released: its bytes belong to another one/);
      }
      cursor.moveTo(view(), 0);
      expect([...refusals(cursor.event).values()]).toEqual(new Array(16).fill("nothing"));
      cursor.release();
      cursor.release();
    }
  });

  test("when the view's buffer is detached", () => {
    const cursor = everyKind.cursor();
    const place = view();
    cursor.moveTo(place, 0);
    (place.buffer as ArrayBuffer).transfer(0);
    for (const error of refusals(cursor.event).values()) {
      expect(error).toMatch(/^TypeError: .*detached/);
    }
    expect(Bun.inspect(cursor.event)).toMatch(/^\[.*detached.*\]$/);
  });

  test("when the bytes lie outside the view", () => {
    const cursor = everyKind.cursor();
    const { custom: _, ...own } = Object.fromEntries(refusals(cursor.event));
    cursor.moveTo(view(), everyKind.size);
    for (const name of Object.keys(own)) {
      expect(() => cursor.event[name as "u32"]).toThrow(RangeError);
    }
  });

  test("also those of structs within, and copies", () => {
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

test("a released event is printed as that", () => {
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
