/** @module The network interfaces and network namespaces that options name. */

import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import {
  inNetworkNamespace,
  type Netns,
  openNetns,
  openNetworkNamespace,
} from "../ffi/namespace.ts";
import { interfaceIndex, interfaceName } from "../ffi/socket.ts";
import { IFNAMSIZ } from "../uapi/network.ts";

/** The option of ways to attach that names a network namespace. */
export interface NetnsOptions {
  /**
   * The network namespace: the path of its file, the id of a process in it, or an object with a descriptor of it as `fd`.
   *
   * Another namespace than that of this thread needs CAP_SYS_ADMIN.
   *
   * @default the network namespace of this thread
   */
  readonly netns?: Netns;
}

/** The options of ways to attach that name a network interface. */
export interface InterfaceOptions extends NetnsOptions {
  /** The name or the index of the interface: `"eth0"`. */
  readonly interface: string | number;
}

/** A network interface in the network namespace that this thread is in. */
export interface NetworkInterface {
  readonly index: number;
  /** The name, or `interface 3` for an interface that was given by its index. */
  readonly label: string;
}

/** Opens the network namespace that an option names; without one, that of this thread. @throws {BpfError} if it is absent. */
export function openNetnsOption(netns: Netns | undefined): Descriptor {
  return netns === undefined ? openNetworkNamespace() : openNetns(netns);
}

/**
 * Calls a function in a network namespace; without one, in that of this thread.
 *
 * @throws {BpfError} if the namespace cannot be entered.
 */
export function inNetns<Result>(netns: Netns | undefined, body: () => Result): Result {
  if (netns === undefined) return body();
  using opened = openNetns(netns);
  return inNetworkNamespace(opened.fd, body);
}

/**
 * Calls a function in the network namespace of an interface.
 *
 * @throws {BpfError} `ENODEV` if no interface has the name.
 * @throws {TypeError | RangeError} if the interface is neither a name nor an index.
 */
export function atInterface<Result>(
  { interface: name, netns }: InterfaceOptions,
  body: (device: NetworkInterface) => Result,
): Result {
  checkInterface(name);
  return inNetns(netns, () =>
    body(
      typeof name === "string"
        ? { index: interfaceIndex(name), label: name }
        : { index: name, label: `interface ${name}` },
    ),
  );
}

function checkInterface(name: unknown): void {
  if (typeof name === "number") return checkCount("interface", name, 1);
  if (typeof name !== "string" || name === "" || /[\0/]/.test(name)) {
    throw new TypeError(
      `interface: expected the name or the index of a network interface, got ${describe(name)}`,
    );
  }
  if (Buffer.byteLength(name) >= IFNAMSIZ) {
    throw new RangeError(
      `interface: expected a name of at most ${IFNAMSIZ - 1} bytes, got ${describe(name)}`,
    );
  }
}

/** Returns a hint that no interface has an index; `undefined` if one has. @throws {BpfError} if neither can be found out. */
export function missingInterface({ index }: Pick<NetworkInterface, "index">): string | undefined {
  return interfaceName(index) === undefined
    ? `This network namespace has no interface with the index ${index}: \`ip link\` lists its interfaces`
    : undefined;
}
