import type { OverwrittenRing } from "../../src/ring/reader.ts";
import { FakeRing } from "./fake_ring.ts";

const headerSize = 8;
const lengthMask = 0x3fff_ffff;

/** A fake of a ring in overwrite mode, in ordinary memory. It is written as the kernel does. */
export class FakeOverwriteRing extends FakeRing implements OverwrittenRing {
  overwrite = 0;
  /** Called at the start of {@link overwritePosition}: does what a program does at that moment. */
  meanwhile: (() => void) | undefined;

  overwritePosition(): number {
    this.meanwhile?.();
    return this.overwrite;
  }

  override reserve(length: number): number {
    const end = this.producer + Math.ceil((length + headerSize) / 8) * 8;
    while (end - this.overwrite > this.size - 1) {
      const header = this.data.getUint32(this.overwrite % this.size, true);
      this.overwrite += Math.ceil(((header & lengthMask) + headerSize) / 8) * 8;
    }
    return super.reserve(length);
  }

  /** Writes a record of `length` bytes, each of which is the low byte of its number. */
  put(number: number, length: number): void {
    const position = this.reserve(length);
    for (let at = 0; at < length; at++) {
      const offset = (position + headerSize + at) % this.size;
      this.data.setUint8(offset, number);
      this.data.setUint8(offset + this.size, number);
    }
    this.commit(position, length);
  }
}
