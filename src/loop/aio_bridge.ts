import { Aio, eventDescriptor } from "../ffi/aio.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import type { Bridge } from "./bridge.ts";
import { deliver } from "./deliver.ts";

/** What of a stream's reader is used here. */
interface Reader {
  read(): Promise<{ readonly done: boolean }>;
  cancel(): Promise<void>;
}

/** How long the counter is still watched when nobody waits: most consumers wait again within this. */
const lingerMilliseconds = 10;

/**
 * Linux AIO polls the descriptor and counts up an eventfd that Bun reads as a stream. For containers whose seccomp
 * profile forbids io_uring.
 *
 * A pending read of a stream keeps the process alive and cannot be told not to, so there is one only while somebody
 * waits; what happens in between stays in the counter.
 */
export class AioBridge implements Bridge {
  readonly name = "aio";
  readonly #aio = new Aio();
  readonly #counter: Descriptor;
  readonly #onReady: (id: number) => void;
  #reader: Reader | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;

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
  }

  cancel(id: number): void {
    this.#aio.cancel(id);
  }

  keepAlive(alive: boolean): void {
    clearTimeout(this.#linger);
    if (alive) this.#start();
    else if (this.#reader !== undefined) {
      this.#linger = setTimeout(() => this.#stop(), lingerMilliseconds);
    }
  }

  #start(): void {
    if (this.#reader !== undefined) return;
    const reader: Reader = Bun.file(this.#counter.fd).stream().getReader();
    this.#reader = reader;
    void this.#read(reader);
  }

  async #read(reader: Reader): Promise<void> {
    try {
      while (this.#reader === reader) {
        const { done } = await reader.read();
        if (done) return;
        deliver(this.#aio.reap(), this.#onReady);
      }
    } finally {
      // However the reading ended, the next wait begins it anew.
      if (this.#reader === reader) this.#reader = undefined;
    }
  }

  #stop(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    void reader?.cancel();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#linger);
    this.#stop();
    this.#aio[Symbol.dispose]();
    this.#counter[Symbol.dispose]();
  }
}
