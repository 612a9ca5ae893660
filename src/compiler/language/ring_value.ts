/** @module Ring buffers of the scope. */

import { writablePlace } from "./memory_place.ts";
import type { AnyType } from "../../maps/map_options.ts";
import { storeValue } from "./memory.ts";
import {
  type Argument,
  FixedValue,
  type Syntax,
  undefinedValue,
  type Value,
  type Lowering,
  argument,
} from "./value.ts";

/** A ring buffer. */
export class RingValue extends FixedValue {
  readonly #name: string;
  readonly #event: AnyType;
  readonly #counter: () => string;

  /** @param counter returns the name of the map that counts lost events */
  constructor(name: string, event: AnyType, counter: () => string) {
    super();
    this.#name = name;
    this.#event = event;
    this.#counter = counter;
  }

  override describe(): string {
    return `the ring buffer ${JSON.stringify(this.#name)}`;
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    if (name !== "output") {
      l.refuse(
        at,
        `${this.describe()} has no method ${JSON.stringify(name)} in kernel code`,
        "It has output",
      );
    }
    const { b } = l;
    // All of the record is evaluated first: no call may come between reserving and submitting.
    const value = argument(l, args, 0, at);
    const map = b.add({ kind: "map", map: this.#name });
    const record = b.callHelper("ringbuf_reserve", map, this.#event.size, 0);
    const condition = l.test(b.compare("ne", record, 0));
    const after = [];
    l.enter(condition.no);
    this.#countLost(l);
    after.push(...l.leave());
    l.enter(condition.yes);
    const place = writablePlace(record);
    storeValue(l, this.#event, place, value, `event of ${this.#name}`, args[0] ?? at);
    b.callHelper("ringbuf_submit", record, 0);
    after.push(...l.leave());
    l.enter(after);
    return undefinedValue;
  }

  /** Counts a lost event in the counter of the ring buffer, as `asm.reserveOrCount()` does. */
  #countLost(l: Lowering): void {
    const { b } = l;
    const key = b.slot({ size: 4, align: 4, name: "key of the counter" });
    b.store(key, 0, 4, 0);
    const counter = b.add({ kind: "map", map: this.#counter() });
    const found = b.callHelper("map_lookup_elem", counter, key);
    const condition = l.test(b.compare("ne", found, 0));
    l.enter(condition.yes);
    b.writes++;
    // A program in an interrupt can run on the same CPU at the same time.
    b.add({ kind: "atomic", operator: "add", size: 8, offset: 0 }, [found, b.constant(1)]);
    l.enter([...condition.no, ...l.leave()]);
  }
}
