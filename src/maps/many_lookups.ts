import { BpfError } from "../ffi/error.ts";
import { type LookedUpMap, LookupProgram } from "./lookup_program.ts";
import type { ValueLayout } from "./value_layout.ts";

/** A program costs some milliseconds to load: as much as so many single look-ups. */
const worthwhile = 4096;
/** A run of the program costs as much as a few single look-ups. */
const fewest = 16;

/**
 * Look-ups of many chosen keys by a program in the kernel, once enough keys were asked for to be worth one.
 *
 * Where the kernel or this process's privileges do not suffice there is none, and look-ups stay single ones.
 */
export class ManyLookups implements Disposable {
  #program: LookupProgram | undefined;
  #isRefused = false;
  /** Types of keys and values are the user's code, which may look up in the same map. */
  #isBusy = false;
  #asked = 0;

  /** Whether a program is to look up so many keys: false until it is worth the loading. */
  isWorthwhile(count: number): boolean {
    if (this.#isRefused || this.#isBusy || count < fewest) return false;
    this.#asked += count;
    return this.#asked >= worthwhile;
  }

  /**
   * The values of these keys, in their order; `undefined` where single look-ups have to do it.
   *
   * @param write writes a key, the one at `index` of all, at an offset of the view
   */
  find<K, V>(
    map: LookedUpMap,
    keys: readonly K[],
    write: (view: DataView, offset: number, key: K, index: number) => void,
    layout: Pick<ValueLayout<V>, "read">,
  ): (V | undefined)[] | undefined {
    this.#isBusy = true;
    try {
      this.#program ??= new LookupProgram(map);
      const program = this.#program;
      const values = new Array<V | undefined>(keys.length);
      for (let start = 0; start < keys.length; start += program.capacity) {
        const count = Math.min(program.capacity, keys.length - start);
        for (let i = 0; i < count; i++) {
          write(program.view, program.keyOffset(i), keys[start + i] as K, start + i);
        }
        program.run(count);
        for (let i = 0; i < count; i++) values[start + i] = program.readValue(layout, i);
      }
      return values;
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      this.#isRefused = true;
      return undefined;
    } finally {
      this.#isBusy = false;
      if (this.#isRefused) this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    this.#isRefused = true;
    // The user's code may dispose of the map in the midst: the look-ups under way still have the memory then.
    if (this.#isBusy) return;
    this.#program?.[Symbol.dispose]();
    this.#program = undefined;
  }
}
