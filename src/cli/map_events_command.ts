/** @module The command `bun-bpf map events`, which prints the records of a ring buffer or perf buffer as they arrive. */

import type { Command } from "commander";
import { CommandError, endingSignals, groupOf } from "./command_line.ts";
import { parseLimit, valueText } from "./map_command.ts";
import { argumentFor, originOf, type Reference } from "./object_command.ts";
import { counted, type JsonOption, note, OutputStream, progress, toJson, warn } from "./output.ts";
import type { Btf } from "../btf/btf.ts";
import { MapEditor } from "../inspect/map_editor.ts";
import type { EntryValue } from "../inspect/map_reader.ts";
import { findType, kernelBtf, programBtfs } from "../inspect/types.ts";
import { PerfBuffer } from "../ring/perf_buffer.ts";
import { RingBuf } from "../ring/ring_buf.ts";
import { u8 } from "../types/integer.ts";
import { bytesAt } from "../types/memory.ts";

const help = `
The map is a ring buffer (ringbuf) or a perf buffer (perf_event_array). --type names the type of the records:
it is looked up in the BTF of the programs that use the map, and then in that of the kernel. Without it
records are printed as hexadecimal bytes. A record of a perf buffer can have up to 7 bytes more than the
program has written. With --json each record is one line with a JSON value.

This command consumes the records that it prints: other consumers of the buffer do not get them. The
consumer of a ring buffer gets later records again when this command has ended. The consumer of a perf
buffer gets no more records until it opens the buffer again.

Examples:
  bun-bpf map events exec_events --type event
  bun-bpf map events id:12 --limit 10 --json`;

interface EventsOptions extends JsonOption {
  readonly type?: string;
  readonly limit?: number;
}

/** Adds the command to `bun-bpf map`, which has to exist. */
export function mapEventsCommand(program: Command): void {
  const group = groupOf(program, "map");
  group
    .command("events")
    .description("consume and print the records of a ring or perf buffer")
    .addArgument(argumentFor("map"))
    .option("-t, --type <name>", "the struct, union or typedef of the records")
    .option(
      "-l, --limit <count>",
      "stop after this number of records (default: run until Ctrl-C)",
      parseLimit,
    )
    .option("-j, --json", "print one JSON value per line")
    .addHelpText("after", help)
    .action(events);
}

async function events(reference: Reference, options: EventsOptions): Promise<void> {
  const { json = false, limit = Infinity, type } = options;
  const origin = originOf("map", reference, { isChange: true });
  using buffer = openBuffer(origin);
  const decode = decoderOf(buffer.id, type);
  const toText = json ? toJson : valueText;
  warn(
    `other consumers of ${buffer} do not get the records that are printed here` +
      (buffer instanceof PerfBuffer
        ? ", and get no more records until they open the buffer again"
        : ""),
  );
  const seen = await new EventPrinter(buffer, (bytes) => toText(decode(bytes)), limit).run();
  const { lost } = buffer.stats;
  note(`${counted(seen, "event")}${lost > 0 ? `, ${lost} lost` : ""}`);
}

/** Prints the records of a buffer, one per line, until a signal or the limit. Records that are not printed stay in the buffer. */
class EventPrinter {
  readonly #buffer: RingBuf<typeof u8> | PerfBuffer<typeof u8>;
  readonly #toLine: (bytes: Uint8Array) => string;
  readonly #limit: number;
  readonly #ended = Promise.withResolvers<void>();
  readonly #output = new OutputStream(() => this.#stop());
  #seen = 0;
  /** Lines that have not been written yet. */
  #text = "";
  #isScheduled = false;
  #hasEnded = false;
  #subscription: Disposable | undefined;

  constructor(
    buffer: RingBuf<typeof u8> | PerfBuffer<typeof u8>,
    toLine: (bytes: Uint8Array) => string,
    limit: number,
  ) {
    this.#buffer = buffer;
    this.#toLine = toLine;
    this.#limit = limit;
  }

