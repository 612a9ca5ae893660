import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A line that the script writes: an object in JSON, with the number of the evaluation that wrote it. */
export interface Report {
  readonly evaluation: number;
  readonly [name: string]: unknown;
}

/** Milliseconds until a report is given up: emulated machines are slow. */
const givesUpAfter = 40_000;

/**
 * A script that runs under `bun --hot` in a process of its own, to be saved again. Its text may use `evaluation`, the number of
 * times that it was evaluated, and `report(object)`.
 */
export class HotScript implements AsyncDisposable {
  readonly #folder: string | undefined;
  readonly #path: string;
  readonly #process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #reports: Report[] = [];
  #errors = "";
  readonly #ends: Promise<unknown>;
  #arrival = Promise.withResolvers<void>();
  #isOver = false;

  /** @param folder the folder of the script, where it is not to be one of its own */
  constructor(text: string, folder?: string) {
    if (folder === undefined) this.#folder = folder = mkdtempSync(join(tmpdir(), "bun-bpf-hot-"));
    this.#path = join(folder, "hot.ts");
    const evaluation = `(globalThis as any).evaluation = ((globalThis as any).evaluation ?? 0) + 1`;
    const report = `(facts: object) => console.log(JSON.stringify({ evaluation, ...facts }))`;
    writeFileSync(
      this.#path,
      `${text.replace("// begin", `const evaluation: number = ${evaluation};\nconst report = ${report};`)}\n`,
    );
    this.#process = Bun.spawn([process.execPath, "--hot", "--no-clear-screen", this.#path], {
      cwd: folder,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.#ends = Promise.all([this.#readReports(), this.#readErrors()]);
  }

  async #readErrors(): Promise<void> {
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      this.#errors += text;
    }
  }

  async #readReports(): Promise<void> {
    let rest = "";
    for await (const text of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#reports.push(...lines.map((line) => JSON.parse(line) as Report));
      this.#arrive();
    }
    this.#isOver = true;
    this.#arrive();
  }

  #arrive(): void {
    this.#arrival.resolve();
    this.#arrival = Promise.withResolvers();
  }

  /** All that was reported so far. */
  get reports(): readonly Report[] {
    return this.#reports;
  }

  /** Waits for a report. @throws {Error} with what the script has written, where none comes */
  async waitFor(
    matches: (report: Report) => boolean,
    milliseconds = givesUpAfter,
  ): Promise<Report> {
    const end = performance.now() + milliseconds;
    for (;;) {
      const found = this.#reports.find(matches);
      if (found !== undefined) return found;
      const left = end - performance.now();
      if (left <= 0 || this.#isOver) break;
      await Promise.race([this.#arrival.promise, Bun.sleep(left)]);
    }
    const state = this.#isOver ? "the script has ended" : "no such report";
    throw new Error(`${state}: ${JSON.stringify(this.#reports)} ${this.#errors}`);
  }

  /** Saves the script once more, and waits until its new evaluation has reported `{ ready: true }`. */
  save(): Promise<Report> {
    const before = Math.max(...this.#reports.map(({ evaluation }) => evaluation));
    appendFileSync(this.#path, "// saved\n");
    return this.waitFor(({ evaluation, ready }) => evaluation > before && ready === true);
  }

  /** Ends the process, and returns what it has written on standard error. */
  async end(): Promise<string> {
    this.#process.kill();
    await this.#ends;
    return this.#errors;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true });
  }
}
