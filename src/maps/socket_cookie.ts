/** @module Maps of sockets: what is read from them, and why they refuse one. */

import type { Hints } from "../ffi/map_hints.ts";
import { cookieSize } from "./fd_layout.ts";

/** A map of sockets, as far as its values go. */
interface SocketMap {
  readonly valueSize: number;
  /** Throws when the map is disposed of. */
  readonly fd: number;
}

/**
 * Checks that sockets can be read from a map. One that was made with values of 4 bytes, by a program's author, say, has no
 * room for a cookie: sockets are stored in it and deleted all the same.
 *
 * @throws {TypeError}
 */
export function checkReadable(map: SocketMap): void {
  if (map.valueSize === cookieSize) return;
  void map.fd;
  throw new TypeError(
    `${map} cannot be read: its values have ${map.valueSize} bytes, and the cookie of a socket takes ${cookieSize}: make the map with values of ${cookieSize}, as this class does`,
  );
}

/** What refusals of sockets by a sockmap or sockhash mean. */
export const sockMapHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "It is no socket",
  EOPNOTSUPP:
    "The kernel takes TCP sockets that are connected (listening ones since 5.7), UDP sockets (since 5.7), Unix sockets that are connected or take datagrams (since 5.15), and no others, nor those that another protocol such as MPTCP or SCTP is in",
  EINVAL: "Another layer on the socket, such as kernel TLS, does not go together with this map",
  EBUSY: "Something else in the kernel holds the socket, such as a ReuseportSockArray",
};
