import { expect } from "bun:test";
import { RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { Producer } from "./producer.ts";

bpfTest("a stream delivers events in order, and reads only its highWaterMark ahead", async () => {
  using ring = new RingBuf({ size: 65536, event: t.u32 });
  using producer = new Producer(ring);
  for (let value = 0; value < 500; value++) producer.putNumber(value);
  const events: number[] = [];
  const stream = ring.stream({ highWaterMark: 10 });
  await Bun.sleep(5);
  // 16 bytes per record: the released bytes are those of the events in the stream.
  expect(ring.backlog).toBeGreaterThanOrEqual(490 * 16);
  const reader = stream.getReader();
  while (events.length < 500) {
    const { value } = await reader.read();
    events.push(value as number);
  }
  expect(events).toEqual(Array.from({ length: 500 }, (_, value) => value));
  const next = reader.read();
  producer.putNumber(500);
  expect(await next).toEqual({ done: false, value: 500 });
  await reader.cancel();
  producer.putNumber(1);
  expect(ring.drain(() => {})).toBe(1);
});

bpfTest("disposal of the ring closes the stream", async () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  producer.putNumber(1);
  const reader = ring.stream().getReader();
  expect(await reader.read()).toEqual({ done: false, value: 1 });
  const next = reader.read();
  ring[Symbol.dispose]();
  expect((await next).done).toBe(true);
});

bpfTest("a signal errors the stream with its reason", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  const controller = new AbortController();
  const reader = ring.stream({ signal: controller.signal }).getReader();
  const next = reader.read();
  const reason = new Error("enough");
  controller.abort(reason);
  await expect(next).rejects.toBe(reason);
  expect(ring.drain(() => {})).toBe(0);
});

bpfTest("a stream can be piped", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  for (let value = 1; value <= 3; value++) producer.putNumber(value);
  const lines: string[] = [];
  const controller = new AbortController();
  const format = new TransformStream<number, string>({
    transform: (event, output) => output.enqueue(`event ${event}`),
  });
  const collect = new WritableStream<string>({
    write(line) {
      lines.push(line);
      if (lines.length === 3) controller.abort();
    },
  });
  const piped = ring.stream().pipeThrough(format).pipeTo(collect, { signal: controller.signal });
  await expect(piped).rejects.toThrow();
  expect(lines).toEqual(["event 1", "event 2", "event 3"]);
});
