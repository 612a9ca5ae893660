import { expect, test } from "bun:test";
import { type DrainCode, sharedDrainCode, specialize } from "../../src/ring/drain_code.ts";
import { RingReader } from "../../src/ring/reader.ts";
import { runBun } from "../support/run.ts";
import { bpfTest } from "../support/privilege.ts";
import { FakeRing } from "./fake_ring.ts";

const children = `${import.meta.dir}/children`;
const everything = Number.MAX_SAFE_INTEGER;

test("a copy of the code is a different function with the same source text", () => {
  const copies = [specialize(), specialize()];
  for (const copy of copies) {
    expect(copy).not.toBe(sharedDrainCode);
    for (const name of Object.keys(sharedDrainCode) as (keyof DrainCode)[]) {
      expect(copy[name]).not.toBe(sharedDrainCode[name]);
      expect(`${copy[name]}`).toBe(`${sharedDrainCode[name]}`);
    }
  }
  expect(copies[0]?.drain).not.toBe(copies[1]?.drain as DrainCode["drain"]);
});

test("a busy reader gets a copy of the code, and reads the same records with it", () => {
  const memory = new FakeRing(65536);
  using reader = new RingReader(memory, memory.size, "fake ring");
  const codes = new Set<DrainCode>();
  let next = 0;
  for (let round = 0; round < 100; round++) {
    for (let value = 0; value < 100; value++) memory.putNumber(round * 100 + value);
    codes.add(reader.code);
    const count = reader.drain((view, offset, length) => {
      if (view.getUint32(offset, true) !== next++ || length !== 4) throw new Error("another one");
    }, everything);
    expect(count).toBe(100);
  }
  expect(next).toBe(10_000);
  expect(codes.size).toBe(2);
  expect(codes.has(sharedDrainCode)).toBe(true);
  expect(reader.totals).toMatchObject({ events: 10_000, bytes: 160_000 });
});

test("holding records between drains does not change the count of released bytes", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  for (let value = 0; value < 10; value++) memory.putNumber(value);
  expect(reader.drain(() => {}, 2)).toBe(2);
  expect(reader.hold(3, 4096)).toBe(3);
  expect(memory.consumer).toBe(32);
  const at = reader.locate(0);
  reader.markDelivered(at, 1);
  reader.releaseHeld();
  // One of the three was delivered; the others were not.
  expect(memory.consumer).toBe(48);
  reader.releaseHeld();
  expect(reader.hold(100, 40)).toBe(2);
  reader.markDelivered(reader.heldBytes, 2);
  reader.releaseHeld();
  expect(reader.drain(() => {}, everything)).toBe(5);
  expect(reader.totals).toMatchObject({ events: 10, bytes: 160 });
  expect(memory.consumer).toBe(memory.producer);
});

test("disposal releases held records only up to the last delivered one", () => {
  const memory = new FakeRing();
  const reader = new RingReader(memory, memory.size, "fake ring");
  for (let value = 0; value < 4; value++) memory.putNumber(value);
  reader.hold(4, 4096);
  reader.markDelivered(reader.locate(0), 1);
  reader[Symbol.dispose]();
  expect(memory.consumer).toBe(16);
});

test("discarded records without events between them are released without a hold", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  for (let count = 0; count < 3; count++) memory.commit(memory.reserve(8), 8, { discard: true });
  expect(reader.hold(10, 4096)).toBe(0);
  expect(memory.consumer).toBe(memory.producer);
  expect(reader.totals).toMatchObject({ events: 0, discarded: 3, bytes: 48 });
});

test("a held record whose header changes is an error, and nothing beyond the records is read", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  memory.putNumber(1);
  memory.putNumber(2);
  reader.hold(2, 4096);
  memory.setHeader(16, 1000, 0);
  const second = reader.locate(0);
  expect(() => reader.locate(second)).toThrow(
    "is corrupt: the record at position 16 has a length of 1000",
  );
  expect(reader.isCorrupt).toBe(true);
});

bpfTest("rings can be drained if code cannot be generated from strings", async () => {
  const args = ["--disallow-code-generation-from-strings", `${children}/no_code_generation.ts`];
  expect(await runBun(args)).toMatchObject({
    exitCode: 0,
    stdout: "drained 20000, in place 20000, raw 20000\n",
    stderr: "",
  });
});

bpfTest("loops that wait for records of another thread see them in optimized code", async () => {
  const ended = await runBun([`${children}/spinning.ts`], { timeout: 30_000 });
  expect(ended).toMatchObject({
    exitCode: 0,
    stdout: "backlog: seen\ndrain: seen\ndrainRaw: seen\n",
    stderr: "",
  });
});

bpfTest("events and views in place that are kept do not crash optimized code", async () => {
  const ended = await runBun([`${children}/kept_in_place.ts`], { timeout: 30_000 });
  expect(ended).toMatchObject({ exitCode: 0, signalCode: null, stdout: "survived\n", stderr: "" });
});
