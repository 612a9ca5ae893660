import {
  BTF_KIND_ARRAY,
  BTF_KIND_FUNC,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_TYPEDEF,
  BTF_KIND_UNION,
  BTF_MAGIC,
  BTF_VERSION,
} from "../uapi/btf.ts";

/** A member of a struct or union to be built: where it starts is in bytes. */
export interface NewMember {
  readonly name: string;
  readonly typeId: number;
  readonly offset: number;
}

/** Bytes of `struct btf_header`. */
const headerSize = 24;

/**
 * Types being written in the raw form of BTF, for the kernel of this machine (little-endian).
 *
 * Each method gives the id of a type, which is a new one only if there is none like it. A type comes after those that
 * it refers to, so that the kernel, which checks them in order, never has to look ahead.
 */
export class BtfBuilder {
  readonly #words: number[] = [];
  readonly #ids = new Map<string, number>();
  readonly #nameOffsets = new Map<string, number>([["", 0]]);
  #strings = "\0";

  /** @param encoding `BTF_INT_SIGNED`, `BTF_INT_BOOL`, or 0 */
  int(name: string, size: number, encoding: number): number {
    return this.#add(name, BTF_KIND_INT << 24, size, (encoding << 24) | (size * 8));
  }

  typedef(name: string, typeId: number): number {
    return this.#add(name, BTF_KIND_TYPEDEF << 24, typeId);
  }

  array(elementId: number, length: number): number {
    // The name that clang gives the type of an index, which C does not have.
    const indexId = this.int("__ARRAY_SIZE_TYPE__", 4, 0);
    return this.#add("", BTF_KIND_ARRAY << 24, 0, elementId, indexId, length);
  }

  /** @param name empty for an anonymous one */
  struct(name: string, size: number, members: readonly NewMember[]): number {
    return this.#composite(BTF_KIND_STRUCT, name, size, members);
  }

  /** A union whose members all start at its own start. */
  union(name: string, size: number, members: readonly Omit<NewMember, "offset">[]): number {
    const placed = members.map((member) => ({ ...member, offset: 0 }));
    return this.#composite(BTF_KIND_UNION, name, size, placed);
  }

  /** The type of functions without parameters, or with such as stay unsaid. */
  functionPrototype(resultId: number): number {
    return this.#add("", BTF_KIND_FUNC_PROTO << 24, resultId);
  }

  /** @param linkage `BTF_FUNC_STATIC` or `BTF_FUNC_GLOBAL` */
  func(name: string, prototypeId: number, linkage: number): number {
    return this.#add(name, (BTF_KIND_FUNC << 24) | linkage, prototypeId);
  }

  /** All of it, as the kernel takes it. */
  encode(): Uint8Array {
    const typeSize = this.#words.length * 4;
    const bytes = new Uint8Array(headerSize + typeSize + this.#strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, BTF_MAGIC, true);
    view.setUint8(2, BTF_VERSION);
    const header = [headerSize, 0, typeSize, typeSize, this.#strings.length];
    for (const [index, word] of [...header, ...this.#words].entries()) {
      view.setUint32(4 + index * 4, word, true);
    }
    bytes.set(Buffer.from(this.#strings, "latin1"), headerSize + typeSize);
    return bytes;
  }

  #composite(kind: number, name: string, size: number, members: readonly NewMember[]): number {
    const words = members.flatMap((member) => [
      this.#nameOffset(member.name),
      member.typeId,
      member.offset * 8,
    ]);
    return this.#add(name, (kind << 24) | members.length, size, ...words);
  }

  /** @param rest the words after the name: `info`, `size` or `type`, and what the kind has besides */
  #add(name: string, ...rest: readonly number[]): number {
    const words = [this.#nameOffset(name), ...rest];
    const key = words.join();
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#ids.size + 1;
      this.#ids.set(key, id);
      for (const word of words) this.#words.push(word);
    }
    return id;
  }

  #nameOffset(name: string): number {
    let offset = this.#nameOffsets.get(name);
    if (offset === undefined) {
      offset = this.#strings.length;
      this.#nameOffsets.set(name, offset);
      this.#strings += `${name}\0`;
    }
    return offset;
  }
}
