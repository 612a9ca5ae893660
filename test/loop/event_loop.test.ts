import { expect, test } from "bun:test";
import { eventLoop, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { withBridge } from "./bridges.ts";

bpfTest("use takes precedence over the environment variable", () => {
  try {
    withBridge("aio", () => {
      eventLoop.use("timer");
      using ring = new RingBuf({ size: 4096, event: t.u32 });
      expect(eventLoop.bridge).toBeUndefined();
      {
        using _ = ring.subscribe(() => {});
        expect(eventLoop.bridge).toBe("timer");
        expect(eventLoop.refusals).toEqual([]);
        eventLoop.use("timer");
        expect(() => eventLoop.use("io_uring")).toThrow(
          "the bridge timer is in use on this thread",
        );
      }
      expect(eventLoop.bridge).toBeUndefined();
      eventLoop.use("auto");
      using _ = ring.subscribe(() => {});
      expect(eventLoop.bridge).toBe("aio");
    });
  } finally {
    eventLoop.use("auto");
  }
});

test("use throws a TypeError with the known names for an unknown bridge", () => {
  // @ts-expect-error: wrong on purpose
  expect(() => eventLoop.use("epoll")).toThrow(
    'use: expected one of "auto", "io_uring", "aio", "timer", got "epoll"',
  );
});
