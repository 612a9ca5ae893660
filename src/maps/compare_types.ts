import { Btf } from "../btf/btf.ts";
import { identifiers, isBits } from "../types/c_members.ts";
import type { BtfType } from "../btf/graph.ts";
import type { ArrayType, FieldPlace, Fields, StructType, Type } from "../types/type.ts";
import type { BpfMap } from "./bpf_map.ts";

/**
 * Compares the types of keys and values of a map object with the types that the kernel has for the map. Returns true if they
 * match, and false if the kernel has no types. A map has types if this library or libbpf created it with types that exist in
 * C.
 *
 * Opening a map compares only sizes, because one type can be described in many ways. Therefore opening does not detect a
 * wrong type of the same size, which reads the wrong fields. This function compares the layouts: names of fields (ignoring
 * case and underscores), offsets and sizes of fields (in bits for bit-fields), and lengths of arrays. It also distinguishes
 * integers from floating-point numbers. Signs, byte orders and names of types may differ, as those of `int` and `t.u32`.
 * Bytes, texts, addresses and custom types match anything of their size.
 *
 * @throws {TypeError} that lists each difference.
 * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { checkMapTypes, HashMap, t } from "bun-bpf";
 * const Traffic = t.struct({ packets: t.u32, bytes: t.u32 });
 * using map = new HashMap({ key: t.u32, value: Traffic, maxEntries: 8 });
 * using swapped = HashMap.fromFd(map.fd, {
 *   key: t.u32,
 *   value: t.struct({ bytes: t.u32, packets: t.u32 }),
 * });
 * try {
 *   checkMapTypes(swapped);
 * } catch (error) {
 *   console.log(String(error)); // value.bytes is at byte 0 here, and at 4 in the kernel
 * }
 * ```
 *
 * Requires Linux 4.18 and CAP_SYS_ADMIN.
 */
export function checkMapTypes(map: BpfMap): boolean {
  const { btfId, btfKeyTypeId, btfValueTypeId } = map.info();
  if (btfId === 0) return false;
  const { key, value } = ((map as { types?: object }).types ?? {}) as {
    readonly [Name in "key" | "value"]?: Type<unknown>;
  };
  const comparison = new Comparison(Btf.fromId(btfId));
  const isComparable = [
    btfKeyTypeId !== 0 && key !== undefined && comparison.compare("key", key, btfKeyTypeId),
    btfValueTypeId !== 0 &&
      value !== undefined &&
      comparison.compare("value", value, btfValueTypeId),
  ].includes(true);
  const { differences } = comparison;
  if (differences.length === 0) return isComparable;
  throw new TypeError(
    `the types of the ${map} differ from those that the kernel has for it: ${differences.join("; ")}`,
  );
}

/** Form of a value. Types without a form match anything of their size. */
type Form = "a struct" | "an array" | "an integer" | "a floating-point number";

