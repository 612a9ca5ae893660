// Acts as on a kernel whose tries store whether a key is there or not, and prints what that refuses.
import { LpmTrie, t } from "../../../src/index.ts";
import { trieFixes } from "../../../src/maps/lpm_trie.ts";
import { refusalOf } from "../refusal_of.ts";

Object.assign(trieFixes.lpm_trie_update, { mistake: () => "it replaces what is not there" });
using routes = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 4, name: "routes" });
for (const store of [routes.add, routes.replace]) {
  const { code, message } = refusalOf(() => store.call(routes, "10.0.0.0/8", 1));
  console.log(code, message);
}
if (routes.count() !== 0) throw new Error("it was stored");
