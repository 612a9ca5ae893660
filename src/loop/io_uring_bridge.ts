import type { Descriptor } from "../ffi/descriptor.ts";
import { IoUring } from "../ffi/io_uring.ts";
import { createSocketPair } from "../ffi/socket.ts";
import { type Bridge, throwUncaught } from "./bridge.ts";

/** The part of Bun's socket that is used here. */
interface Socket {
  ref(): void;
  unref(): void;
  terminate(): void;
}

/** `Bun.connect` with the option `fd`, which its type declaration lacks: a connected socket, which Bun then owns. */
const connectDescriptor = Bun.connect as unknown as (options: {
  readonly fd: number;
  readonly socket: {
    open(socket: Socket): void;
    data(socket: Socket): void;
    error(socket: Socket, error: Error): void;
  };
}) => Promise<Socket>;

/**
 * Bridge that uses io_uring, which polls the descriptor and then sends a byte to a socket whose other end Bun polls. It needs no
 * thread, and makes one system call for each wake-up.
 */
export class IoUringBridge implements Bridge {
  readonly name = "io_uring";
  readonly #ring: IoUring;
  readonly #sender: Descriptor;
  #socket: Socket | undefined;
  #alive = true;
  #disposed = false;

  constructor(onReady: (id: number) => void) {
    using opened = new DisposableStack();
    this.#ring = opened.use(new IoUring());
    const [sender, receiver] = createSocketPair("wake-up socket");
    this.#sender = opened.use(sender);
    const connected = connectDescriptor({
      fd: opened.use(receiver).fd,
      socket: {
        open: (socket) => this.#opened(socket),
        data: () => {
          // The byte may have been sent before the bridge was disposed of.
          if (this.#disposed) return;
          for (const id of this.#ring.reap()) onReady(id);
        },
        error: (_socket, error) => {
          throw error;
        },
      },
    });
    // Bun owns the descriptor from here on.
    receiver.release();
    opened.move();
    connected.then(
      (socket) => this.#opened(socket),
      // Without the socket no wake-up would ever arrive, so the error must not be lost.
      throwUncaught,
    );
  }

  #opened(socket: Socket): void {
    this.#socket = socket;
    if (this.#disposed) socket.terminate();
    else this.keepAlive(this.#alive);
  }

  arm(fd: number, id: number): void {
    this.#ring.pollAndSend(fd, id, this.#sender.fd);
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
