import { type CType, cU32, cU64 } from "./c_type.ts";
import { defineType, type Recipe } from "./compile.ts";
import type { ArrayType, Fields, OpaqueKind, OpaqueType, StructType, Type } from "./type.ts";

/** Defines an opaque type. Its `read` and `write` throw; structs neither call them nor include the field in their value. */
function defineOpaque<Kind extends OpaqueKind>(
  kind: Kind,
  size: number,
  align: number,
  encode: CType["encode"],
): OpaqueType<Kind> {
  const refuse = (): never => {
    throw new TypeError(
      `${kind}: only the kernel reads and writes it; make it a field of a struct`,
    );
  };
  const recipe: Recipe<never> = {
    weight: 1,
    emitRead: (source) => `${source.capture(refuse)}()`,
    emitWrite: (source) => source.line(`${source.capture(refuse)}();`),
    read: refuse,
    write: refuse,
  };
  return defineType<never, OpaqueType<Kind>>(
    { kind, name: kind, size, align, opaque: true },
    recipe,
    { size, encode },
  );
}

/**
 * Spin lock, C's `struct bpf_spin_lock`: 4 bytes, aligned to 4. Programs lock it with `bpf_spin_lock()`
 * while they change the map's value.
 *
 * Make it a field of the struct that is the map's value; a struct can have one. The field takes 4 bytes but
 * is not part of the JavaScript value: reading leaves it out, and writing stores zero. The kernel finds the
 * lock as a member of the value's struct, since 6.11 also in nested structs, but not in arrays.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Account = t.struct({ lock: t.spinLock, packets: t.u64Number, bytes: t.u64Number });
 * console.log(Account.size, Account.fields.packets.offset); // 24 8
 *
 * const view = new DataView(new ArrayBuffer(Account.size));
 * Account.write(view, 0, { packets: 1, bytes: 60 });
 * console.log(Account.read(view, 0)); // { packets: 1, bytes: 60 }
 * ```
 *
 * Requires Linux 5.1.
 */
export const spinLock: OpaqueType<"spin_lock"> = /*@__PURE__*/ defineOpaque(
  "spin_lock",
  4,
  4,
  // The kernel recognizes locks and timers by the names of their structs.
  (types) => types.struct("bpf_spin_lock", 4, [{ name: "val", typeId: cU32(types), bitOffset: 0 }]),
);

/**
 * Timer, C's `struct bpf_timer`: 16 bytes, aligned to 8. Programs set it with `bpf_timer_init()` and
 * `bpf_timer_start()`.
 *
 * Make it a field of the struct that is the map's value; a struct can have one. The field takes 16 bytes
 * but is not part of the JavaScript value: reading leaves it out, and writing stores zero.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Session = t.struct({ pid: t.u32, expiry: t.timer });
 * console.log(Session.size, Session.fields.expiry.offset); // 24 8
 *
 * const session: t.Infer<typeof Session> = { pid: 1 };
 * Session.write(new DataView(new ArrayBuffer(Session.size)), 0, session);
 * ```
 *
 * Requires Linux 5.15.
 */
export const timer: OpaqueType<"timer"> = /*@__PURE__*/ defineOpaque("timer", 16, 8, (types) =>
  types.struct("bpf_timer", 16, [
    { name: "__opaque", typeId: types.array(cU64(types), 2), bitOffset: 0 },
  ]),
);

/** Returns true for an opaque type, which only the kernel reads and writes. */
export function isOpaque(type: Type<unknown>): type is OpaqueType {
  return (type as Partial<OpaqueType>).opaque === true;
}

/**
 * Returns true for a struct with a spin lock as its own member, where every kernel since 5.1 finds it
 * (`btf_find_field` in kernel/bpf/btf.c). A lock in a nested struct does not count: kernels before 6.11 do
 * not find it.
 */
export function hasSpinLock(type: Type<unknown>): boolean {
  if (type.kind !== "struct") return false;
  const { fields = {} } = type as Partial<StructType<Fields>>;
  return Object.values(fields).some((field) => field.type.kind === "spin_lock");
}

/**
 * Returns true for a type with opaque fields, at any depth.
 *
 * @param outer enclosing types. The search stops at a type that contains itself, as only a type that `t` did not make can
 */
export function hasOpaqueField(type: Type<unknown>, outer: readonly Type<unknown>[] = []): boolean {
  if (outer.includes(type)) return false;
  const {
    kind,
    fields = {},
    element,
  } = type as {
    readonly kind: string;
    readonly fields?: Readonly<Record<string, { readonly type?: Type<unknown> } | undefined>>;
    readonly element?: Type<unknown>;
  };
  const innerTypes =
    kind === "struct" ? Object.values(fields).map((field) => field?.type) : [element];
  return innerTypes.some(
    // The inner type can be undefined only in a type that `t` did not make.
    (inner) => inner && (isOpaque(inner) || hasOpaqueField(inner, [...outer, type])),
  );
}

/** An opaque field, and its offset in bytes from the start of the outermost type. */
export interface OpaqueFieldPlace {
  readonly type: OpaqueType;
  readonly offset: number;
}

/**
 * Yields the opaque fields of a type, at any depth. In an array it yields those of the first two elements.
 *
 * @param outer enclosing types. The search stops at a type that contains itself, as only a type that `t` did not make can
 */
export function* opaqueFields(
  type: Type<unknown>,
  offset: number,
  outer: readonly Type<unknown>[] = [],
): Generator<OpaqueFieldPlace, void, undefined> {
  if (isOpaque(type)) {
    yield { type, offset };
  } else if (outer.includes(type)) {
    return;
  } else if (type.kind === "struct") {
    const { fields = {} } = type as Partial<StructType<Fields>>;
    for (const field of Object.values(fields)) {
      // The inner type can be undefined only in a type that `t` did not make.
      if (!field?.type) continue;
      yield* opaqueFields(field.type, offset + field.offset, [...outer, type]);
    }
  } else if (type.kind === "array") {
    const { element, length = 0 } = type as Partial<ArrayType<unknown>>;
    if (element === undefined) return;
    for (const field of opaqueFields(element, offset, [...outer, type])) {
      yield field;
      if (length > 1) yield { ...field, offset: field.offset + element.size };
    }
  }
}
