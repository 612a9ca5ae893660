/** @module What Bun itself costs with the same code loaded, while it waits for something that does not come. */
import { RingBuf, t } from "../../../src/index.ts";

new RingBuf({ size: 4096, event: t.u32 });
setTimeout(() => {}, 2 ** 30);
console.log("waiting");
