import { BpfError } from "../../src/index.ts";

/** Returns the BpfError that a call throws. */
export function refusalOf(call: () => unknown): BpfError {
  try {
    call();
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
  throw new Error("the kernel refused nothing");
}
