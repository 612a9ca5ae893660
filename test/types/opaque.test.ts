import { describe, expect, expectTypeOf, test } from "bun:test";
import { Btf } from "../../src/index.ts";
import { hasOpaqueField, hasSpinLock } from "../../src/types/opaque.ts";
import * as t from "../../src/types/t.ts";
import { kernelTypesTest } from "../btf/kernel_types.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";

const Account = t.struct({ flags: t.u8, lock: t.spinLock, bytes: t.u32, expiry: t.timer });
const Holder = t.struct({ id: t.u32, account: Account });
const Pure = t.struct({ expiry: t.timer });

kernelTypesTest("opaque types have the kernel's sizes", () => {
  const btf = Btf.kernel();
  for (const [type, name] of [
    [t.spinLock, "bpf_spin_lock"],
    [t.timer, "bpf_timer"],
  ] as const) {
    const id = btf.find("struct", name);
    // Timers exist since 5.15.
    if (id === undefined && name === "bpf_timer" && !isKernelSince("5.15")) continue;
    if (id === undefined) expect.unreachable();
    expect(btf.sizeOf(id)).toBe(type.size);
  }
});

test("opaque types have the properties of their type", () => {
  expect(t.spinLock).toMatchObject({ kind: "spin_lock", size: 4, align: 4, opaque: true });
  expect(t.timer).toMatchObject({ kind: "timer", size: 16, align: 8, opaque: true });
  expect(Account.name).toBe("struct { flags: u8, lock: spin_lock, bytes: u32, expiry: timer }");
});

describe("opaque fields of a struct", () => {
  test("have the offset of C", () => {
    expect(Account.fields.lock).toEqual({ type: t.spinLock, offset: 4 });
    expect(Account.fields.expiry).toEqual({ type: t.timer, offset: 16 });
    expect({ size: Account.size, align: Account.align }).toEqual({ size: 32, align: 8 });
    expect(Holder.fields.account.offset).toBe(8);
  });

  test("are left out by read()", () => {
    expect(decode(Account, "ff".repeat(32))).toStrictEqual({ flags: 255, bytes: 0xffff_ffff });
    const holder = { id: 1, account: { flags: 2, bytes: 3 } };
    expect(roundTrip(Holder, holder)).toStrictEqual(holder);
  });

  test("are written as zero", () => {
    expect(encode(Account, { flags: 255, bytes: 0xffff_ffff })).toBe(
      "ff00000000000000ffffffff000000000000000000000000" + "00".repeat(8),
    );
  });

  test("are rejected in a value", () => {
    const hint = "only the kernel writes a spin_lock: leave it out";
    expect(refusal(Account, { flags: 1, lock: 0, bytes: 1 })).toBe(
      `TypeError: unknown field "lock": ${hint}`,
    );
    expect(refusal(Account, { flags: 1, lock: undefined })).toContain('unknown field "lock"');
    expect(refusal(Holder, { id: 1, account: { flags: 1, lock: 0, bytes: 1 } })).toBe(
      `TypeError: unknown field "account.lock": ${hint}`,
    );
    expect(refusal(Account, { flags: 1, bytez: 1 })).toBe(
      'TypeError: unknown field "bytez": did you mean "bytes"?',
    );
  });

  test("can be its only fields, with {} as the value", () => {
    expect(roundTrip(Pure, {})).toStrictEqual({});
    expect(encode(Pure, {})).toBe("00".repeat(16));
    expect(refusal(Pure, { expiry: 1 })).toContain("only the kernel writes a timer");
    expect(refusal(Pure, { other: 1 })).toBe(
      'TypeError: unknown field "other": the value is an object without fields',
    );
    expect(refusal(Pure, null)).toStartWith("TypeError: expected an object");
    const many = t.array(Pure, 1000);
    expect(roundTrip(many, new Array(1000).fill({}))).toHaveLength(1000);
    many.read(new DataView(new ArrayBuffer(many.size)), 0);
    expect(many.read.toString().length).toBeLessThan(1000);
  });

  test("can have any name", () => {
    const type = t.struct({ ["__proto__"]: t.spinLock, "a b": t.timer, value: t.u8 });
    expect(roundTrip(type, { value: 7 } as t.StructValue<typeof type.fields & t.Fields>)).toEqual({
      value: 7,
    });
  });

  test("cannot be two of one kind, which the kernel rejects or warns about", () => {
    const second = "a struct can have only one spin_lock";
    expect(() => t.struct({ a: t.spinLock, b: t.spinLock })).toThrow(
      new TypeError(`struct(fields): field "b": ${second}`),
    );
    expect(() => t.struct({ account: Account, lock: t.spinLock })).toThrow(second);
    expect(() => t.struct({ accounts: t.array(Account, 2) })).toThrow(second);
    expect(t.struct({ accounts: t.array(Account, 1) }).size).toBe(32);
  });

  test("must be aligned in a packed struct", () => {
    expect(t.struct({ lock: t.spinLock, a: t.u8 }, { packed: true }).size).toBe(5);
    expect(() => t.struct({ a: t.u8, lock: t.spinLock }, { packed: true })).toThrow(
      new RangeError(
        'struct(fields): field "lock": expected an offset that is a multiple of 4 (spin_lock), got 1',
      ),
    );
    expect(() => t.struct({ a: t.u8, holder: Holder }, { packed: true })).toThrow(
      'field "holder": expected an offset that is a multiple of 4 (spin_lock), got 13',
    );
  });
});

