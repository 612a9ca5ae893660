import type { Watch } from "../../src/loop/event_loop.ts";
import { RecordSource } from "../../src/ring/consumer.ts";
import { RingReader } from "../../src/ring/reader.ts";
import type { Type } from "../../src/types/type.ts";
import type { FakeRing } from "./fake_ring.ts";

/** A source over a ring in ordinary memory. The test counts and sends the wake-ups. */
export class FakeSource<E> extends RecordSource<E> {
  /** True while a consumer waits for a wake-up. */
  isArmed = false;
  /** The number of waits for a wake-up. */
  armed = 0;
  /** True if the wait keeps the process alive. */
  isWatchReferenced = true;
  /** Errors that arming and ending the wait throw. */
  failures: { arm?: Error; dispose?: Error } = {};
  onReady = (): void => {};
  /** True after the last consumer has ended. */
  isFree = true;

  constructor(memory: FakeRing, type: Type<E>) {
    const map = {
      id: nextId--,
      get stats(): never {
        throw new Error("a fake ring has no stats");
      },
      watch: (onReady: () => void) => this.#watch(onReady),
      toString: () => "fake ring",
    };
    super(map, type, new RingReader(memory, memory.size, "fake ring"));
  }

  /** Sends a wake-up as the kernel does. */
  wake(): void {
    this.isArmed = false;
    this.onReady();
  }

  override claim(kind: Parameters<RecordSource<E>["claim"]>[0]): void {
    super.claim(kind);
    this.isFree = false;
  }

  override free(): void {
    super.free();
    this.isFree = true;
  }

  #watch(onReady: () => void): Watch {
    this.onReady = onReady;
    return {
      arm: () => {
        if (this.failures.arm !== undefined) throw this.failures.arm;
        this.isArmed = true;
        this.armed++;
      },
      disarm: () => {
        this.isArmed = false;
      },
      keepAlive: (alive) => {
        this.isWatchReferenced = alive;
      },
      [Symbol.dispose]: () => {
        this.isArmed = false;
        if (this.failures.dispose !== undefined) throw this.failures.dispose;
      },
    };
  }
}

/** The map id of the last fake. Ids of the kernel are above 0. */
let nextId = -1;