  /**
   * Prints records, and returns their number after a signal or at the limit.
   *
   * @throws {Error} if a record cannot be decoded, or the output cannot be written.
   */
  async run(): Promise<number> {
    const interrupt = (): void => {
      // A second signal ends the process at once, because the reader of the output may have stopped reading.
      if (this.#hasEnded) process.exit(130);
      this.#stop();
    };
    progress("waiting for events ...");
    for (const signal of endingSignals()) process.on(signal, interrupt);
    try {
      this.#resume();
      await this.#ended.promise;
      this.#flush();
      await this.#output.finish();
      return this.#seen;
    } finally {
      if (this.#seen === 0) progress("");
      this.#pause();
      for (const signal of endingSignals()) process.off(signal, interrupt);
    }
  }

  #resume(): void {
    if (this.#hasEnded) return;
    this.#subscription ??= this.#buffer.subscribeRaw((view, offset, length) =>
      this.#show(bytesAt(view, offset, length)),
    );
  }

  #pause(): void {
    this.#subscription?.[Symbol.dispose]();
    this.#subscription = undefined;
  }

  #stop(): void {
    this.#hasEnded = true;
    this.#pause();
    this.#ended.resolve();
  }

  #show(bytes: Uint8Array): void {
    if (this.#seen === 0) progress("");
    try {
      this.#text += `${this.#toLine(bytes)}\n`;
    } catch (error) {
      // The callback of a subscription must not throw, because nothing would catch the exception.
      this.#ended.reject(error);
      this.#stop();
    }
    if (++this.#seen >= this.#limit) this.#stop();
    // All records of one turn of the event loop are written together.
    if (!this.#isScheduled) setImmediate(() => this.#flush());
    this.#isScheduled = true;
  }

  #flush(): void {
    this.#isScheduled = false;
    const text = this.#text;
    this.#text = "";
    const room = text === "" ? undefined : this.#output.write(text);
    if (room === undefined) return;
    this.#pause();
    void room.then(() => this.#resume());
  }
}

function openBuffer(origin: { readonly id: number } | { readonly path: string }) {
  const { type, description } = describeBuffer(origin);
  const events = { event: u8 };
  const open = {
    ringbuf: () =>
      "id" in origin ? RingBuf.fromId(origin.id, events) : RingBuf.open(origin.path, events),
    perf_event_array: () =>
      "id" in origin ? PerfBuffer.fromId(origin.id, events) : PerfBuffer.open(origin.path, events),
  }[type as "ringbuf"];
  if (open !== undefined) return open();
  const remedy =
    type === "user_ringbuf" ? "only programs can consume it" : "use `bun-bpf map dump`";
  throw new CommandError(
    `the ${description} is neither a ring buffer nor a perf buffer: ${remedy}`,
    {
      isMisuse: true,
    },
  );
}

function describeBuffer(origin: { readonly id: number } | { readonly path: string }) {
  using map = MapEditor.open(origin, "read");
  return { type: map.properties.type, description: `${map}` };
}

/** Returns a function that decodes a record. */
function decoderOf(mapId: number, type: string | undefined): (bytes: Uint8Array) => EntryValue {
  // The bytes are copied, because the kernel reuses the memory for other records.
  if (type === undefined) return (bytes) => bytes.slice();
  const { btf, id } = findType(
    type,
    [...programBtfs(mapId), ...kernelBtf()],
    "the programs that use the map, nor in the kernel",
  );
  const size = btf.sizeOf(id);
  let hasWarned = false;
  return (bytes) => {
    if (bytes.length >= size) return decodeValue(btf, id, bytes);
    if (!hasWarned) warn(`records shorter than the ${size} bytes of ${type} are shown as bytes`);
    hasWarned = true;
    return bytes.slice();
  };
}

function decodeValue(btf: Btf, id: number, bytes: Uint8Array): EntryValue {
  return btf.decode(id, bytes, { pointers: "hex" });
}
