/** @module Memory of the kernel, with the types of its BTF. */

import type { Btf } from "../../btf/btf.ts";
import type { BtfMember, BtfType } from "../../btf/graph.ts";
import { closest } from "../../check/names.ts";
import type { AccessSize, Node } from "../ir/ir.ts";
import { knownArgument } from "./globals.ts";
import { loadValue, MemoryBytes } from "./memory.ts";
import { numberOf } from "./numbers.ts";
import { TypeValue } from "./type_value.ts";
import { WrittenText } from "./text.ts";
import {
  AbsentValue,
  type Argument,
  BigintValue,
  BooleanValue,
  NumberValue,
  type Shape,
  type Syntax,
  Value,
  argument,
  type Lowering,
} from "./value.ts";
import { type MemoryPlace, newSlot, stablePlace, zeroBytes } from "./memory_place.ts";

/** A type of the kernel. */
export interface KernelType {
  readonly btf: Btf;
  readonly id: number;
}

/** Returns the type without typedefs and qualifiers. */
const resolve = ({ btf, id }: KernelType): BtfType => btf.resolve(id);

/** The way in which the program may read through a pointer. */
export type Access =
  /** The verifier knows the type of the pointer: loads read directly. */
  | "direct"
  /** Helper functions read. */
  | "probe";

/** Greatest length of strings that are read from memory, by default. */
const defaultTextLength = 64;

/** An address in memory of the kernel or of a process. */
export class PointerValue extends Value {
  readonly node: Node;
  readonly access: Access;
  /** The type of the memory; `undefined` if it is not known. */
  readonly target: KernelType | undefined;

  constructor(node: Node, target: KernelType | undefined, access: Access) {
    super();
    this.node = node;
    this.target = target;
    this.access = access;
  }

  override describe(): string {
    if (this.target === undefined) return "a pointer";
    const { kind, name } = resolve(this.target);
    return `a pointer to ${kind === "struct" || kind === "union" ? `${kind} ${name}`.trim() : name || kind}`;
  }

  override shape(): Shape {
    const { target, access } = this;
    return {
      key: `pointer ${target?.id ?? ""} ${access}`,
      count: 1,
      toNodes: (l, value) => [value instanceof PointerValue ? value.node : l.b.constant(0)],
      fromNodes: (_l, [node]) => new PointerValue(node as Node, target, access),
      // null is the address 0. A pointer that was merged with it is read by helpers.
      join: (other) =>
        other.key === "null" ||
        (other.key.startsWith("pointer ") && other.key.split(" ")[1] === `${target?.id ?? ""}`)
          ? new PointerValue(this.node, target, "probe").shape()
          : undefined,
    };
  }

  override truth(l: Lowering): Node {
    return l.b.compare("ne", this.node, 0);
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (other instanceof PointerValue) return l.b.compare("eq", this.node, other.node);
    if (!(other instanceof AbsentValue)) return undefined;
    return other.which === "null" ? l.b.compare("eq", this.node, 0) : false;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (this.target !== undefined) {
      const { kind, id } = resolve(this.target);
      if (kind === "struct" || kind === "union") {
        const place = { btf: this.target.btf, pointer: this.node, offset: 0, access: this.access };
        const member = this.target.btf.member(id, name);
        if (member !== undefined) return readMember(l, place, member, at);
      }
    }
    if (name === "address") return new BigintValue(this.node, false);
    const hint =
      this.target === undefined
        ? 'Give it a type: pointer.as("task_struct")'
        : suggestMember(this.target, name);
    return l.refuse(at, `${this.describe()} has no member ${JSON.stringify(name)}`, hint);
  }

  /** Returns true if the memory has a member of a name. */
  hasMember(name: string): boolean {
    return this.target !== undefined && this.target.btf.member(this.target.id, name) !== undefined;
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return pointerMethod(l, this, name, args, at);
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    if (this.target === undefined) return super.element(l, index, at);
    const { btf } = this.target;
    const size = btf.sizeOf(this.target.id);
    const known = index.known?.value;
    const offset =
      typeof known === "number"
        ? l.b.binary("add", this.node, l.b.constant(known * size))
        : l.b.binary("add", this.node, l.b.binary("mul", numberOf(l, index, at).node(l.b), size));
    const place = { btf, pointer: offset, offset: 0, access: "probe" as const };
    return readType(l, place, this.target.id, at);
  }
}

