// Run without capabilities: which call is refused that would enter a new network namespace.
import { BpfError } from "../../../src/ffi/error.ts";
import { inNewNetworkNamespace } from "../../../src/ffi/namespace.ts";

try {
  inNewNetworkNamespace(() => {});
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(error.code, error.syscall);
}
