import { styleText } from "node:util";
import { progress } from "../../src/cli/output.ts";
import type { MatrixObserver, RunningGuest } from "./matrix.ts";

/** Shows the progress of the guests on a terminal, in a line below the output. */
export class Progress implements MatrixObserver {
  readonly #running = new Set<RunningGuest>();

  onStart(guest: RunningGuest): void {
    this.#running.add(guest);
  }

  onTests(): void {
    const counts = Array.from(this.#running, ({ kernel, tests }) => `${kernel.release}: ${tests}`);
    if (counts.length > 0) progress(styleText("dim", `tests so far on ${counts.join(", on ")}`));
  }

  onEnd(guest: RunningGuest): void {
    this.#running.delete(guest);
  }

  /** Removes the line, before other output. */
  clear(): void {
    progress("");
  }
}
