import { CLONE_NEWNET } from "../uapi/sched.ts";
import type { Descriptor } from "./descriptor.ts";
import { inNewNamespace, type NamespaceKind, openNamespace } from "./namespace.ts";

const kind: NamespaceKind = {
  name: "network namespace",
  file: "net",
  flag: CLONE_NEWNET,
  config: "CONFIG_NET_NS",
};

/** Opens the network namespace that this thread is in. @throws as {@link openNamespace} does */
export function openNetworkNamespace(): Descriptor {
  return openNamespace(kind);
}

/**
 * Calls a function in a network namespace that is made for it: with no interface but a loopback that is down.
 *
 * @throws as {@link inNewNamespace} does
 */
export function inNewNetworkNamespace<Result>(body: () => Result): Result {
  return inNewNamespace(kind, body);
}
