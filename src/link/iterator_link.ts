import { OpenIterator } from "../ffi/bpf_iterator.ts";
import { updateLink } from "../ffi/bpf_link.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { startTurn } from "../loop/timers.ts";
import { checkType, type Type } from "../types/type.ts";
import type { IterLinkInfo } from "./link_info.ts";
import {
  Link,
  openLinkAs,
  type OpenLinkOptions,
  type UpdateLinkOptions,
  type LinkedProgram,
} from "./link.ts";

/**
 * The output of an iterator program, as items: lines, records or chunks of bytes.
 *
 * Each loop over it makes the kernel call the program for all objects again. The loop reads while it needs items, at most 8 pages
 * at a time, and closes the iterator when it ends, also by `break` or an error. `for await` lets the event loop run between two
 * reads; `for` does not.
 */
export interface IterOutput<T> extends Iterable<T>, AsyncIterable<T> {
  /** Starts an iteration that blocks the event loop until it ends. */
  [Symbol.iterator](): Generator<T, undefined, undefined>;
  /** Starts an iteration that lets the event loop run between two reads. */
  [Symbol.asyncIterator](): AsyncGenerator<T, undefined, undefined>;
}

/**
 * A link of an iterator program, which the kernel calls for each object of a kind: for each task, each map, each element of a
 * map. The kernel runs it when its output is read, which can be done again and again.
 *
 * The program writes with the helpers `seq_write`, `seq_printf` and `seq_printf_btf`. If the link is pinned, `cat` prints the
 * output.
 *
 * @example
 * ```ts
 * import { asm, Btf, BpfError, type IterLink, Program, t } from "bun-bpf";
 * const { r0, r1, r2, r3, r6, r10 } = asm;
 * // Writes the id of each map: struct bpf_iter__bpf_map { struct bpf_iter_meta *meta; struct bpf_map *map; }
 * const code = [
 *   asm.ldxdw(r6, r1, 8),
 *   asm.ldxdw(r1, r1, 0),
 *   asm.jeq(r6, 0, "out"), // the call after the last map
 *   asm.ldxw(r6, r6, Btf.kernel().field("bpf_map", "id").offset),
 *   asm.stxw(r10, -4, r6),
 *   asm.ldxdw(r1, r1, 0), // meta->seq
 *   asm.mov(r2, r10),
 *   asm.add(r2, -4),
 *   asm.mov(r3, 4),
 *   asm.call("seq_write"),
 *   asm.label("out"),
 *   asm.mov(r0, 0),
 *   asm.exit(),
 * ];
 * try {
 *   using program = new Program({ section: "iter/bpf_map", license: "GPL", code });
 *   using link: IterLink = program.attach();
 *   for await (const id of link.records(t.u32)) console.log(`map ${id}`);
 * } catch (error) {
 *   if (!(error instanceof BpfError)) throw error;
 *   console.error(error.message); // without privileges, or before Linux 5.8
 * }
 * ```
 *
 * Requires Linux 5.8.
 */
export class IterLink extends Link {
  /**
   * Opens a link of an iterator program that is pinned at a path.
   *
   * @throws {TypeError} if it is another object, or a link of another type.
   * @throws {BpfError} as {@link Link.open}.
   *
   * Requires Linux 5.8.
   */
  static override open(path: string, options: OpenLinkOptions = {}): IterLink {
    return openLinkAs(IterLink, "iter", { path }, options);
  }

  /**
   * Opens a link of an iterator program by its id, which needs CAP_SYS_ADMIN.
   *
   * @throws {TypeError} if it is a link of another type.
   * @throws {BpfError} as {@link Link.fromId}.
   *
   * Requires Linux 5.8.
   */
  static override fromId(id: number, options: OpenLinkOptions = {}): IterLink {
    return openLinkAs(IterLink, "iter", { id }, options);
  }

  /**
   * Opens the link of an iterator program that a file descriptor refers to. The descriptor is duplicated; the caller still has to
   * close its own.
   *
   * @throws {TypeError} if the descriptor refers to another object, or a link of another type.
   *
   * Requires Linux 5.8.
   */
  static override fromFd(fd: number, options: OpenLinkOptions = {}): IterLink {
    return openLinkAs(IterLink, "iter", { fd }, options);
  }

  /** @internal `program.attach()` makes links. */
  constructor(descriptor: Descriptor, pinnedAt?: string) {
    super(descriptor, pinnedAt);
  }

  protected override shown(): readonly [className: string, properties: object] {
    return ["IterLink", { description: `${this}` }];
  }

