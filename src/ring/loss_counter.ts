import { PerCpuArrayMap } from "../maps/per_cpu_array_map.ts";
import { u64n } from "../types/integer.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";

/** The counters of the rings that this thread has open, by the kernel's id. */
const counters = new Map<number, LossCounter>();

/** What a ring's lost events are counted in: of several objects for one ring, each should see what programs count by another. */
export class LossCounter {
  readonly #id: number;
  #objects = 0;
  #map: PerCpuArrayMap<number> | undefined;

  private constructor(id: number) {
    this.#id = id;
    counters.set(id, this);
  }

  /** The counter of a ring, for one more object: which is to release it. */
  static of(id: number): LossCounter {
    const counter = counters.get(id) ?? new LossCounter(id);
    counter.#objects++;
    return counter;
  }

  /** The map, made when it is first asked for. */
  map(ringName: string): PerCpuArrayMap<number> {
    const suffix = "_lost";
    const name = ringName.slice(0, BPF_OBJ_NAME_LEN - 1 - suffix.length) + suffix;
    this.#map ??= new PerCpuArrayMap({ value: u64n, maxEntries: 1, name });
    return this.#map;
  }

  get total(): number {
    return this.#map?.sum(0) ?? 0;
  }

  release(): void {
    if (--this.#objects > 0) return;
    counters.delete(this.#id);
    this.#map?.[Symbol.dispose]();
  }
}
