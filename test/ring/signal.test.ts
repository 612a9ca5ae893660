import { expect } from "bun:test";
import { RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { Producer } from "./producer.ts";

const kinds = {
  events: (ring: RingBuf<t.Type<number>>, signal: AbortSignal) => ring.events({ signal }),
  batches: (ring: RingBuf<t.Type<number>>, signal: AbortSignal) => ring.batches({ signal }),
} as const;

for (const [kind, iterate] of Object.entries(kinds)) {
  bpfTest(`${kind}: an abort during a wait rejects once, with the reason`, async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    const controller = new AbortController();
    const reason = new Error("enough");
    const iterator = iterate(ring, controller.signal);
    const waiting = [iterator.next(), iterator.next()];
    controller.abort(reason);
    await expect(waiting[0]).rejects.toBe(reason);
    expect(await waiting[1]).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(ring.drain(() => {})).toBe(0);
  });

  bpfTest(
    `${kind}: an abort between two calls rejects the next call and keeps the events`,
    async () => {
      using ring = new RingBuf({ size: 4096, event: t.u32 });
      using producer = new Producer(ring);
      const controller = new AbortController();
      const iterator = iterate(ring, controller.signal);
      producer.putNumber(1);
      await iterator.next();
      producer.putNumber(2);
      controller.abort();
      await expect(iterator.next()).rejects.toThrow(controller.signal.reason);
      expect(await iterator.next()).toEqual({ done: true, value: undefined });
      const rest: number[] = [];
      ring.drain((event) => void rest.push(event));
      expect(rest).toEqual([2]);
    },
  );

  bpfTest(`${kind}: an aborted signal rejects the first call`, async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    producer.putNumber(1);
    const iterator = iterate(ring, AbortSignal.abort());
    // Another consumer is allowed at once.
    expect(ring.drain(() => {})).toBe(1);
    await expect(iterator.next()).rejects.toHaveProperty("name", "AbortError");
  });

  bpfTest(`${kind}: an abort after the end has no effect`, async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    const controller = new AbortController();
    const iterator = iterate(ring, controller.signal);
    await iterator.return?.();
    using _ = ring.subscribe(() => {});
    controller.abort();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });
}

bpfTest("for await with AbortSignal.timeout() throws a TimeoutError", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  const loop = async () => {
    for await (const _ of ring.events({ signal: AbortSignal.timeout(10) })) expect.unreachable();
  };
  await expect(loop()).rejects.toHaveProperty("name", "TimeoutError");
});