/** A place in memory of the kernel. */
interface KernelPlace {
  readonly btf: Btf;
  readonly pointer: Node;
  readonly offset: number;
  readonly access: Access;
}

/** A struct or union inside of other memory. */
class EmbeddedValue extends Value {
  readonly #place: KernelPlace;
  readonly #type: BtfType;

  constructor(place: KernelPlace, type: BtfType) {
    super();
    this.#place = place;
    this.#type = type;
  }

  override describe(): string {
    return `the ${this.#type.kind} ${this.#type.name}`;
  }

  override shape(): Shape {
    return this.pointer(undefined).shape();
  }

  /** Returns a pointer to the struct. */
  pointer(l: Lowering | undefined): PointerValue {
    const { pointer, offset, access, btf } = this.#place;
    const node = l === undefined ? pointer : l.b.address(pointer, offset);
    return new PointerValue(node, { btf, id: this.#type.id }, access);
  }

  override truth(): boolean {
    return true;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const member = this.#place.btf.member(this.#type.id, name);
    if (member !== undefined) return readMember(l, this.#place, member, at);
    return this.pointer(l).property(l, name, at);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return this.pointer(l).callMethod(l, name, args, at);
  }
}

/** An array inside of other memory. */
class KernelArray extends Value {
  readonly #place: KernelPlace;
  readonly #type: BtfType;

  constructor(place: KernelPlace, type: BtfType) {
    super();
    this.#place = place;
    this.#type = type;
  }

  override describe(): string {
    return "an array of the kernel";
  }

  override shape(): Shape {
    const { pointer, offset } = this.#place;
    return {
      key: `kernel array ${this.#type.id} ${offset}`,
      count: 1,
      toNodes: () => [pointer],
      fromNodes: (_l, [node]) =>
        new KernelArray({ ...this.#place, pointer: node as Node }, this.#type),
    };
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return name === "length" ? new NumberValue(this.#type.length) : super.property(l, name, at);
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    const { btf } = this.#place;
    const { typeId, length } = this.#type;
    const size = btf.sizeOf(typeId);
    const known = index.known?.value;
    if (typeof known === "number") {
      if (known < 0 || (length > 0 && known >= length)) {
        l.refuse(at, `the array has ${length} elements`, `Use an index from 0 to ${length - 1}`);
      }
      return readType(l, { ...this.#place, offset: this.#place.offset + known * size }, typeId, at);
    }
    const { b } = l;
    const bytes = b.binary("mul", numberOf(l, index, at).node(b), size);
    const start = b.binary("add", b.address(this.#place.pointer, this.#place.offset), bytes);
    return readType(l, { btf, pointer: start, offset: 0, access: "probe" }, typeId, at);
  }
}

function suggestMember({ btf, id }: KernelType, name: string): string | undefined {
  const type = btf.resolve(id);
  if (type.kind !== "struct" && type.kind !== "union") return undefined;
  const near = closest(
    name,
    btf.members(type.id).map((member) => member.name),
  );
  return near === undefined
    ? "The members are those of the running kernel"
    : `Did you mean ${near}?`;
}

function readMember(l: Lowering, place: KernelPlace, member: BtfMember, at: Syntax): Value {
  const { bitOffset, bitSize, typeId } = member;
  if (bitSize !== 0) return readBits(l, place, member);
  return readType(l, { ...place, offset: place.offset + bitOffset / 8 }, typeId, at);
}

/** Reads some bytes of a place as an integer. */
function readInteger(l: Lowering, place: KernelPlace, size: AccessSize, signed: boolean): Node {
  const { b } = l;
  const { pointer, offset } = place;
  if (place.access === "direct")
    return b.load(pointer, offset, size, { signed: signed && size < 8 });
  const room = b.slot({ size: 8, align: 8, name: "read" });
  // The helper fills the room with zeros if the address is bad.
  b.store(room, 0, 8, 0);
  b.callHelper("probe_read_kernel", room, size, b.binary("add", pointer, b.constant(offset)));
  return b.load(room, 0, size, { signed: signed && size < 8 });
}

function readBits(l: Lowering, place: KernelPlace, member: BtfMember): Value {
  const { b } = l;
  const { bitOffset, bitSize, typeId } = member;
  const type = place.btf.resolve(typeId);
  const isSigned = type.kind === "int" && place.btf.integer(type.id).isSigned;
  // The smallest aligned unit that holds all bits.
  let size: AccessSize = 1;
  while (
    size < 8 &&
    Math.floor(bitOffset / (size * 8)) !== Math.floor((bitOffset + bitSize - 1) / (size * 8))
  ) {
    size = (size * 2) as AccessSize;
  }
  const start = Math.floor(bitOffset / (size * 8)) * size;
  const unit = readInteger(l, { ...place, offset: place.offset + start }, size, false);
  const low = bitOffset - start * 8;
  const high = b.binary("lsh", unit, 64 - low - bitSize);
  const value = b.binary(isSigned ? "arsh" : "rsh", high, 64 - bitSize);
  return integerValue(l, value, bitSize, isSigned);
}

function integerValue(l: Lowering, node: Node, bits: number, isSigned: boolean): Value {
  if (bits > 32) return new BigintValue(node, isSigned);
  const range = isSigned
    ? { min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 }
    : { min: 0, max: 2 ** bits - 1 };
  return new NumberValue(l.b.number(node, range));
}

/** Returns true for integers of one byte, which strings are made of. */
function isCharacter(btf: Btf, id: number): boolean {
  const { kind, size } = btf.resolve(id);
  return kind === "int" && size === 1;
}

/** Reads a value of a kernel type. Structs, unions and arrays are read when their parts are. */
export function readType(l: Lowering, place: KernelPlace, typeId: number, at: Syntax): Value {
  const { b } = l;
  const { btf } = place;
  const type = btf.resolve(typeId);
  switch (type.kind) {
    case "int": {
      const { isBool, isSigned } = btf.integer(type.id);
      if (type.size > 8)
        return l.refuse(at, `integers of ${type.size} bytes are not in the language`);
      const node = readInteger(l, place, type.size as AccessSize, isSigned && !isBool);
      if (isBool) return new BooleanValue(b.compare("ne", node, 0));
      return integerValue(l, node, type.size * 8, isSigned);
    }
    case "enum":
    case "enum64": {
      const isSigned = type.isSigned ?? false;
      return integerValue(
        l,
        readInteger(l, place, type.size as AccessSize, isSigned),
        type.size * 8,
        isSigned,
      );
    }
    case "ptr":
      return pointerTo(btf, readInteger(l, place, 8, false), type.typeId, place.access);
    case "struct":
    case "union":
      return new EmbeddedValue(place, type);
    case "array":
      if (isCharacter(btf, type.typeId) && type.length > 0) {
        const address = b.address(place.pointer, place.offset);
        return textAt("probe_read_kernel_str", address, type.length);
      }
      return new KernelArray(place, type);
    default:
      return l.refuse(at, `values of the kind ${type.kind} are not in the language`);
  }
}

/** Returns a pointer with the type of its target, where that is a struct or a value. */
export function pointerTo(btf: Btf, node: Node, targetId: number, access: Access): PointerValue {
  const { kind } = targetId === 0 ? { kind: "void" as const } : btf.resolve(targetId);
  const isTyped = kind !== "void" && kind !== "fwd" && kind !== "func_proto" && kind !== "func";
  const isStruct = kind === "struct" || kind === "union";
  return new PointerValue(
    node,
    isTyped ? { btf, id: targetId } : undefined,
    isStruct ? access : "probe",
  );
}

type ReadString = "probe_read_kernel_str" | "probe_read_user_str";

/** Returns the string at an address, cut to a number of bytes. */
function textAt(helper: ReadString, address: Node, capacity: number): WrittenText {
  return new WrittenText(capacity, (l, place, room) => {
    const { b } = l;
    const to = b.address(place.pointer, place.offset);
    // The helper does not change what follows the string.
    zeroBytes(l, place, room);
    b.callHelper(helper, to, room, address);
  });
}

function pointerMethod(
  l: Lowering,
  pointer: PointerValue,
  name: string,
  args: readonly Argument[],
  at: Syntax,
): Value {
  const { b } = l;
  switch (name) {
    case "kernelString":
    case "userString": {
      const length = args[0] === undefined ? defaultTextLength : knownArgument(l, args, 0, at);
      if (!Number.isInteger(length) || length < 1 || length > 256) {
        l.refuse(args[0] ?? at, "strings of fixed size have 1 to 256 bytes");
      }
      return textAt(
        name === "userString" ? "probe_read_user_str" : "probe_read_kernel_str",
        pointer.node,
        length,
      );
    }
    case "read":
    case "readUser": {
      const type = argument(l, args, 0, at);
      if (!(type instanceof TypeValue)) {
        return l.refuse(args[0] ?? at, `expected a type of the scope, got ${type.describe()}`);
      }
      const { size } = type.type;
      if (size > 256) l.refuse(at, `${size} bytes do not fit on the stack`);
      const index =
        args[1] === undefined ? new NumberValue(0) : numberOf(l, argument(l, args, 1, at), at);
      const from = b.binary("add", pointer.node, b.binary("mul", index.node(b), size));
      const room: MemoryPlace = { ...newSlot(l, type.type), isStable: true };
      zeroBytes(l, room, size);
      b.callHelper(
        name === "read" ? "probe_read_kernel" : "probe_read_user",
        room.pointer,
        size,
        from,
      );
      return loadValue(l, type.type, room, at);
    }
    case "kernelBytes":
    case "userBytes": {
      const length = knownArgument(l, args, 0, at);
      if (!Number.isInteger(length) || length < 1 || length > 256) {
        l.refuse(args[0] ?? at, "bytes of fixed size have 1 to 256 bytes");
      }
      const room = stablePlace(b.slot({ size: length, align: 8, name: "bytes" }), "it is a copy");
      zeroBytes(l, room, length);
      b.callHelper(
        name === "kernelBytes" ? "probe_read_kernel" : "probe_read_user",
        room.pointer,
        length,
        pointer.node,
      );
      return new MemoryBytes(room, length);
    }
    case "offset": {
      const by = argument(l, args, 0, at);
      const node = by instanceof BigintValue ? by.node(b) : numberOf(l, by, at).node(b);
      return new PointerValue(b.binary("add", pointer.node, node), undefined, "probe");
    }
    case "as":
      return new PointerValue(pointer.node, structNamed(l, pointer, args, at), "probe");
    case "containerOf": {
      const target = structNamed(l, pointer, args, at);
      const field = argument(l, args, 1, at).known?.value;
      if (typeof field !== "string")
        return l.refuse(args[1] ?? at, "the field must be a known string");
      const member = target.btf.member(target.id, field);
      if (member === undefined) {
        return l.refuse(
          args[1] ?? at,
          `struct ${resolve(target).name} has no member ${field}`,
          suggestMember(target, field),
        );
      }
      const node = b.binary("sub", pointer.node, b.constant(member.bitOffset / 8));
      return new PointerValue(node, target, "probe");
    }
    default:
      return l.refuse(
        at,
        `pointers have no method ${JSON.stringify(name)}`,
        "They have as, containerOf, offset, read, readUser, kernelString, userString, kernelBytes, userBytes",
      );
  }
}

function structNamed(
  l: Lowering,
  pointer: PointerValue,
  args: readonly Argument[],
  at: Syntax,
): KernelType {
  const name = argument(l, args, 0, at).known?.value;
  if (typeof name !== "string")
    return l.refuse(args[0] ?? at, "the name of a type must be a known string");
  const btf = pointer.target?.btf ?? l.host.kernelTypes();
  const id = btf.find("struct", name) ?? btf.find("union", name);
  if (id !== undefined) return { btf, id };
  return l.refuse(
    args[0] ?? at,
    `this kernel has no struct ${name}`,
    btf.suggestion(name, "struct", "union").replace(/^: /, ""),
  );
}
