import { Aio, eventDescriptor } from "../ffi/aio.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { explainNoDescriptor } from "../ffi/error.ts";
import type { Bridge } from "./bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

/** The part of a stream's reader that is used here. */
interface Reader {
  read(): Promise<{ readonly done: boolean }>;
  cancel(): Promise<void>;
}

/** The time for which the counter is still watched when nobody waits: most consumers wait again within this. */
const lingerMilliseconds = 10;
/** The interval of polling for completions while there is no stream. */
const lookMilliseconds = 10;

/**
 * Linux AIO polls the descriptor and counts up an eventfd that Bun reads as a stream. For containers whose seccomp
 * profile forbids io_uring.
 *
 * A pending read of a stream keeps the process alive and cannot be told not to, so there is one only while somebody
 * waits who does that, too; what happens in between stays in the counter. Waits that are not to keep the process alive
 * are polled by a timer instead, and so are all while no descriptor is left: each stream takes one.
 */
export class AioBridge implements Bridge {
  readonly name = "aio";
  readonly #aio = new Aio();
  readonly #counter: Descriptor;
  readonly #onReady: (id: number) => void;
  /** The ids that are armed. */
  readonly #armed = new Set<number>();
  #reader: Reader | undefined;
  #linger: Timer | undefined;
  #timer: Timer | undefined;
  #alive = true;

  constructor(onReady: (id: number) => void) {
    this.#onReady = onReady;
    try {
      this.#counter = eventDescriptor("wake-up counter");
    } catch (error) {
      this.#aio[Symbol.dispose]();
      throw error;
    }
  }

  arm(fd: number, id: number): void {
    this.#aio.poll(fd, id, this.#counter.fd);
    this.#armed.add(id);
    this.#lookLater();
  }

  cancel(id: number): void {
    this.#aio.cancel(id);
    this.#armed.delete(id);
  }

  keepAlive(alive: boolean): void {
    this.#alive = alive;
    stopTimer(this.#linger);
    if (alive) {
      this.#start();
      this.#timer?.ref();
    } else {
      if (this.#reader !== undefined) {
        this.#linger = startTimer(() => this.#stop(), lingerMilliseconds);
      }
      this.#timer?.unref();
    }
    this.#lookLater();
  }

  #lookLater(): void {
    const isRead = this.#alive && this.#reader !== undefined;
    if (isRead || this.#armed.size === 0 || this.#timer !== undefined) return;
    // It ends itself: a wait that does keep the process alive follows most of those that do not yet.
    this.#timer = startTimer(() => {
      this.#timer = undefined;
      if (this.#alive) this.#start();
      this.#reap();
      this.#lookLater();
    }, lookMilliseconds);
    if (!this.#alive) this.#timer.unref();
  }

  #reap(): void {
    const completed = this.#aio.reap();
    for (const id of completed) this.#armed.delete(id);
    for (const id of completed) this.#onReady(id);
  }

  #start(): void {
    if (this.#reader !== undefined) return;
    try {
      const reader: Reader = Bun.file(this.#counter.fd).stream().getReader();
      this.#reader = reader;
      void this.#read(reader);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** @throws the error of a stream, unless it is that no descriptor is left */
  #failed(error: unknown): void {
    if (explainNoDescriptor(-((error as NodeJS.ErrnoException).errno ?? 0)) === undefined) {
      throw error;
    }
  }

  async #read(reader: Reader): Promise<void> {
    try {
      while (this.#reader === reader) {
        const { done } = await reader.read();
        if (done) return;
        this.#reap();
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      // However the reading ended, the next wait begins it anew.
      if (this.#reader === reader) {
        this.#reader = undefined;
        this.#lookLater();
      }
    }
  }

  #stop(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    void reader?.cancel();
  }

  [Symbol.dispose](): void {
    stopTimer(this.#linger);
    stopTimer(this.#timer);
    this.#armed.clear();
    this.#stop();
    this.#aio[Symbol.dispose]();
    this.#counter[Symbol.dispose]();
  }
}
