/** @module Loads the same code as idle_ring.ts and waits for a timer that does not fire, to measure an idle Bun. */
import { RingBuf, t } from "../../../src/index.ts";

new RingBuf({ size: 4096, event: t.u32 });
setTimeout(() => {}, 2 ** 30);
console.log("waiting");
