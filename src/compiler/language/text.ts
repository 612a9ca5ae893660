/** @module Strings in memory: bytes of UTF-8, with zeros after them to the end of their room. */

import type * as acorn from "acorn";
import type { Node } from "../ir/ir.ts";
import {
  copyBytes,
  equalBytes,
  equalPlaces,
  type MemoryPlace,
  storeBytes,
  zeroBytes,
  stablePlace,
} from "./memory_place.ts";
import {
  type Argument,
  BooleanValue,
  type KnownValue,
  NumberValue,
  type Shape,
  type Syntax,
  Value,
  type Lowering,
  argument,
} from "./value.ts";

/** The hint for strings where a number was expected. */
const textNumberHint =
  "Strings cannot be joined or converted: put the parts into a record, and format them in the process that reads it";

/** Returns the bytes of a known string, cut to a room that must end with a zero. */
function bytesOf(text: string, capacity: number): Uint8Array {
  const bytes = new Uint8Array(capacity);
  bytes.set(Buffer.from(text).subarray(0, capacity - 1));
  return bytes;
}

/** Writes a string to a room of some bytes, the last of which is zero. */
export function storeText(l: Lowering, place: MemoryPlace, capacity: number, value: Value): void {
  if (value instanceof StringValue) storeBytes(l, place, bytesOf(value.text, capacity));
  else (value as TextValue).writeTo(l, place, capacity);
}

/** A string that the compiler does not know. */
export abstract class TextValue extends Value {
  override describe(): string {
    return "a string";
  }

  override get numberHint(): string {
    return textNumberHint;
  }

  /** Writes the string to a room. */
  abstract writeTo(l: Lowering, place: MemoryPlace, capacity: number): void;

  /** Returns the string in memory. */
  abstract inMemory(l: Lowering): MemoryText;

  override truth(l: Lowering, at: Syntax): boolean | Node {
    return l.refuse(at, "the truth of a string cannot be tested", 'Compare it: text !== ""');
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    return this.inMemory(l).equals(l, other);
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return this.inMemory(l).property(l, name, at);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return this.inMemory(l).callMethod(l, name, args, at);
  }

  override shape(): Shape {
    throw new Error("the shape of a string depends on its memory");
  }
}

/** A string in memory. */
export class MemoryText extends TextValue {
  readonly place: MemoryPlace;
  /** Number of bytes, with the zero at the end. */
  readonly capacity: number;

  constructor(place: MemoryPlace, capacity: number) {
    super();
    this.place = place;
    this.capacity = capacity;
  }

  override inMemory(): MemoryText {
    return this;
  }

  override writeTo(l: Lowering, place: MemoryPlace, capacity: number): void {
    const length = Math.min(capacity, this.capacity);
    copyBytes(l, this.place, place, length);
    const rest = { ...place, offset: place.offset + length };
    if (capacity > length) zeroBytes(l, rest, capacity - length);
    // A longer string is cut.
    else if (this.capacity > capacity) l.b.store(place.pointer, place.offset + capacity - 1, 1, 0);
  }

