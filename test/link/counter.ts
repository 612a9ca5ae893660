import { ArrayMap, asm, Program, type SectionName, t } from "../../src/index.ts";

const { r0, r1, r2, fp } = asm;

/** Counts the runs of programs. */
export class RunCounter implements Disposable {
  readonly #map = new ArrayMap({ value: t.u64Number, length: 1, name: "runs" });

  /** The number of runs until now. */
  get runs(): number {
    return this.#map.at(0) ?? 0;
  }

  /** Loads a program of a section that counts its runs. @param returned the program's return value */
  program<const S extends SectionName>(section: S, returned: number): Program<S> {
    return new Program({
      section,
      license: "GPL",
      name: "run_counter",
      maps: { runs: this.#map },
      code: [
        asm.stw(fp, -4, 0),
        asm.ldMap(r1, "runs"),
        asm.mov(r2, fp),
        asm.add(r2, -4),
        asm.call("map_lookup_elem"),
        asm.jeq(r0, 0, "out"),
        asm.mov(r1, 1),
        asm.atomicAdd(r0, 0, r1),
        asm.label("out"),
        asm.mov(r0, returned),
        asm.exit(),
      ],
    });
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}