describe("opaque types outside of a struct", () => {
  test.each([t.spinLock, t.timer])("cannot be read or written: $kind", (type) => {
    const view = new DataView(new ArrayBuffer(16));
    const message = `${type.kind}: only the kernel reads and writes it; make it a field of a struct`;
    expect(() => type.read(view, 0)).toThrow(new TypeError(message));
    expect(() => type.write(view, 0, 0 as never)).toThrow(new TypeError(message));
  });

  test("cannot be elements of an array", () => {
    expect(() => t.array(t.spinLock, 2)).toThrow(
      new TypeError(
        "array(element): expected a type with values, got spin_lock: make it a field of a struct",
      ),
    );
  });
});

test("hasSpinLock() and hasOpaqueField() find opaque fields", () => {
  const foreign = { ...t.u32, kind: "struct" };
  const own = { ...t.u32, kind: "struct", fields: {} as Record<string, unknown> };
  own.fields["self"] = { type: own, offset: 0 };
  for (const [type, direct, anywhere] of [
    [Account, true, true],
    [Holder, false, true],
    [Pure, false, true],
    [t.array(Holder, 3), false, true],
    [t.array(t.struct({ a: t.u32 }), 3), false, false],
    [t.u32, false, false],
    [t.spinLock, false, false],
    [foreign, false, false],
    [{ ...foreign, kind: "array" }, false, false],
    [own, false, false],
  ] as [t.Type<unknown>, boolean, boolean][]) {
    expect([hasSpinLock(type), hasOpaqueField(type)]).toEqual([direct, anywhere]);
  }
});

test("inferred types have no opaque fields", () => {
  expectTypeOf<t.Infer<typeof Holder>>().toEqualTypeOf<{
    id: number;
    account: { flags: number; bytes: number };
  }>();
  expectTypeOf<t.Infer<typeof Pure>>().toEqualTypeOf<{}>();
  expectTypeOf<t.Inside<typeof Account>>().toHaveProperty("lock");
  expectTypeOf<t.Inside<typeof Account>["lock"]>().toEqualTypeOf<t.KernelField<"spin_lock">>();
  expectTypeOf(Account.fields.lock.type).toEqualTypeOf<t.OpaqueType<"spin_lock">>();
  const view = new DataView(new ArrayBuffer(Account.size));
  const refused = (): void => {
    // @ts-expect-error: an opaque field
    Account.write(view, 0, { flags: 1, bytes: 1, lock: 0 });
    // @ts-expect-error: a type without values
    t.spinLock.write(view, 0, 0);
  };
  void refused;
});
