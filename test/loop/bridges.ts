import { test } from "bun:test";
import { writeSync } from "node:fs";
import { createEventfd } from "../../src/ffi/aio.ts";
import type { Descriptor } from "../../src/ffi/descriptor.ts";
import type { BridgeName } from "../../src/loop/bridge.ts";
import { eventLoop, watch } from "../../src/loop/event_loop.ts";
import { type DefineTest, skipping } from "../support/skipping.ts";

/** The variable that forces a bridge. */
export const bridgeVariable = "BUN_BPF_LOOP";

/** The bridges, each with the reason for which it cannot be tested here, if any. */
export const bridges: readonly { name: BridgeName; obstacle: string | undefined }[] = (
  ["io_uring", "aio", "timer"] as const
).map((name) => ({ name, obstacle: findObstacle(name) }));

function findObstacle(name: BridgeName): string | undefined {
  try {
    withBridge(name, () => {
      using _watch = watch(
        () => -1,
        () => {},
      );
    });
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/** Runs `body` while this bridge is forced. The first watch opens it, and the disposal of the last one closes it. */
export function withBridge<Result>(name: BridgeName, body: () => Result): Result {
  const before = process.env[bridgeVariable];
  process.env[bridgeVariable] = name;
  const restore = () => {
    if (before === undefined) delete process.env[bridgeVariable];
    else process.env[bridgeVariable] = before;
  };
  let result: Result;
  try {
    result = body();
  } catch (error) {
    restore();
    throw error;
  }
  if (!(result instanceof Promise)) {
    restore();
    return result;
  }
  return result.finally(restore) as Result;
}

/** The kernel waits for an RCU grace period when an AIO context is destroyed, which takes long on a busy machine. */
const timeoutMs = 60_000;

/** Defines a test for each bridge, which is skipped where the system forbids the bridge. */
export function bridgeTest(
  name: string,
  body: (bridge: BridgeName) => void | Promise<void>,
  define: DefineTest = test,
): void {
  for (const { name: bridge, obstacle } of bridges) {
    const defineHere = obstacle === undefined ? define : skipping(obstacle);
    defineHere(
      `${bridge}: ${name}`,
      async () => {
        if (eventLoop.bridge !== undefined) throw new Error("an earlier test left a watch open");
        await withBridge(bridge, async () => body(bridge));
        if (eventLoop.bridge !== undefined) throw new Error("this test left a watch open");
      },
      timeoutMs,
    );
  }
}

/** A descriptor that becomes readable at a call of {@link raise}. */
export class Signal implements Disposable {
  readonly #descriptor: Descriptor = createEventfd("signal");

  get fd(): number {
    return this.#descriptor.fd;
  }

  raise(): void {
    writeSync(this.fd, new Uint8Array(BigUint64Array.of(1n).buffer));
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
