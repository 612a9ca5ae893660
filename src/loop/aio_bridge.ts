import { Aio, createEventfd } from "../ffi/aio.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { explainNoDescriptor } from "../ffi/error.ts";
import type { Bridge } from "./bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

/** The part of a stream's reader that is used here. */
interface Reader {
  read(): Promise<{ readonly done: boolean }>;
  cancel(): Promise<void>;
}

/** The time for which the stream stays open after the last wait has ended. Most consumers wait again within this time. */
const lingerMs = 10;
/** The interval of polling for completions while no stream is open. */
const pollIntervalMs = 10;

/**
 * Bridge that uses Linux AIO, which polls the descriptor and increments an eventfd that Bun reads as a stream. It is for
 * containers whose seccomp profile forbids io_uring.
 *
 * A pending read of a stream always keeps the process alive. So the stream is open only while a wait has to keep it alive.
 * At other times a timer polls for completions, which stay in the counter until then. The timer also replaces the stream
 * while no descriptor is left, because each stream needs a descriptor.
 */
export class AioBridge implements Bridge {
  readonly name = "aio";
  readonly #aio = new Aio();
  readonly #counter: Descriptor;
  readonly #onReady: (id: number) => void;
  /** The ids of armed waits. */
  readonly #armed = new Set<number>();
  #reader: Reader | undefined;
  #linger: Timer | undefined;
  #timer: Timer | undefined;
  #alive = true;

  constructor(onReady: (id: number) => void) {
    this.#onReady = onReady;
    try {
      this.#counter = createEventfd("wake-up counter");
    } catch (error) {
      this.#aio[Symbol.dispose]();
      throw error;
    }
  }

  arm(fd: number, id: number): void {
    this.#aio.poll(fd, id, this.#counter.fd);
    this.#armed.add(id);
    this.#pollLater();
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
        this.#linger = startTimer(() => this.#stop(), lingerMs);
      }
      this.#timer?.unref();
    }
    this.#pollLater();
  }

  #pollLater(): void {
    const isRead = this.#alive && this.#reader !== undefined;
    if (isRead || this.#armed.size === 0 || this.#timer !== undefined) return;
    // The timer stops by itself, because most waits are soon replaced by one that keeps the process alive.
    this.#timer = startTimer(() => {
      this.#timer = undefined;
      if (this.#alive) this.#start();
      this.#reap();
      this.#pollLater();
    }, pollIntervalMs);
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

  /** Throws the error of a stream again, unless its cause is that no descriptor is left. */
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
      // After any end of the stream, the next wait opens a new one.
      if (this.#reader === reader) {
        this.#reader = undefined;
        this.#pollLater();
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
