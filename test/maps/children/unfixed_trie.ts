// Simulates a kernel whose tries ignore the conditions of updates, and prints the errors.
import { LpmTrie, t } from "../../../src/index.ts";
import { trieFixes } from "../../../src/maps/lpm_trie.ts";
import { refusalOf } from "../refusal_of.ts";

Object.assign(trieFixes.lpm_trie_update, { reproduce: () => "it stores an absent prefix" });
using routes = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 4, name: "routes" });
for (const store of [routes.add, routes.replace]) {
  const { code, message } = refusalOf(() => store.call(routes, "10.0.0.0/8", 1));
  console.log(code, message);
}
if (routes.count() !== 0) throw new Error("a prefix was stored");
