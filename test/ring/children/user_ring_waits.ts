/** @module Waits for room that is never available, referenced or unreferenced. */
import { t, UserRingBuf } from "../../../src/index.ts";

const ring = new UserRingBuf({ size: 4096, event: t.bytes(4000) });
ring.output(new Uint8Array(4000));
if (process.argv[2] === "unref") ring.unref();
ring.write(new Uint8Array(4000)).then(
  () => console.log("written"),
  (error: Error) => console.log(error.name),
);
if (process.argv[2] === "dispose") setTimeout(() => ring[Symbol.dispose](), 300).unref();
console.log("waiting");
