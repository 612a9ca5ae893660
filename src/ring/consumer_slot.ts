import type { Watch } from "../loop/reactor.ts";
import { checkCount } from "../types/argument.ts";
import type { Moderation } from "./consume_options.ts";
import { type Consumer, registerConsumer } from "./consumers.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import type { PumpParts } from "./pump.ts";
import type { RecordReader } from "./record_reader.ts";
import { ConsumerCounts } from "./stats.ts";

/** How long a consumer may keep timers and I/O waiting, where it is not told otherwise. */
export const turnMilliseconds = 2;

/** A consumer that runs on the event loop. */
export interface LoopConsumer {
  /** Begins to wait. It may end at once, when its signal has aborted already. */
  begin(): void;
  /** Looks now; what it found. */
  look(): number;
  /** Whether waiting keeps the process alive. */
  keepAlive(alive: boolean): void;
  finish(): void;
}

/** What every consumer on the event loop gets. */
export interface ConsumerParts extends Omit<PumpParts, "look"> {
  readonly counts: ConsumerCounts;
  readonly signal: AbortSignal | undefined;
  /** To be called once, when it has ended. */
  readonly onEnd: () => void;
}

/** A buffer, for its slot. */
export interface ConsumedBuffer {
  /** The kernel's id: several objects may stand for one buffer. */
  readonly id: number;
  /** Names it in errors. */
  readonly what: string;
  /** Owned from here on. */
  readonly reader: RecordReader;
  readonly watch: (onReady: () => void) => Watch;
}

/** The place for a buffer's consumer, of which there is one at a time. */
export class ConsumerSlot implements Disposable {
  readonly counts = new ConsumerCounts();
  readonly reader: RecordReader;
  readonly #buffer: ConsumedBuffer;
  #consumer: LoopConsumer | undefined;
  #isReferenced = true;

  constructor(buffer: ConsumedBuffer) {
    this.#buffer = buffer;
    this.reader = buffer.reader;
  }

  /**
   * Drains now, as a consumer for this moment.
   *
   * @param onEnd called when the records that were shown may not be read any more
   * @throws {Error} when there is a consumer already, or one has ended whose callback still runs
   */
  drain(
    callback: () => RawRecordCallback,
    limit = Number.MAX_SAFE_INTEGER,
    onEnd: () => void = () => {},
  ): number {
    checkCount("limit", limit, 1, Number.MAX_SAFE_INTEGER);
    const { reader } = this;
    const end = this.#register("drain");
    if (reader.isDraining) {
      end();
      throw new Error(
        `${this.#buffer.what} is being drained: the callback that runs has to return first`,
      );
    }
    const before = reader.totals.events;
    try {
      return reader.drain(callback(), limit);
    } finally {
      end();
      onEnd();
      this.counts.found(reader.totals.events - before);
    }
  }

  /** Gives the place to a consumer on the event loop until that ends. @throws {Error} when there is one already */
  begin<C extends LoopConsumer>(
    kind: Consumer,
    moderation: Moderation,
    make: (parts: ConsumerParts) => C,
  ): C {
    const end = this.#register(kind);
    try {
      const consumer = make({
        reader: this.reader,
        watch: this.#buffer.watch,
        counts: this.counts,
        moderation,
        signal: moderation.signal,
        isReferenced: this.#isReferenced,
        onEnd: () => {
          this.#consumer = undefined;
          end();
        },
      });
      this.#consumer = consumer;
      consumer.begin();
      return consumer;
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Has the consumer look now; what it found. */
  flush(): number {
    return this.#consumer?.look() ?? 0;
  }

  /** Whether consumers that wait keep the process alive: the present one, and those to come. */
  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#consumer?.keepAlive(alive);
  }

  #register(kind: Consumer): () => void {
    return registerConsumer(this.#buffer.id, kind, this.#buffer.what);
  }

  /** Releases what was delivered, unmaps the memory, and ends the consumer. @throws {Error} as the reader's disposal does */
  [Symbol.dispose](): void {
    this.reader[Symbol.dispose]();
    this.#consumer?.finish();
  }
}
