/** @module A text that positions refer to: a file, or the text of a function. */

/** A place in a text: line and column, from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A text with a name, by lines. */
export class SourceText {
  readonly name: string;
  readonly text: string;
  #starts: number[] | undefined;

  constructor(name: string, text: string) {
    this.name = name;
    this.text = text;
  }

  /** The offsets of the lines. */
  get #lineStarts(): readonly number[] {
    if (this.#starts === undefined) {
      this.#starts = [0];
      for (let at = 0; (at = this.text.indexOf("\n", at) + 1) > 0;) this.#starts.push(at);
    }
    return this.#starts;
  }

  /** Number of lines. */
  get lineCount(): number {
    return this.#lineStarts.length;
  }

  /** Returns the place of an offset. */
  placeOf(offset: number): Place {
    const starts = this.#lineStarts;
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle;
    }
    return { line: low + 1, column: offset - starts[low]! + 1 };
  }

  /** Returns the text of a line, without its end; an empty string if there is no such line. */
  lineText(line: number): string {
    const start = this.#lineStarts[line - 1];
    if (start === undefined) return "";
    const end = this.#lineStarts[line] ?? this.text.length + 1;
    return this.text.slice(start, end - 1).replace(/\r$/, "");
  }
}
