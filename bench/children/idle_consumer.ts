// Waits for events that are never written, until it is killed: bun bench/children/idle_consumer.ts --rings N
// With 0 rings this is the reference process, which has loaded the same code and waits for a socket.
import { parseArgs } from "node:util";
import { RingBuf, t } from "../../src/index.ts";
import { endWithParent } from "../support/libc.ts";

const { values } = parseArgs({ options: { rings: { type: "string" } } });
const rings = Number(values.rings);
const ringSize = 64 * 1024;

endWithParent();
for (let ring = 0; ring < rings; ring++) {
  new RingBuf({ size: ringSize, event: t.u64Number }).subscribe(() => {});
}
if (rings === 0) {
  const socket = { data() {} };
  const { port } = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  await Bun.connect({ hostname: "127.0.0.1", port, socket });
}
console.log("ready");
