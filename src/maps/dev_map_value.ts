/** @module What maps of network interfaces hold. */

import { interfaceIndex } from "../ffi/interface.ts";
import type { Hints } from "../ffi/map_hints.ts";
import { checkCount, checkOptions } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import type { FdLike } from "./fd_like.ts";
import { ProgrammedLayout } from "./programmed_layout.ts";

/** A network interface of this process's network namespace: its index or its name, such as `1` or `"lo"`. */
export type NetworkInterface = number | string;

/** What is stored in a {@link DevMap} or {@link DevMapHash}: an interface, alone or with a program. */
export type DevMapValue =
  | NetworkInterface
  | {
      /** The interface that packets are sent out by. */
      readonly ifindex: NetworkInterface;
      /**
       * An XDP program that sees each packet before it is sent, loaded for the attachment `BPF_XDP_DEVMAP` (libbpf's section
       * `xdp/devmap`).
       */
      readonly program?: FdLike | undefined;
    };

/** What is read from a {@link DevMap} or {@link DevMapHash}. */
export interface DevMapEntry {
  /** The index of the interface. */
  readonly ifindex: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** What refusals of interfaces mean. */
export const devMapHints: Hints = {
  EINVAL:
    "This network namespace has no interface of that index (`ip link` lists those that it has), or the program is none of type XDP that was loaded for devmaps (attachment BPF_XDP_DEVMAP)",
};

/** How the values of a map of interfaces lie in memory: of one whose values have that many bytes. */
export function devMapLayout(size: number): ProgrammedLayout<DevMapEntry, DevMapValue> {
  return new ProgrammedLayout(size, {
    take(value) {
      if (typeof value !== "object") return { number: indexOf(value) };
      checkOptions("interface", value, ["ifindex", "program"]);
      return { number: indexOf(value.ifindex), program: value.program };
    },
    make: (ifindex, programId) => ({ ifindex, programId }),
  });
}

function indexOf(device: NetworkInterface): number {
  if (typeof device === "string") {
    if (device === "" || device.includes("\0")) {
      throw new TypeError(
        `ifindex: expected the name of a network interface, such as "eth0", got ${describe(device)}`,
      );
    }
    return interfaceIndex(device);
  }
  if (typeof device !== "number") {
    throw new TypeError(
      `ifindex: expected the index or the name of a network interface, got ${describe(device)}`,
    );
  }
  // The kernel would take 0 for a deletion.
  checkCount("ifindex", device, 1);
  return device;
}
