import { LpmTrie, type t } from "../../src/index.ts";
import { TrieWalk, type Walk, type WalkedMap } from "../../src/maps/walk.ts";

/** Walk as on kernels without batches for tries (before 5.13). */
class KeyByKeyWalk extends TrieWalk {
  constructor(map: WalkedMap) {
    super(map);
    this.lookup = () => "unsupported";
  }
}

/** LPM trie over which iteration goes key by key. */
export class KeyByKeyTrie<K extends t.Type<unknown>, V extends t.Type<unknown>> extends LpmTrie<
  K,
  V
> {
  protected override walk(): Walk {
    return new KeyByKeyWalk(this.elements.walked);
  }
}
