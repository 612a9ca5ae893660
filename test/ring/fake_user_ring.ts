import type { SharedUserRing } from "../../src/ring/user_ring_writer.ts";

const headerSize = 8;
const busyBit = 0x8000_0000;
const discardBit = 0x4000_0000;
/** Bytes of guard memory before and after the shared memory, which must not change. */
const guard = 64;
const positionsSize = 8;

/** A fake of a user ring buffer, in ordinary memory, with the kernel's side of it (kernel/bpf/ringbuf.c). */
export class FakeUserRing implements SharedUserRing {
  readonly size: number;
  readonly data: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headers: Int32Array<ArrayBuffer>;
  readonly producerHalves: Int32Array<ArrayBuffer>;
  readonly producer: BigUint64Array<ArrayBuffer>;
  readonly consumer: BigUint64Array<ArrayBuffer> = new BigUint64Array(1);
  /** All memory that a faulty writer could access. */
  readonly everything: Uint8Array;
  disposed = false;
  /** True if disposal throws, as it does while an operation uses the memory. */
  isPinned = false;

  constructor(size = 4096, position = 0n) {
    this.size = size;
    const buffer = new ArrayBuffer(guard + positionsSize + guard + 2 * size + guard);
    const data = guard + positionsSize + guard;
    this.everything = new Uint8Array(buffer);
    this.producer = new BigUint64Array(buffer, guard, 1);
    this.producerHalves = new Int32Array(buffer, guard, 2);
    this.data = new DataView(buffer, data, 2 * size);
    this.bytes = new Uint8Array(buffer, data, 2 * size);
    this.headers = new Int32Array(buffer, data, size / 2);
    this.producer[0] = this.consumer[0] = position;
  }

  part(offset: number, length: number): ArrayBuffer {
    return this.data.buffer.slice(
      this.data.byteOffset + offset,
      this.data.byteOffset + offset + length,
    );
  }

  detachPart(part: ArrayBuffer): boolean {
    if (!part.detached) part.transfer(0);
    return part.detached;
  }

  get producerPosition(): bigint {
    return this.producer[0] as bigint;
  }

  get consumerPosition(): bigint {
    return this.consumer[0] as bigint;
  }

  /** Returns the offset of a position in {@link data}. */
  offsetOf(position: bigint): number {
    return Number(position & BigInt(this.size - 1));
  }

  /**
   * Returns what the kernel finds: the bytes of the next record, `"discarded"` after it has skipped one, or the reason for its
   * end.
   */
  peek(): Uint8Array | "discarded" | "empty" | "busy" | "invalid" {
    const [producer, consumer] = [this.producerPosition, this.consumerPosition];
    if (producer % 8n !== 0n) return "invalid";
    if (consumer >= producer) return "empty";
    const offset = this.offsetOf(consumer);
    const header = this.data.getUint32(offset, true);
    const length = (header & ~(busyBit | discardBit)) >>> 0;
    const total = BigInt(Math.ceil((length + headerSize) / 8) * 8);
    if (total > producer - consumer || total > BigInt(this.size)) return "invalid";
    if ((header & discardBit) !== 0) {
      this.consumer[0] = consumer + total;
      return "discarded";
    }
    if ((header & busyBit) !== 0) return "busy";
    return this.bytes.slice(offset + headerSize, offset + headerSize + length);
  }

  /** Drains the ring as the helper does. Returns the bytes of the records. */
  drain(limit = Number.POSITIVE_INFINITY): Uint8Array[] {
    const records: Uint8Array[] = [];
    while (records.length < limit) {
      const found = this.peek();
      if (found === "discarded") continue;
      if (found === "invalid") throw new Error("the kernel returns EINVAL");
      if (found === "empty" || found === "busy") break;
      records.push(found);
      const total = BigInt(Math.ceil((found.length + headerSize) / 8) * 8);
      this.consumer[0] = this.consumerPosition + total;
    }
    return records;
  }

  [Symbol.dispose](): void {
    if (this.isPinned) throw new Error("the memory is in use");
    this.disposed = true;
  }
}
