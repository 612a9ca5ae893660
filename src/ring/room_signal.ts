import { WritableEdge } from "../ffi/epoll.ts";
import { watch } from "../loop/reactor.ts";
import type { RoomSignal } from "./room_queue.ts";

/** Has the event loop wait until programs drain something of a user ring buffer. */
export function roomSignal(fd: number, what: string, onRoom: () => void): RoomSignal {
  const edge = new WritableEdge(fd, what);
  try {
    const waiting = watch(() => edge.fd, onRoom);
    return {
      forget: () => edge.forget(),
      arm: () => waiting.arm(),
      disarm: () => waiting.disarm(),
      keepAlive: (alive) => waiting.keepAlive(alive),
      [Symbol.dispose]() {
        waiting[Symbol.dispose]();
        edge[Symbol.dispose]();
      },
    };
  } catch (error) {
    edge[Symbol.dispose]();
    throw error;
  }
}
