import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An object that the script has reported, with the number of the evaluation that reported it. */
export interface Report {
  readonly evaluation: number;
  readonly [name: string]: unknown;
}

/** The longest wait for a report. Emulated machines are slow. */
const reportTimeoutMs = 40_000;

/**
 * A script that runs under `bun --hot` in a separate process, and can be saved again. Its code can use `evaluation`, the number
 * of times that it was evaluated, and `report(object)`.
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

  /** @param folder the folder of the script; by default a new one */
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

  /** All reports so far. */
  get reports(): readonly Report[] {
    return this.#reports;
  }

  /** Waits for a report. @throws {Error} with the reports and standard error of the script, if no report matches in time. */
  async waitFor(
    matches: (report: Report) => boolean,
    milliseconds = reportTimeoutMs,
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

  /** Saves the script again, and waits until its new evaluation has reported `{ ready: true }`. */
  save(): Promise<Report> {
    const before = Math.max(...this.#reports.map(({ evaluation }) => evaluation));
    appendFileSync(this.#path, "// saved\n");
    return this.waitFor(({ evaluation, ready }) => evaluation > before && ready === true);
  }

  /** Ends the process, and returns its standard error. */
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