/** Comparison of `t` types with types of the kernel, which collects the differences. */
class Comparison {
  readonly differences: string[] = [];
  readonly #btf: Btf;

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** Adds the differences between a `t` type and a type of the kernel. `path` is the name of the field in messages. */
  compare(path: string, declared: Type<unknown>, id: number): true {
    const size = this.#btf.sizeOf(id);
    const found = this.#btf.resolve(id);
    const [form, foundForm] = [formOf(declared), this.#formOf(found)];
    if (declared.size !== size) this.#note(`${path} has ${declared.size} bytes here, and ${size}`);
    else if (form === undefined || foundForm === undefined) return true;
    else if (form !== foundForm) this.#note(`${path} is ${form} here, and ${foundForm}`);
    else if (form === "a struct")
      this.#compareFields(path, declared as StructType<Fields>, found.id);
    else if (form === "an array") {
      const { element, length } = declared as ArrayType<unknown>;
      if (length === found.length) return this.compare(`${path}[]`, element, found.typeId);
      this.#note(`${path} has ${length} elements here, and ${found.length}`);
    }
    return true;
  }

  #compareFields(path: string, { fields }: StructType<Fields>, id: number): void {
    const members = this.#members(id);
    // An array of bytes in the kernel's type may stand for anything, for example for several bit-fields.
    const bytes = members.filter((member) => this.#isBytes(member));
    const names = identifiers(Object.keys(fields));
    for (const [index, place] of Object.values(fields).entries()) {
      const { type, offset } = place;
      const name = names[index] as string;
      const inside = `${path}.${name}`;
      const member = removeByName(members, name);
      if (isBits(type) && bytes.some((run) => this.#covers(run, place))) continue;
      if (member === undefined) {
        // A field of bytes that the kernel's type lacks is padding there.
        if (formOf(type) !== undefined || isBits(type))
          this.#note(`${inside} is present here, and missing`);
      } else if (isBits(type) || member.bitSize !== 0) this.#compareBits(inside, place, member);
      else if (member.bitOffset === offset * 8) this.compare(inside, type, member.typeId);
      else this.#note(`${inside} is at byte ${offset} here, and at ${member.bitOffset / 8}`);
    }
    for (const { name, isAlternative } of members) {
      if (!isAlternative) this.#note(`${path}.${name} is missing here, and present`);
    }
  }

  /** Adds the differences of two members of which at least one is a bit-field. */
  #compareBits(
    path: string,
    { type, offset, bitOffset = offset * 8 }: PlacedField,
    member: Member,
  ): void {
    const [bits, found] = [bitsOf(type), this.#bitsOf(member)];
    if (!isBits(type) && formOf(type) === undefined) return;
    if (bits !== found) this.#note(`${path} has ${bits} bits here, and ${found}`);
    else if (bitOffset !== member.bitOffset) {
      this.#note(`${path} is at bit ${bitOffset} here, and at ${member.bitOffset}`);
    }
  }

  #bitsOf({ bitSize, typeId }: Member): number {
    return bitSize === 0 ? this.#btf.sizeOf(typeId) * 8 : bitSize;
  }

  #isBytes({ bitSize, typeId }: Member): boolean {
    return bitSize === 0 && this.#formOf(this.#btf.resolve(typeId)) === undefined;
  }

  /** Returns true if a member of the kernel's type covers the last bit of a bit-field. */
  #covers(member: Member, { type, offset, bitOffset = offset * 8 }: PlacedField): boolean {
    const last = bitOffset + bitsOf(type) - 1;
    return member.bitOffset <= last && last < member.bitOffset + this.#bitsOf(member);
  }

  /**
   * Returns the members of a struct, including those of anonymous members. If an anonymous member is a union, the declared
   * type may have any one of its members.
   */
  #members(id: number, bitOffset = 0, isAlternative = false): Member[] {
    return this.#btf.members(id).flatMap((member) => {
      const at = bitOffset + member.bitOffset;
      const { kind, id: inner } = this.#btf.resolve(member.typeId);
      if (member.name !== "") return { ...member, bitOffset: at, isAlternative };
      if (kind !== "struct" && kind !== "union") return [];
      return this.#members(inner, at, isAlternative || kind === "union");
    });
  }

  #formOf({ id, kind, name, typeId }: BtfType): Form | undefined {
    switch (kind) {
      case "struct":
        // Addresses may be read as numbers or bytes. A struct without members stands for a floating-point number: kernels
        // before 5.13 lack BTF_KIND_FLOAT.
        return /^in6?_addr$/.test(name) || this.#btf.members(id).length === 0
          ? undefined
          : "a struct";
      case "array":
        // Arrays of bytes may be read as anything.
        return this.#btf.sizeOf(typeId) === 1 ? undefined : "an array";
      case "int":
      case "enum":
      case "enum64":
      case "ptr":
        return "an integer";
      case "float":
        return "a floating-point number";
      default:
        return undefined;
    }
  }

  #note(difference: string): void {
    this.differences.push(`${difference} in the kernel`);
  }
}

interface Member {
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  readonly bitSize: number;
  readonly isAlternative: boolean;
}

type PlacedField = FieldPlace<Type<unknown>>;

function bitsOf(type: Type<unknown>): number {
  return isBits(type) ? type.width : type.size * 8;
}

function formOf(type: Type<unknown>): Form | undefined {
  // A custom type can have any `kind`, so the properties of structs and arrays are checked too.
  const { fields } = type as Partial<StructType<Fields>>;
  const { element } = type as Partial<ArrayType<unknown>>;
  if (type.kind === "struct") return fields && "a struct";
  if (type.kind === "array") return element && element.size !== 1 ? "an array" : undefined;
  if (/^f(32|64)$/.test(type.kind)) return "a floating-point number";
  return /^([ui](8|16|32|64)(Number)?|be(16|32|64)|bool|enum)$/.test(type.kind)
    ? "an integer"
    : undefined;
}

/**
 * Removes the member with a name from a list and returns it. Falls back to a member whose name differs in case and
 * underscores only.
 */
function removeByName(members: Member[], name: string): Member | undefined {
  const letters = (text: string) => text.replaceAll("_", "").toLowerCase();
  let index = members.findIndex((member) => member.name === name);
  if (index < 0) index = members.findIndex((member) => letters(member.name) === letters(name));
  return index < 0 ? undefined : members.splice(index, 1)[0];
}
