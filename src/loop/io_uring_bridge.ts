import type { Descriptor } from "../ffi/descriptor.ts";
import { IoUring } from "../ffi/io_uring.ts";
import type { Polled } from "../ffi/poll.ts";
import { socketPair } from "../ffi/socket.ts";
import { type Bridge, deliver, throwUncaught } from "./bridge.ts";

/** What of Bun's socket is used here. */
interface Socket {
  ref(): void;
  unref(): void;
  terminate(): void;
}

/** `Bun.connect` with the option that it takes but its declaration lacks: a connected socket, which it then owns. */
const connectDescriptor = Bun.connect as unknown as (options: {
  readonly fd: number;
  readonly socket: {
    open(socket: Socket): void;
    data(socket: Socket): void;
    error(socket: Socket, error: Error): void;
  };
}) => Promise<Socket>;

/**
 * io_uring polls the descriptor and then sends a byte on a socket whose other end Bun watches: no thread, and one system
 * call for each wake-up.
 */
export class IoUringBridge implements Bridge {
  readonly name = "io_uring";
  readonly #ring = new IoUring();
  readonly #sender: Descriptor;
  readonly #onReady: (id: number) => void;
  #socket: Socket | undefined;
  #alive = true;
  #disposed = false;

  constructor(onReady: (id: number) => void) {
    this.#onReady = onReady;
    const [sender, receiver] = this.#socketPair();
    this.#sender = sender;
    this.#connect(receiver).then(
      (socket) => this.#opened(socket),
      // Nothing would ever wake up again: better an uncaught error than silence.
      throwUncaught,
    );
  }

  #socketPair(): ReturnType<typeof socketPair> {
    try {
      return socketPair("wake-up socket");
    } catch (error) {
      this.#ring[Symbol.dispose]();
      throw error;
    }
  }

  #connect(receiver: Descriptor): Promise<Socket> {
    try {
      const opened = connectDescriptor({
        fd: receiver.fd,
        socket: {
          open: (socket) => this.#opened(socket),
          // A call that was on its way when the bridge ended finds nothing to reap.
          data: () => {
            if (!this.#disposed) deliver(this.#ring.reap(), this.#onReady);
          },
          error: (_socket, error) => {
            throw error;
          },
        },
      });
      // From here on Bun closes it.
      receiver.release();
      return opened;
    } catch (error) {
      receiver[Symbol.dispose]();
      this.#sender[Symbol.dispose]();
      this.#ring[Symbol.dispose]();
      throw error;
    }
  }

  #opened(socket: Socket): void {
    this.#socket = socket;
    if (this.#disposed) socket.terminate();
    else this.keepAlive(this.#alive);
  }

  arm(polled: Polled, id: number): void {
    this.#ring.pollAndSend(polled, id, this.#sender.fd);
  }

  cancel(id: number): void {
    this.#ring.cancelPoll(id);
  }

  keepAlive(alive: boolean): void {
    this.#alive = alive;
    if (alive) this.#socket?.ref();
    else this.#socket?.unref();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#ring[Symbol.dispose]();
    this.#sender[Symbol.dispose]();
    this.#socket?.terminate();
  }
}
