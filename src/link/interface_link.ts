import type { Descriptor } from "../ffi/descriptor.ts";
import { interfaceName } from "../ffi/socket.ts";
import { Link } from "./link.ts";
import type { LinkInfo } from "./link_info.ts";
import type { NetworkInterface } from "./network_target.ts";

/**
 * A link to a network interface that this process has attached. It knows the name of the interface, which the kernel does not
 * report. The index alone does not identify an interface: other network namespaces use the same numbers.
 */
export class InterfaceLink extends Link {
  readonly #name: string | undefined;

  /** Reads the name of the interface in the network namespace that this thread is in. */
  constructor(descriptor: Descriptor, { index }: NetworkInterface) {
    super(descriptor);
    this.#name = interfaceName(index);
  }

  override info(): LinkInfo {
    const info = super.info();
    if (!("interfaceName" in info) || info.ifindex === undefined) return info;
    return { ...info, interfaceName: info.interfaceName ?? this.#name };
  }
}
