// Reads views of an array map in compiled code, before and after the map is disposed of, and prints "survived". It runs as a
// child, because a failure ends the process.
import { ArrayMap, t } from "../../../src/index.ts";

/** Sums the bytes. It is called often enough to be compiled before the disposal. */
function sumBytes(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < 64; i++) sum += bytes[i] ?? -1;
  return sum;
}

function readWord(view: DataView, offset: number): number {
  return view.getUint32(offset, true);
}

function writeWord(words: Uint32Array, value: number): void {
  words[3] = value;
}

for (let round = 0; round < 5; round++) {
  const map = new ArrayMap({ value: t.u32, length: 1024, mmap: true });
  map.setMany(Array.from({ length: 16 }, (_, index) => [index, 1] as const));
  const { view } = map;
  const bytes = new Uint8Array(view.buffer);
  const words = new Uint32Array(view.buffer);
  let sum = 0;
  for (let i = 0; i < 120_000; i++) {
    sum += sumBytes(bytes) + readWord(view, (i & 15) * 8);
    writeWord(words, 0);
  }
  if (sum !== 120_000 * 9) throw new Error(`summed up to ${sum}`);
  Bun.gc(true);
  map[Symbol.dispose]();
  Bun.gc(true);
  // The memory is unmapped now. Map something else there, which must not be read or changed.
  const others = Array.from({ length: 20 }, () => new Uint8Array(8192).fill(1));
  for (let i = 0; i < 120_000; i++) {
    if (sumBytes(bytes) !== -64) throw new Error("a byte was read after disposal");
    writeWord(words, 0xffffffff);
    if (words[3] !== undefined) throw new Error("a word was stored after disposal");
  }
  let refusals = 0;
  for (let i = 0; i < 1000; i++) {
    try {
      readWord(view, 0);
    } catch {
      refusals++;
    }
  }
  if (refusals !== 1000) throw new Error(`${1000 - refusals} of 1000 reads of a DataView passed`);
  if (!others.every((other) => other.every((byte) => byte === 1))) throw new Error("overwritten");
}
console.log("survived");
