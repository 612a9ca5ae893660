/** @module What is printed: at once, so that a slow reader holds the command back and not the memory. */

import { writeSync } from "node:fs";

const standardOutput = 1;
const standardError = 2;

/** Milliseconds until a pipe that is full, and does not wait by itself, is tried again. */
const retryAfter = 1;

/** How much is gathered before it is written. */
const chunkLength = 64 * 1024;

/** Nobody reads what is printed any more. */
export class ClosedPipe extends Error {
  override readonly name: string = "ClosedPipe";
}

/** Prints to standard output. @throws {ClosedPipe} when nobody reads it */
export function writeOut(text: string): void {
  write(standardOutput, text);
}

/** Prints to standard error; where nobody reads that, nobody is told. */
export function writeError(text: string): void {
  try {
    write(standardError, text);
  } catch {
    // There is no other place to say it.
  }
}

/** Tells a person at a terminal what is not part of the output. */
export function note(text: string): void {
  if (process.stderr.isTTY) writeError(`${text}\n`);
}

/** Tells a person at a terminal what takes its time, in a line that the next call overwrites: with nothing, it is gone. */
export function progress(text: string): void {
  if (process.stderr.isTTY) writeError(`\r${text}\u001b[K`);
}

/** Prints line after line, many at a time. */
export class LineWriter implements Disposable {
  #gathered = "";

  line(text: string): void {
    this.#gathered += `${text}\n`;
    if (this.#gathered.length >= chunkLength) this.flush();
  }

  flush(): void {
    const text = this.#gathered;
    this.#gathered = "";
    if (text !== "") writeOut(text);
  }

  /** Prints the rest. */
  [Symbol.dispose](): void {
    this.flush();
  }
}

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  let written = 0;
  while (written < bytes.length) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") Bun.sleepSync(retryAfter);
      else if (code === "EPIPE") throw new ClosedPipe();
      else throw error;
    }
  }
}
