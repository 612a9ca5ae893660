import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { viewOf } from "./view_of.ts";

const Address = t.struct({ port: t.be16, host: t.ipv4 });
const Event = t.struct({ pid: t.u32, addr: Address, ts: t.u64Number, comm: t.cstring(16) });
type Event = t.Infer<typeof Event>;
const first: Event = { pid: 1, addr: { port: 443, host: "10.0.0.1" }, ts: 5, comm: "bash" };
const second: Event = { pid: 2, addr: { port: 53, host: "10.0.0.2" }, ts: 2 ** 40, comm: "bun" };

describe("copy", () => {
  test("gives a plain object that stays, at all depths", () => {
    const cursor = Event.cursor();
    cursor.moveTo(viewOf(Event, [first]), 0);
    const copies = [Event.copy(cursor.event), Event.copy({ ...cursor.event })];
    const part = Address.copy(cursor.event.addr);
    cursor.moveTo(viewOf(Event, [second]), 0);
    for (const copy of copies) expect(copy).toStrictEqual(first);
    expect(part).toStrictEqual(first.addr);
  });

  test("takes plain objects, and takes over what is no struct", () => {
    const type = t.struct({ list: t.array(t.u8, 2), inner: Address, raw: t.bytes(1) });
    const value = { list: [1, 2], inner: { port: 1, host: "10.0.0.1" }, raw: new Uint8Array(1) };
    const copy = type.copy({ ...value, extra: 1 } as typeof value);
    expect(copy).toStrictEqual(value);
    expect(copy).not.toBe(value);
    expect(copy.inner).not.toBe(value.inner);
    expect(copy.list).toBe(value.list);
    expect(copy.raw).toBe(value.raw);
  });

  test("takes the event of another type that has the fields", () => {
    const Wide = t.struct({ host: t.ipv4, more: t.u32, port: t.be16 });
    const cursor = Wide.cursor();
    cursor.moveTo(viewOf(Wide, [{ host: "10.0.0.9", more: 1, port: 9 }]), 0);
    expect(Address.copy(cursor.event)).toStrictEqual({ port: 9, host: "10.0.0.9" });
  });

  test.each([null, undefined, 1, "x"])("refuses %p", (value) => {
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

  test("takes undefined where a custom type means it", () => {
    const option = t.custom<undefined>({ size: 1, read: () => undefined, write: () => {} });
    expect(t.struct({ option }).copy({ option: undefined })).toStrictEqual({ option: undefined });
  });
});
