import { PerfReader, type SharedPerfBuffer } from "../../src/ring/perf_reader.ts";
import { PERF_RECORD_LOST, PERF_RECORD_SAMPLE } from "../../src/uapi/system.ts";

const headerSize = 8;

/** A fake of the perf buffer of one CPU, in ordinary memory, for contents that no program writes. */
export class FakePerf implements SharedPerfBuffer {
  readonly size: number;
  readonly data: DataView<ArrayBuffer>;
  /** The position up to which records are written. Tests may set it. */
  written = 0;
  released = 0;
  /** The number of times that this position was read. */
  checks = 0;

  constructor(size = 4096, position = 0) {
    this.size = size;
    this.data = new DataView(new ArrayBuffer(size));
    this.written = this.released = position;
  }

  /** Writes bytes at the next position. */
  write(bytes: ArrayLike<number>): void {
    for (let at = 0; at < bytes.length; at++) {
      this.data.setUint8((this.written + at) % this.size, bytes[at] as number);
    }
    this.written += bytes.length;
  }

  /** Writes a record of any type with these bytes after its header. `size` is the size in the header. */
  record(type: number, body: ArrayLike<number>, size: number = headerSize + body.length): void {
    const record = new Uint8Array(headerSize + body.length);
    const view = new DataView(record.buffer);
    view.setUint32(0, type, true);
    view.setUint16(6, size, true);
    record.set(body, headerSize);
    this.write(record);
  }

  /** Writes a record as a program does. All bits of the padding are set. */
  sample(payload: ArrayLike<number>): void {
    const length = Math.ceil((payload.length + 4) / 8) * 8 - 4;
    const body = new Uint8Array(4 + length).fill(0xff);
    new DataView(body.buffer).setUint32(0, length, true);
    body.set(payload, 4);
    this.record(PERF_RECORD_SAMPLE, body);
  }

  /** Writes a record of one 32-bit number: 16 bytes. */
  putNumber(value: number): void {
    this.sample(new Uint8Array(Uint32Array.of(value).buffer));
  }

  /** Writes the record that the kernel writes before the first record that has room again: 24 bytes. */
  lost(count: number): void {
    this.record(PERF_RECORD_LOST, new Uint8Array(BigUint64Array.of(77n, BigInt(count)).buffer));
  }

  readonly overwrittenBytes = 0;

  look(): number {
    return this.head();
  }

  head(): number {
    this.checks++;
    return this.written;
  }

  tail(): number {
    return this.released;
  }

  release(position: number): void {
    this.released = position;
  }
}

/** Returns a reader of several fakes, from CPU 0 on. The reader disposes of `memory`. */
export function readerOf(
  memories: readonly FakePerf[],
  memory: Disposable = { [Symbol.dispose]() {} },
): PerfReader {
  const cpus = memories.map((fake, cpu) => ({ cpu, memory: fake }));
  return new PerfReader(cpus, memory, memories[0]?.size ?? 0, "fake map");
}

/** Returns the 32-bit numbers that a drain delivers. */
export function numbersOf(reader: PerfReader, limit: number = Number.MAX_SAFE_INTEGER): number[] {
  const numbers: number[] = [];
  reader.drain((view, offset) => void numbers.push(view.getUint32(offset, true)), limit);
  return numbers;
}
