// Tries to enter a new network namespace without capabilities, and prints the error and the call that failed.
import { BpfError } from "../../../src/ffi/error.ts";
import { inNewNetworkNamespace } from "../../../src/ffi/namespace.ts";

try {
  inNewNetworkNamespace(() => {});
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(error.code, error.syscall);
}
