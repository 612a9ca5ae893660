import { ArrayMap, asm, type LiveMap, Program, RingBuf, t } from "../../src/index.ts";

const { r0, r1, r2, r3, r4, r6, r7, fp } = asm;

const request = t.struct({ flags: t.u64Number, limit: t.u32, count: t.u32 });
/** Shorter records have no room for their length. Their first bytes identify them. */
const shortest = 4;

/** Options of a drain. */
export interface DrainRequest {
  /** Flags of `bpf_user_ringbuf_drain()`. */
  readonly flags?: number;
  /** The number of records after which the callback ends the drain. */
  readonly limit?: number;
}

/**
 * Drains a user ring buffer in the kernel on demand, and returns what the callback has read of each record.
 *
 * A record of 4 bytes or more must begin with its length as a 32-bit number.
 */
export class Drainer implements Disposable {
  readonly program: Program;
  readonly #request = new ArrayMap({ value: request, length: 1 });
  readonly #copy: ArrayMap<t.Type<Uint8Array>>;
  readonly #echo: RingBuf<t.Type<Uint8Array>>;

  /** @param largest bytes of the longest record */
  constructor(ring: LiveMap, largest = 4096) {
    this.#copy = new ArrayMap({ value: t.bytes(largest + 8), length: 1 });
    this.#echo = new RingBuf({ size: 1 << 20, event: t.bytes(1) });
    const short = Array.from({ length: shortest - 1 }, (_, index) => shortest - 1 - index);
    this.program = new Program({
      section: "syscall",
      license: "GPL",
      name: "drainer",
      maps: { ring, echo: this.#echo, request: this.#request, copy: this.#copy },
      code: [
        asm.ldMapValue(r6, "request", 0),
        asm.stw(r6, 12, 0),
        asm.ldMap(r1, "ring"),
        asm.ldFunc(r2, "each"),
        asm.mov(r3, fp),
        asm.ldxdw(r4, r6, 0),
        asm.call("user_ringbuf_drain"),
        asm.exit(),
        asm.func("each"),
        asm.mov(r6, r1),
        asm.ldMapValue(r7, "copy", 0),
        readRecord(shortest),
        asm.jne(r0, 0, "short"),
        asm.ldxw(r2, r7, 0),
        asm.jgt(r2, largest, "end"),
        asm.mov(r1, r7),
        asm.mov(r3, r6),
        asm.mov(r4, 0),
        asm.mov(asm.r5, 0),
        asm.call("dynptr_read"),
        asm.jne(r0, 0, "end"),
        asm.ldxw(r3, r7, 0),
        asm.jgt(r3, largest, "end"),
        asm.ja("echo"),
        asm.label("short"),
        short.map((length) => [readRecord(length), asm.mov(r3, length), asm.jeq(r0, 0, "echo")]),
        asm.mov(r3, 0),
        asm.label("echo"),
        asm.ldMap(r1, "echo"),
        asm.mov(r2, r7),
        asm.mov(r4, 1), // BPF_RB_NO_WAKEUP
        asm.call("ringbuf_output"),
        asm.label("end"),
        asm.ldMapValue(r6, "request", 0),
        asm.mov(r1, 1),
        asm.atomicFetchAdd32(r6, 12, r1),
        asm.add(r1, 1),
        asm.ldxw(r2, r6, 8),
        asm.mov(r0, 0),
        asm.jlt(r1, r2, "more"),
        asm.mov(r0, 1),
        asm.label("more"),
        asm.exit(),
      ],
    });
  }

  /** Drains the ring. Returns the number of records, or the negative errno of the helper. */
  drain({ flags = 0, limit = 0x7fff_ffff }: DrainRequest = {}): number {
    this.#request.set(0, { flags, limit, count: 0 });
    return this.program.testRun().returnValue | 0;
  }

  /** Drains the ring. Returns what the callback has read since the last call. */
  read(what: DrainRequest = {}): Uint8Array[] {
    const result = this.drain(what);
    if (result < 0) throw new Error(`user_ringbuf_drain: ${result}`);
    const records: Uint8Array[] = [];
    this.#echo.drainRaw((view, offset, length) => {
      records.push(new Uint8Array(view.buffer, view.byteOffset + offset, length).slice());
    });
    return records;
  }

  /** Drains the ring. Returns the second 32 bits of each record as a number. */
  readNumbers(what: DrainRequest = {}): number[] {
    return this.read(what).map((bytes) => new DataView(bytes.buffer).getUint32(4, true));
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.#echo[Symbol.dispose]();
    this.#copy[Symbol.dispose]();
    this.#request[Symbol.dispose]();
  }
}

/** Instructions that read the first bytes of the record. r0 is 0 if the record has that many. */
function readRecord(length: number) {
  return [
    asm.mov(r1, r7),
    asm.mov(r2, length),
    asm.mov(r3, r6),
    asm.mov(r4, 0),
    asm.mov(asm.r5, 0),
    asm.call("dynptr_read"),
  ];
}

/** The progress of a {@link sequenceChecker}. */
export const checkedState = t.struct({ next: t.u64Number, wrong: t.u64Number });

/** Returns a program that drains records of one 64-bit number each, and counts those that are not the last number plus 1. */
export function sequenceChecker(ring: LiveMap, state: LiveMap): Program {
  return new Program({
    section: "syscall",
    license: "GPL",
    name: "checker",
    maps: { ring, state },
    code: [
      asm.ldMap(r1, "ring"),
      asm.ldFunc(r2, "each"),
      asm.mov(r3, fp),
      asm.mov(r4, 0),
      asm.call("user_ringbuf_drain"),
      asm.exit(),
      asm.func("each"),
      asm.mov(r6, r1),
      asm.ldMapValue(r7, "state", 0),
      asm.stdw(fp, -8, -1),
      asm.mov(r1, fp),
      asm.add(r1, -8),
      asm.mov(r2, 8),
      asm.mov(r3, r6),
      asm.mov(r4, 0),
      asm.mov(asm.r5, 0),
      asm.call("dynptr_read"),
      asm.ldxdw(r1, fp, -8),
      asm.ldxdw(r2, r7, 0),
      asm.jeq(r1, r2, "right"),
      asm.ldxdw(r3, r7, 8),
      asm.add(r3, 1),
      asm.stxdw(r7, 8, r3),
      asm.label("right"),
      asm.add(r2, 1),
      asm.stxdw(r7, 0, r2),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
}
