import { styleText } from "node:util";
import { progress } from "../../src/cli/output.ts";
import type { MatrixObserver, RunningGuest } from "./matrix.ts";

/** Shows a person at a terminal how far the guests are, in a line below everything that is printed. */
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

  /** Makes room for a line that stays. */
  clear(): void {
    progress("");
  }
}