  /**
   * Runs the program for all objects, and returns its output as text. The event loop runs between two reads.
   *
   * @throws {BpfError} as {@link lines}.
   */
  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const part of this.#output(textParts(decoder))) text += part;
    return text;
  }

  /**
   * Returns the lines of text that the program writes, without their line feeds.
   *
   * @throws {BpfError} in a loop: `E2BIG` if the program writes more than 8 pages for one object, `EAGAIN` if it returns 1 for the
   *   same object again and again.
   */
  lines(): IterOutput<string> {
    return this.#output(lineSplitter());
  }

  /**
   * Returns the records that the program writes, all of one type.
   *
   * @throws {TypeError} if the argument is not a type.
   * @throws {RangeError} in a loop: after the last record, if the program has written a part of another one.
   * @throws {BpfError} in a loop, as {@link lines}.
   */
  records<T>(type: Type<T>): IterOutput<T> {
    const { size } = checkType("records", type);
    return this.#output(recordSplitter(type, size, `${this}`));
  }

  /**
   * Returns the bytes that the program writes, in chunks of at most 8 pages (32768 bytes on x86-64).
   *
   * @throws {BpfError} in a loop, as {@link lines}.
   */
  chunks(): IterOutput<Uint8Array> {
    return this.#output(() => ({
      *push(chunk) {
        if (chunk.length > 0) yield chunk.slice();
      },
    }));
  }

  override info(): IterLinkInfo {
    return super.info() as IterLinkInfo;
  }

  override update(program: LinkedProgram, options: UpdateLinkOptions = {}): this {
    const { expected } = this.checkUpdate(program, options);
    const hint = "The new program was loaded for another iterator, or is none";
    updateLink(this.fd, program.fd, expected?.fd, `${this}`, hint);
    return this;
  }

  #output<T>(split: () => Splitter<T>): IterOutput<T> {
    // A disposed link throws DisposedError here, before the loop.
    void this.fd;
    return new Output(() => new OpenIterator(this.fd, `${this}`), split);
  }
}

/** Splits the output of one iteration into items. */
interface Splitter<T> {
  /** Returns the items that end in the next chunk. The memory of the chunk changes when they have been iterated. */
  push(chunk: Uint8Array): Iterable<T>;
  /** Returns the item that the end of the output ends. */
  end?(): Iterable<T>;
}

class Output<T> implements IterOutput<T> {
  readonly #open: () => OpenIterator;
  readonly #split: () => Splitter<T>;

  constructor(open: () => OpenIterator, split: () => Splitter<T>) {
    this.#open = open;
    this.#split = split;
  }

  *[Symbol.iterator](): Generator<T, undefined, undefined> {
    using iterator = this.#open();
    const splitter = this.#split();
    for (let chunk = iterator.read(); chunk !== undefined; chunk = iterator.read()) {
      yield* splitter.push(chunk);
    }
    yield* splitter.end?.() ?? [];
    return undefined;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, undefined, undefined> {
    using iterator = this.#open();
    const splitter = this.#split();
    for (let chunk = iterator.read(); chunk !== undefined; chunk = iterator.read()) {
      yield* splitter.push(chunk);
      await new Promise<void>((resolve) => void startTurn(resolve));
    }
    yield* splitter.end?.() ?? [];
    return undefined;
  }
}

function textParts(decoder: TextDecoder): () => Splitter<string> {
  return () => ({
    *push(chunk) {
      yield decoder.decode(chunk, { stream: true });
    },
    *end() {
      yield decoder.decode();
    },
  });
}

function lineSplitter(): () => Splitter<string> {
  return () => {
    /** The parts of the line that the last chunk did not end. */
    let parts: Uint8Array[] = [];
    const text = (end?: Uint8Array) => {
      const line = Buffer.concat(end === undefined ? parts : [...parts, end]).toString();
      parts = [];
      return line;
    };
    return {
      *push(chunk) {
        const lineFeed = 0x0a;
        let start = 0;
        for (;;) {
          const end = chunk.indexOf(lineFeed, start);
          if (end === -1) break;
          yield text(chunk.subarray(start, end));
          start = end + 1;
        }
        if (start < chunk.length) parts.push(chunk.slice(start));
      },
      *end() {
        if (parts.length > 0) yield text();
      },
    };
  };
}

function recordSplitter<T>(type: Type<T>, size: number, what: string): () => Splitter<T> {
  return () => {
    /** The bytes of the record that the last chunk did not end. */
    let rest = new Uint8Array(0);
    return {
      *push(chunk) {
        const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        let at = 0;
        for (; at + size <= bytes.length; at += size) yield type.read(view, at);
        rest = new Uint8Array(bytes.subarray(at));
      },
      end() {
        if (rest.length === 0) return [];
        throw new RangeError(
          `the program of the ${what} wrote ${rest.length} bytes after its last record: each record must have the size of ${type.name}, ${size} bytes`,
        );
      },
    };
  };
}
