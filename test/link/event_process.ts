import { join } from "node:path";
import { TestCgroup } from "../support/cgroups.ts";

/** A process in a cgroup and a network namespace of its own, which causes events (see children/network_events.ts). */
export class EventProcess implements AsyncDisposable {
  readonly cgroup: TestCgroup;
  readonly #process: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor() {
    this.cgroup = new TestCgroup();
    this.#process = Bun.spawn(
      [process.execPath, join(import.meta.dir, "children/network_events.ts")],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    this.#lines = linesOf(this.#process.stdout);
  }

  /** Starts the process and moves it into the cgroup. */
  static async start(): Promise<EventProcess> {
    const started = new EventProcess();
    await started.#expect("ready");
    started.cgroup.add(started.#process.pid);
    return started;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Causes an event, and waits until it has happened. @throws {Error} if it fails. */
  async cause(event: string): Promise<void> {
    await this.#process.stdin.write(`${event}\n`);
    await this.#process.stdin.flush();
    await this.#expect("done");
  }

  /** Causes an event, and returns the reason if it fails. */
  async failureOf(event: string): Promise<string | undefined> {
    try {
      await this.cause(event);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  async #expect(expected: string): Promise<void> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the process has ended");
    if (value !== expected) throw new Error(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
    this.cgroup[Symbol.dispose]();
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
