import { BpfError } from "../ffi/error.ts";

/**
 * A refusal in the midst of many: the map has the first `applied` of them.
 *
 * @example
 * ```ts
 * import { BatchError, HashMap, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 2 });
 * try {
 *   map.setMany([[1, 1], [2, 2], [3, 3]]);
 * } catch (error) {
 *   if (error instanceof BatchError) console.log(error.applied); // 2
 * }
 * ```
 */
export class BatchError extends BpfError {
  override readonly name = "BatchError";
  /** How many were applied, counted from the first one given. */
  readonly applied: number;

  /** @internal */
  constructor(cause: BpfError, applied: number, total: number, doing: string) {
    const { errno, syscall, hint } = cause;
    super({ errno, syscall, doing: `${doing} (${applied} of ${total} were applied)`, hint });
    this.applied = applied;
  }
}
