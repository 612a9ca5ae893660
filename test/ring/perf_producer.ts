import { dlopen } from "bun:ffi";
import { ArrayMap, asm, type LiveMap, Program, t } from "../../src/index.ts";
import { packet } from "./producer.ts";

const { r0, r1, r2, r3, r4, r5, r6, r7, r9 } = asm;

const headerSize = 16;

/** `BPF_F_CURRENT_CPU`: selects the buffer of the CPU that the program runs on. */
const currentCpu = 0xffff_ffff;

/** Writes records to a perf buffer on demand: each call runs a program on the CPU that this thread runs on. */
export class PerfProducer implements Disposable {
  readonly #request: ArrayMap<t.Type<Uint8Array>>;
  readonly #program: Program;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** @param largest bytes of the longest record */
  constructor(buffer: LiveMap, largest = 64) {
    this.#bytes = new Uint8Array(headerSize + largest);
    this.#view = new DataView(this.#bytes.buffer);
    this.#request = new ArrayMap({ value: t.bytes(this.#bytes.length), length: 1 });
    this.#program = new Program({
      section: "socket",
      license: "GPL",
      name: "perf_producer",
      maps: { buffer, request: this.#request },
      code: [
        asm.mov(r9, r1),
        asm.ldMapValue(r6, "request", 0),
        asm.ldxw(r5, r6, 0),
        asm.jgt(r5, largest, "failed"),
        asm.ldxdw(r3, r6, 8),
        asm.mov(r1, r9),
        asm.ldMap(r2, "buffer"),
        asm.mov(r4, r6),
        asm.add(r4, headerSize),
        asm.call("perf_event_output"),
        asm.exit(),
        asm.label("failed"),
        asm.mov(r0, -1),
        asm.exit(),
      ],
    });
  }

  /** Writes a record. Returns the result of the helper: 0, or a negative errno. */
  output(payload: Uint8Array, index = currentCpu): number {
    this.#bytes.set(payload, headerSize);
    this.#view.setUint32(0, payload.length, true);
    this.#view.setUint32(8, index, true);
    this.#request.set(0, this.#bytes);
    return this.#program.testRun({ data: packet }).returnValue | 0;
  }

  /** Writes a record. Returns false if there is no room. */
  put(payload: Uint8Array): boolean {
    return this.output(payload) === 0;
  }

  /** Writes a record of one 32-bit number. */
  putNumber(value: number): boolean {
    return this.put(new Uint8Array(Uint32Array.of(value).buffer));
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#request[Symbol.dispose]();
  }
}

/** The progress of a {@link perfCounter}. */
export const perfCounterState = t.struct({
  next: t.u64Number,
  lost: t.u64Number,
});

/** The records of a {@link perfCounter}. */
export const perfCounted = t.struct({ sequence: t.u64Number });

/**
 * Returns a program that writes one record per run, numbered from 0 on each CPU. A number without room is counted in `states`,
 * a per-CPU array, and used again. The program returns 0 if the record was written.
 */
export function perfCounter(buffer: LiveMap, states: LiveMap): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    name: "perf_counter",
    maps: { buffer, states },
    code: [
      asm.mov(r9, r1),
      asm.stw(asm.fp, -4, 0),
      asm.ldMap(r1, "states"),
      asm.mov(r2, asm.fp),
      asm.add(r2, -4),
      asm.call("map_lookup_elem"),
      asm.jeq(r0, 0, "out"),
      asm.mov(r7, r0),
      asm.ldxdw(r6, r7, 0),
      asm.stxdw(asm.fp, -16, r6),
      asm.mov(r1, r9),
      asm.ldMap(r2, "buffer"),
      asm.mov32(r3, -1),
      asm.mov(r4, asm.fp),
      asm.add(r4, -16),
      asm.mov(r5, 8),
      asm.call("perf_event_output"),
      asm.jne(r0, 0, "full"),
      asm.add(r6, 1),
      asm.stxdw(r7, 0, r6),
      asm.label("out"),
      asm.mov(r0, 0),
      asm.exit(),
      asm.label("full"),
      asm.ldxdw(r6, r7, 8),
      asm.add(r6, 1),
      asm.stxdw(r7, 8, r6),
      asm.mov(r0, 1),
      asm.exit(),
    ],
  });
}

const { sched_getaffinity, sched_setaffinity } = dlopen("libc.so.6", {
  sched_getaffinity: { args: ["i32", "u64", "ptr"], returns: "i32" },
  sched_setaffinity: { args: ["i32", "u64", "ptr"], returns: "i32" },
}).symbols;
/** The size of a cpu_set_t in bytes: it has 1024 bits, one per CPU. */
const setSize = 128;

/** Runs `body` on one CPU. Returns `undefined` without running it if this process may not run on that CPU. */
export function onCpu<Result>(cpu: number, body: () => Result): Result | undefined {
  const before = new Uint8Array(setSize);
  sched_getaffinity(0, setSize, before);
  const wanted = new Uint8Array(setSize);
  wanted[cpu >> 3] = 1 << (cpu & 7);
  if (sched_setaffinity(0, setSize, wanted) !== 0) return undefined;
  try {
    return body();
  } finally {
    sched_setaffinity(0, setSize, before);
  }
}