  override shape(): Shape {
    return textShape(this.capacity);
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (other instanceof StringValue) {
      const bytes = Buffer.from(`${other.text}\0`);
      if (bytes.length > this.capacity || other.text.includes("\0")) return false;
      return equalBytes(l, this.place, bytes);
    }
    if (!(other instanceof TextValue)) return undefined;
    const text = other.inMemory(l);
    // The longer room may have a longer string, whose byte at the end of the shorter room is not zero: then they differ.
    const length = Math.min(this.capacity, text.capacity);
    return equalPlaces(l, this.place, text.place, length);
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (name === "byteLength") return new NumberValue(this.#byteLength(l));
    if (name === "length") return refuseLength(l, at);
    return l.refuse(at, `a string has no property ${JSON.stringify(name)}`);
  }

  /** Returns the number of bytes before the first zero. */
  #byteLength(l: Lowering): Node {
    const { b } = l;
    const { pointer, offset } = this.place;
    let isInside: Node = b.constant(1);
    let length: Node = b.constant(0);
    for (let at = 0; at < this.capacity - 1; at++) {
      isInside = b.binary("and", isInside, b.compare("ne", b.load(pointer, offset + at, 1), 0));
      length = b.binary("add", length, isInside);
    }
    return b.number(length, { min: 0, max: this.capacity - 1 });
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    if (name !== "startsWith" && name !== "endsWith" && name !== "includes") {
      return refuseMethod(l, name, at);
    }
    const text = argument(l, args, 0, at).known?.value;
    if (typeof text !== "string" || text.includes("\0")) {
      return l.refuse(
        args[0] ?? at,
        "the text that is searched must be a known string",
        "Use a literal, or a string of the scope",
      );
    }
    const bytes = Buffer.from(text);
    if (bytes.length >= this.capacity) return new BooleanValue(bytes.length === 0);
    if (bytes.length === 0) return new BooleanValue(true);
    if (name === "startsWith") return new BooleanValue(equalBytes(l, this.place, bytes));
    const { b } = l;
    const searched = name === "endsWith" ? Buffer.from(`${text}\0`) : bytes;
    let found: Node = b.constant(0);
    // Bytes after the first zero are zeros, so a text without zeros cannot be found there.
    for (let at = 0; at + searched.length <= this.capacity; at++) {
      const place = { ...this.place, offset: this.place.offset + at };
      found = b.binary("or", found, equalBytes(l, place, searched));
    }
    return new BooleanValue(found);
  }
}

/** One of some known strings, as a number that stands for it: see {@link Lowering.textId}. */
export class StringChoice extends TextValue {
  readonly node: Node;
  readonly texts: readonly string[];

  constructor(node: Node, texts: readonly string[]) {
    super();
    this.node = node;
    this.texts = texts;
  }

  override describe(): string {
    return `one of the strings ${this.texts.map((text) => JSON.stringify(text)).join(", ")}`;
  }

  override shape(): Shape {
    return choiceShape(this.texts);
  }

  override writeTo(l: Lowering, place: MemoryPlace, capacity: number): void {
    const write = (index: number): void => {
      const text = this.texts[index] as string;
      if (index === this.texts.length - 1) return storeBytes(l, place, bytesOf(text, capacity));
      const { yes, no } = l.test(l.b.compare("eq", this.node, l.textId(text)));
      l.enter(yes);
      storeBytes(l, place, bytesOf(text, capacity));
      const written = l.leave();
      l.enter(no);
      write(index + 1);
      l.enter([...written, ...l.leave()]);
    };
    write(0);
  }

  override inMemory(l: Lowering): MemoryText {
    const room = newRoom(l, roomFor(this.texts));
    this.writeTo(l, room, roomFor(this.texts));
    return new MemoryText(room, roomFor(this.texts));
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (other instanceof StringValue) {
      return this.texts.includes(other.text) && l.b.compare("eq", this.node, l.textId(other.text));
    }
    if (other instanceof StringChoice) return l.b.compare("eq", this.node, other.node);
    return super.equals(l, other);
  }
}

/** A string that a helper function writes: `ctx.comm`, and strings that are read from memory. */
export class WrittenText extends TextValue {
  readonly #capacity: number;
  readonly #write: (l: Lowering, place: MemoryPlace, capacity: number) => void;

  constructor(
    capacity: number,
    write: (l: Lowering, place: MemoryPlace, capacity: number) => void,
  ) {
    super();
    this.#capacity = capacity;
    this.#write = write;
  }

