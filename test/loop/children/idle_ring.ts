/** @module Waits for a ring that stays empty. */
import { RingBuf, t } from "../../../src/index.ts";

const ring = new RingBuf({ size: 4096, event: t.u32 });
const iterator = ring[Symbol.asyncIterator]();
void iterator.next();
console.log("waiting");
