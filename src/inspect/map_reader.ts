import { openById, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { MapElement } from "../ffi/map_element.ts";
import { copiedValueSize, type MapProperties, readMapProperties } from "../maps/handle.ts";
import { IndexWalk } from "../maps/index_walk.ts";
import { MapWalk } from "../maps/map_walk.ts";
import { describeMap } from "../maps/spec.ts";
import { TrieWalk } from "../maps/trie_walk.ts";
import type { Walk, WalkedMap } from "../maps/walk.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";
import { readingOf } from "./readable_kinds.ts";

/** An entry of a map as the kernel copies it. The bytes are those of the next entry, after it was asked for. */
export interface RawEntry {
  /** Empty for kinds without keys. */
  readonly key: Uint8Array;
  /** For a map with a value for each CPU, all of them, each rounded up to 8 bytes. */
  readonly value: Uint8Array;
}

/** A map that is only read: the kernel refuses all else through its descriptor. */
export class MapReader implements Disposable {
  readonly #descriptor: Descriptor;
  readonly properties: MapProperties;

  private constructor(fd: number, what: string) {
    this.#descriptor = new Descriptor(fd, what);
    try {
      this.properties = readMapProperties(this.#descriptor.fd, what);
      this.#descriptor.what = describeMap(this.properties);
    } catch (error) {
      this.#descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). */
  static byId(id: number): MapReader {
    return new MapReader(openById("map", id, BPF_F_RDONLY), `map ${id}`);
  }

  /** Opens the map pinned at a path. @throws {Error} where nothing is pinned */
  static byPath(path: string): MapReader {
    const fd = openPinned(path, "map", BPF_F_RDONLY);
    if (fd === undefined) throw new Error(`nothing is pinned at ${path}: no such file`);
    return new MapReader(fd, `map pinned at ${path}`);
  }

  /**
   * The entries, lazily: of a queue or a stack the next value alone, as reading the others would take it out.
   *
   * @throws {Error} for a kind of map that cannot be read, with the reason
   */
  *entries(): Generator<RawEntry, undefined, undefined> {
    const reading = readingOf(this.properties);
    if (reading === "next") {
      const next = this.#peek();
      if (next !== undefined) yield { key: new Uint8Array(0), value: next };
      return undefined;
    }
    const { keySize, valueSize, ...map } = this.#walked();
    const Walks = { keys: MapWalk, indexes: IndexWalk, networks: TrieWalk };
    using walk: Walk = new Walks[reading]({ keySize, valueSize, ...map });
    while (walk.next()) {
      for (let index = 0; walk.has(index); index++) {
        const { buffer, byteOffset } = walk.view;
        const value = new Uint8Array(buffer, byteOffset + walk.valueOffset(index), valueSize);
        yield { key: walk.keyBytes(index), value };
      }
    }
    return undefined;
  }

  #walked(): WalkedMap {
    const { keySize, maxEntries } = this.properties;
    const valueSize = copiedValueSize(this.properties);
    const what = describeMap(this.properties);
    return {
      descriptor: this.#descriptor,
      keySize,
      valueSize,
      maxEntries,
      flags: 0,
      what,
      kind: {},
    };
  }

  #peek(): Uint8Array | undefined {
    const { valueSize } = this.properties;
    const { fd, what } = this.#descriptor;
    using element = new MapElement(fd, 0, valueSize, what);
    if (!element.lookup(0)) return undefined;
    const { buffer, byteOffset } = element.view;
    return new Uint8Array(buffer, byteOffset + element.valueOffset, valueSize).slice();
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
