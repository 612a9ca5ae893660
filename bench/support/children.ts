import type { Subprocess } from "bun";
import { constants } from "node:os";

/** The time after SIGTERM after which a child is killed. */
const graceMilliseconds = 2000;

const running = new Set<Child>();

/** A child process that prints lines on stdout. It ends when this process ends. */
export class Child {
  readonly #process: Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string, void>;
  readonly #command: string;

  constructor(command: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    cleanUpOnSignals();
    this.#command = command.join(" ");
    this.#process = Bun.spawn([...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
      env: { ...process.env, ...environment },
    });
    this.#lines = linesOf(this.#process.stdout);
    running.add(this);
    void this.#process.exited.then(() => running.delete(this));
  }

  get pid(): number {
    return this.#process.pid;
  }

  /**
   * Returns the next line that the child prints.
   *
   * @throws {Error} if the child ends before it prints a line.
   */
  async line(): Promise<string> {
    const { done, value } = await this.#lines.next();
    if (done !== true) return value;
    const status = await this.#process.exited;
    // Ctrl-C also ends the children. That is not an error, and this process is about to end, too.
    if (isEnding) await new Promise(() => {});
    throw new Error(`${this.#command}: ended with status ${status} before it printed its result`);
  }

  /** Returns the next line, parsed as JSON. */
  async json<T>(): Promise<T> {
    return JSON.parse(await this.line()) as T;
  }

  /** Writes a line to the standard input of the child. */
  send(line: string): void {
    void this.#process.stdin.write(`${line}\n`);
    void this.#process.stdin.flush();
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Waits until the child ends by itself. */
  async ended(): Promise<void> {
    await this.#process.exited;
  }

  /** Ends the child by SIGTERM, and by SIGKILL if that does not end it. */
  async end(): Promise<void> {
    this.#process.kill("SIGTERM");
    const force = setTimeout(() => this.#process.kill("SIGKILL"), graceMilliseconds);
    await this.#process.exited;
    clearTimeout(force);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}

let isCleaningUp = false;
let isEnding = false;

/** Ends all children before this process ends by Ctrl-C or another signal. */
export function cleanUpOnSignals(): void {
  if (isCleaningUp) return;
  isCleaningUp = true;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(name, () => {
      isEnding = true;
      void Promise.all([...running].map((child) => child.end())).then(() =>
        process.exit(128 + constants.signals[name]),
      );
    });
  }
}
