import { ArrayMap, asm, type LiveMap, Program, t } from "../../src/index.ts";

const { r0, r1, r2, r3, r4, r6, r7, r8 } = asm;

/** A packet of the minimum length for socket filters: an Ethernet header. */
export const packet: Uint8Array = new Uint8Array(14);

/** A request to the program. */
const actions = { output: 0, submit: 1, discard: 2 } as const;

/** The size of records that are reserved, not copied. The verifier demands a constant. */
export const reservedSize = 24;
const headerSize = 16;

/** A flag of `bpf_ringbuf_submit()`, `bpf_ringbuf_discard()` and `bpf_ringbuf_output()`. */
export interface PutOptions {
  readonly flags?: number;
}

/** Writes records to a ring buffer on demand: each call runs a program in the kernel. */
export class Producer implements Disposable {
  readonly #request: ArrayMap<t.Type<Uint8Array>>;
  readonly #program: Program;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** @param largest bytes of the longest record */
  constructor(ring: LiveMap, largest = 64) {
    this.#bytes = new Uint8Array(headerSize + largest);
    this.#view = new DataView(this.#bytes.buffer);
    this.#request = new ArrayMap({ value: t.bytes(this.#bytes.length), length: 1 });
    this.#program = new Program({
      section: "socket",
      license: "GPL",
      name: "producer",
      maps: { ring, request: this.#request },
      code: [
        asm.ldMapValue(r6, "request", 0),
        asm.ldxw(r7, r6, 0),
        asm.ldxdw(r8, r6, 8),
        asm.ldMap(r1, "ring"),
        asm.jne(r7, actions.output, "reserve"),
        asm.mov(r2, r6),
        asm.add(r2, headerSize),
        asm.ldxw(r3, r6, 4),
        asm.jgt(r3, largest, "failed"),
        asm.mov(r4, r8),
        asm.call("ringbuf_output"),
        asm.exit(),
        asm.label("reserve"),
        asm.mov(r2, reservedSize),
        asm.mov(r3, 0),
        asm.call("ringbuf_reserve"),
        asm.jeq(r0, 0, "failed"),
        asm.mov(r1, r0),
        asm.stdw(r1, 0, -1),
        asm.stdw(r1, 8, -1),
        asm.stdw(r1, 16, -1),
        asm.mov(r2, r8),
        asm.jeq(r7, actions.discard, "discard"),
        asm.call("ringbuf_submit"),
        asm.mov(r0, 0),
        asm.exit(),
        asm.label("discard"),
        asm.call("ringbuf_discard"),
        asm.mov(r0, 0),
        asm.exit(),
        asm.label("failed"),
        asm.mov(r0, -1),
        asm.exit(),
      ],
    });
  }

  /** The descriptor of the program. Another thread that runs the program repeats the last request. */
  get programFd(): number {
    return this.#program.fd;
  }

  /** Copies a record into the ring. Returns false if the ring is full. */
  put(payload: Uint8Array, options: PutOptions = {}): boolean {
    this.#bytes.set(payload, headerSize);
    return this.#run(actions.output, payload.length, options);
  }

  /** Writes a record of one 32-bit number. */
  putNumber(value: number, options: PutOptions = {}): boolean {
    return this.put(new Uint8Array(Uint32Array.of(value).buffer), options);
  }

  /** Reserves a record of {@link reservedSize} bytes, sets all bits and submits it. */
  submit(options: PutOptions = {}): boolean {
    return this.#run(actions.submit, 0, options);
  }

  /** Reserves and discards a record. The consumer has to skip it. */
  discard(options: PutOptions = {}): boolean {
    return this.#run(actions.discard, 0, options);
  }

  #run(action: number, length: number, { flags = 0 }: PutOptions): boolean {
    this.#view.setUint32(0, action, true);
    this.#view.setUint32(4, length, true);
    this.#view.setUint32(8, flags, true);
    this.#request.set(0, this.#bytes);
    return this.#program.testRun({ data: packet }).returnValue === 0;
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#request[Symbol.dispose]();
  }
}

/** The records of a {@link counter}. */
export const countedEvent = t.struct({
  sequence: t.u32,
  padding: t.u32,
});

/** The progress of a {@link counter}. */
export const counterState = t.struct({
  next: t.u64Number,
  lost: t.u64Number,
});

/**
 * Returns a program that submits one record per run, numbered from 0. A number without room is counted as lost in `state` and
 * used again.
 */
export function counter(ring: LiveMap, state: LiveMap): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    name: "counter",
    maps: { ring, state },
    code: [
      asm.ldMap(r1, "ring"),
      asm.mov(r2, 8),
      asm.mov(r3, 0),
      asm.call("ringbuf_reserve"),
      asm.ldMapValue(r6, "state", 0),
      asm.jeq(r0, 0, "full"),
      asm.mov(r2, 1),
      asm.atomicFetchAdd(r6, 0, r2),
      asm.stxdw(r0, 0, r2),
      asm.mov(r1, r0),
      asm.mov(r2, 0),
      asm.call("ringbuf_submit"),
      asm.mov(r0, 0),
      asm.exit(),
      asm.label("full"),
      asm.mov(r2, 1),
      asm.atomicAdd(r6, 8, r2),
      asm.mov(r0, 1),
      asm.exit(),
    ],
  });
}
