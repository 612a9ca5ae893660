import type { SharedRing } from "../../src/ring/reader.ts";

const headerSize = 8;
const busyBit = 0x8000_0000;
const discardBit = 0x4000_0000;

/** A fake of a ring buffer, in ordinary memory, for states that no program causes. */
export class FakeRing implements SharedRing {
  readonly size: number;
  /** The data, twice in a row. This class writes both copies. */
  readonly data: DataView;
  producer = 0;
  consumer = 0;
  readonly overwrittenBytes = 0;
  /** The number of times that a consumer read the positions. */
  checks = 0;
  disposed = false;

  constructor(size = 4096) {
    this.size = size;
    this.data = new DataView(new ArrayBuffer(2 * size));
  }

  /** Reserves a record as a program does. It is busy until {@link commit}. Returns its position. */
  reserve(length: number): number {
    const position = this.producer;
    this.setHeader(position, length, busyBit);
    this.producer += Math.ceil((length + headerSize) / 8) * 8;
    return position;
  }

  /** Submits or discards a reserved record. */
  commit(position: number, length: number, { discard = false } = {}): void {
    this.setHeader(position, length, discard ? discardBit : 0);
  }

  /** Writes a record of one 32-bit number. */
  putNumber(value: number): void {
    const position = this.reserve(4);
    this.set(position + headerSize, value);
    this.commit(position, 4);
  }

  setHeader(position: number, length: number, bits: number): void {
    this.set(position, (length | bits) >>> 0);
    this.set(position + 4, 0);
  }

  set(position: number, word: number): void {
    const offset = position % this.size;
    this.data.setUint32(offset, word, true);
    this.data.setUint32(offset + this.size, word, true);
  }

  look(): void {
    this.checks++;
  }

  releasedPosition(): number {
    return this.consumer;
  }

  release(from: number, to: number): boolean {
    if (this.consumer !== from) return false;
    this.consumer = to;
    return true;
  }

  advanceTo(position: number): void {
    this.consumer = Math.max(this.consumer, position);
  }

  [Symbol.dispose](): void {
    this.disposed = true;
  }
}
