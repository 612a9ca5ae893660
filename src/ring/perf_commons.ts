import { specializedAfter } from "./drain_code.ts";
import { type PerfDrainCode, sharedPerfDrainCode, specializePerf } from "./perf_drain_code.ts";
import { noTotals, type ReaderTotals } from "./record_reader.ts";

/** What a record's 16-bit size, a multiple of 8, can be at most. */
export const longestPerfRecord = 0xfff8;

/** What the readers of all CPUs of one perf buffer share. */
export class PerfReaderCommons implements Disposable {
  readonly totals: ReaderTotals = noTotals();
  /** Where a record that wraps around the end of its data is copied to: one is looked at at a time. */
  readonly scratch: Uint8Array<ArrayBuffer>;
  readonly scratchView: DataView<ArrayBuffer>;
  #code = sharedPerfDrainCode;

  /** @param size bytes of the data of one CPU */
  constructor(size: number) {
    this.scratch = new Uint8Array(Math.min(size, longestPerfRecord));
    this.scratchView = new DataView(this.scratch.buffer);
  }

  get code(): PerfDrainCode {
    if (this.#code === sharedPerfDrainCode && this.totals.events >= specializedAfter) {
      this.#code = specializePerf();
    }
    return this.#code;
  }

  /** Detaches the view of copies, as those of the kernel's memory are. */
  [Symbol.dispose](): void {
    if (!this.scratch.buffer.detached) this.scratch.buffer.transfer(0);
  }
}
