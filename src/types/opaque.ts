import { type CType, cU32, cU64 } from "./c_type.ts";
import { defineType, type Recipe } from "./compile.ts";
import type { ArrayType, Fields, OpaqueKind, OpaqueType, StructType, Type } from "./type.ts";

function opaque<Kind extends OpaqueKind>(
  kind: Kind,
  size: number,
  align: number,
  encode: CType["encode"],
): OpaqueType<Kind> {
  const refuse = (): never => {
    throw new TypeError(
      `${kind}: expected to be a field of a struct: user space neither reads nor writes it`,
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
 * `struct bpf_spin_lock`: what programs lock a value with: 4 bytes, aligned to 4. Put it into the
 * struct that is the map's value, once. It takes its place there, but is no part of the JavaScript
 * value: reading leaves it out, and writing stores zero.
 *
 * The kernel looks for it directly in the value's struct. Since 6.11 it also finds one in a struct
 * within, where no earlier kernel does, but none in an array.
 *
 * Kernel 5.1.
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
 */
export const spinLock: OpaqueType<"spin_lock"> = /*@__PURE__*/ opaque(
  "spin_lock",
  4,
  4,
  // The kernel knows locks and timers by their names.
  (types) => types.struct("bpf_spin_lock", 4, [{ name: "val", typeId: cU32(types), bitOffset: 0 }]),
);

/**
 * `struct bpf_timer`: a timer that programs set: 16 bytes, aligned to 8. Put it into the struct that is
 * the map's value, once; it is no part of the JavaScript value, as {@link spinLock} is not.
 *
 * Kernel 5.15.
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
 */
export const timer: OpaqueType<"timer"> = /*@__PURE__*/ opaque("timer", 16, 8, (types) =>
  types.struct("bpf_timer", 16, [
    { name: "__opaque", typeId: types.array(cU64(types), 2), bitOffset: 0 },
  ]),
);

/** Whether a type is one that user space neither reads nor writes. */
export function isOpaque(type: Type<unknown>): type is OpaqueType {
  return (type as Partial<OpaqueType>).opaque === true;
}

/**
 * Whether a type is a struct with a spin lock directly in it, where every kernel that has spin locks
 * finds it (`btf_find_field` in kernel/bpf/btf.c). One in a struct within does not count: only since 6.11
 * does the kernel look there.
 */
export function hasSpinLock(type: Type<unknown>): boolean {
  if (type.kind !== "struct") return false;
  const { fields = {} } = type as Partial<StructType<Fields>>;
  return Object.values(fields).some((field) => field.type.kind === "spin_lock");
}

/**
 * Returns true where a type has opaque fields, at any depth: the kernel has to be told where they are.
 *
 * @param outer the types around it: a type that others made may claim to contain itself
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
  const parts = kind === "struct" ? Object.values(fields).map((field) => field?.type) : [element];
  return parts.some(
    // A type that others made may have anything there.
    (part) => part && (isOpaque(part) || hasOpaqueField(part, [...outer, type])),
  );
}

/** A field of an opaque type, and where it is in what surrounds it. */
export interface OpaqueFieldPlace {
  readonly type: OpaqueType;
  readonly offset: number;
}

/**
 * The opaque types that a type consists of, at any depth; of an array, those of its first two elements.
 *
 * @param outer the types around it: a type that others made may claim to contain itself
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
      // A type that others made may have anything there.
      if (!field?.type) continue;
      yield* opaqueFields(field.type, offset + field.offset, [...outer, type]);
    }
  } else if (type.kind === "array") {
    const { element, length = 0 } = type as Partial<ArrayType<unknown>>;
    if (element === undefined) return;
    for (const part of opaqueFields(element, offset, [...outer, type])) {
      yield part;
      if (length > 1) yield { ...part, offset: part.offset + element.size };
    }
  }
}
