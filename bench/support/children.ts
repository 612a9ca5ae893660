import type { Subprocess } from "bun";
import { constants } from "node:os";

/** How long a child may take to end itself before it is killed. */
const graceMilliseconds = 2000;

const running = new Set<Child>();

/** A process that this one started: it talks in lines on stdout, and is gone when this one is. */
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

  /** The next line that it prints. @throws {Error} when it ends before */
  async line(): Promise<string> {
    const { done, value } = await this.#lines.next();
    if (done !== true) return value;
    const status = await this.#process.exited;
    // Ctrl-C reaches children as well: that is no failure of theirs, and this process is about to end.
    if (isEnding) await new Promise(() => {});
    throw new Error(`${this.#command}: ended with status ${status} before it had said all`);
  }

  /** The next line, which is JSON. */
  async json<T>(): Promise<T> {
    return JSON.parse(await this.line()) as T;
  }

  /** Gives it a line to read. */
  send(line: string): void {
    void this.#process.stdin.write(`${line}\n`);
    void this.#process.stdin.flush();
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Waits until it ends by itself. */
  async ended(): Promise<void> {
    await this.#process.exited;
  }

  /** Ends it, by force where it does not end when asked to. */
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

/** Ctrl-C ends the children before this process: nothing of a benchmark goes on. */
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
