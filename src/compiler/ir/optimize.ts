/** @module The passes that make functions smaller and faster. */

import { cleanBlocks } from "./clean_blocks.ts";
import { removeDeadCode } from "./dead_code.ts";
import type { IrFunction } from "./ir.ts";
import { shareValues } from "./share_values.ts";
import { simplify } from "./simplify.ts";
import { threadJumps } from "./thread_jumps.ts";

/** Number of rounds at most. Each makes work for the next, and most functions need two. */
const maxRounds = 4;

/** Optimizes a function. Nodes that have a range keep one that is right. */
export function optimize(fn: IrFunction): void {
  cleanBlocks(fn);
  for (let round = 0; round < maxRounds; round++) {
    simplify(fn);
    shareValues(fn);
    simplify(fn);
    cleanBlocks(fn);
    const changed = threadJumps(fn);
    removeDeadCode(fn);
    cleanBlocks(fn);
    if (!changed && round > 0) break;
  }
}