  override writeTo(l: Lowering, place: MemoryPlace, capacity: number): void {
    const length = Math.min(capacity, this.#capacity);
    this.#write(l, place, length);
    const rest = { ...place, offset: place.offset + length };
    if (capacity > length) zeroBytes(l, rest, capacity - length);
  }

  override inMemory(l: Lowering): MemoryText {
    const place = newRoom(l, this.#capacity);
    this.#write(l, place, this.#capacity);
    return new MemoryText(place, this.#capacity);
  }

  override shape(): Shape {
    return textShape(this.#capacity);
  }
}

/** Returns the shape of strings in rooms of some bytes. */
function textShape(capacity: number): Shape {
  return {
    key: `text ${capacity}`,
    count: 1,
    toNodes: (l, value) => {
      if (value instanceof MemoryText && value.capacity === capacity && value.place.align === 8) {
        return [l.b.address(value.place.pointer, value.place.offset)];
      }
      const place = newRoom(l, capacity);
      storeText(l, place, capacity, value);
      return [place.pointer];
    },
    fromNodes: (_l, [pointer]) => new MemoryText(roomAt(pointer as Node), capacity),
    join: (other) => {
      const room = capacityOf(other);
      return room === undefined ? undefined : textShape(Math.max(room, capacity));
    },
  };
}

/** Returns the number of bytes that strings of a shape need. */
function capacityOf(shape: Shape): number | undefined {
  if (shape.texts !== undefined) return roomFor(shape.texts);
  const [kind, size] = shape.key.split(" ", 2);
  return kind === "text" ? Number(size) : undefined;
}

/** Returns the number of bytes that the longest of some strings needs. */
function roomFor(texts: readonly string[]): number {
  return Math.max(...texts.map((text) => Buffer.byteLength(text))) + 1;
}

/** Number of known strings that are told apart by numbers. */
const maxChoices = 16;

/** Returns the shape of values that are one of some known strings. */
function choiceShape(texts: readonly string[]): Shape {
  return {
    key: `string ${JSON.stringify(texts)}`,
    count: 1,
    texts,
    toNodes: (l, value) => [
      value instanceof StringChoice
        ? value.node
        : l.b.constant(l.textId((value as StringValue).text)),
    ],
    fromNodes: (_l, [node]) => new StringChoice(node as Node, texts),
    join: (other) => {
      const all = other.texts && [...new Set([...texts, ...other.texts])].sort();
      if (all !== undefined && all.length <= maxChoices) return choiceShape(all);
      const room = capacityOf(other);
      return room === undefined ? undefined : textShape(Math.max(room, roomFor(texts)));
    },
  };
}

/** Returns a place for a string that does not change after it has been written. */
const roomAt = (pointer: Node): MemoryPlace => stablePlace(pointer, "strings do not change");

function newRoom(l: Lowering, size: number): MemoryPlace {
  return roomAt(l.b.slot({ size, align: 8, name: "text" }));
}

/** A string that the compiler knows. */
export class StringValue extends Value {
  readonly text: string;

  constructor(text: string) {
    super();
    this.text = text;
  }

  override describe(): string {
    return `the string ${JSON.stringify(this.text)}`;
  }

  override get numberHint(): string {
    return textNumberHint;
  }

  override get known(): KnownValue {
    return { value: this.text };
  }

  override shape(): Shape {
    return { ...choiceShape([this.text]), count: 0, toNodes: () => [], fromNodes: () => this };
  }

  override truth(): boolean {
    return this.text !== "";
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (other instanceof StringValue) return this.text === other.text;
    return other instanceof TextValue ? other.inMemory(l).equals(l, this) : undefined;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (name === "byteLength") return new NumberValue(Buffer.byteLength(this.text));
    if (name === "length") return refuseLength(l, at);
    return super.property(l, name, at);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    if (name !== "startsWith" && name !== "endsWith" && name !== "includes") {
      return refuseMethod(l, name, at);
    }
    const text = argument(l, args, 0, at).known?.value;
    if (typeof text !== "string") {
      return l.refuse(
        args[0] ?? at,
        "the text that is searched must be a known string",
        "Use a literal, or a string of the scope",
      );
    }
    return new BooleanValue(this.text[name](text));
  }
}

function refuseLength(l: Lowering, at: Syntax): never {
  return l.refuse(
    at,
    "strings have no length here: it would be UTF-16 units in JavaScript, and bytes in the kernel",
    "Use byteLength",
  );
}

function refuseMethod(l: Lowering, name: string, at: Syntax): never {
  return l.refuse(
    at,
    `strings have no method ${JSON.stringify(name)} here`,
    "They have startsWith, endsWith and includes",
  );
}

/** Returns the value of a template literal, whose parts must be known. */
export function templateText(l: Lowering, node: acorn.TemplateLiteral): StringValue {
  let text = "";
  for (const [index, quasi] of node.quasis.entries()) {
    text += quasi.value.cooked ?? "";
    const part = node.expressions[index];
    if (part === undefined) continue;
    const known = l.lower(part).known;
    if (known === undefined) {
      l.refuse(
        part,
        "the parts of a template literal must be known when the function is compiled",
        "Put the values into a record, and format them in the process that reads it",
      );
    }
    text += String(known.value);
  }
  return new StringValue(text);
}
