#!/usr/bin/env -S bun --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * Shows every program that starts on this machine, as it starts.
 *
 *   bun execsnoop.ts [--failed] [--name REGEX] [--duration SECONDS] [--buffer MIB] [--json]
 *
 * A BPF program writes a record into a ring buffer for each exec(2), and counts the records for which the buffer has no
 * room. This process sleeps until a record arrives.
 */
import { constants } from "node:os";
import { parseArgs } from "node:util";
import {
  asm,
  Btf,
  type Code,
  HashMap,
  type Link,
  monotonicToDate,
  Program,
  RingBuf,
  t,
  type SectionName,
} from "bun-bpf";

const help = `Shows every program that starts on this machine, as it starts.

usage: bun execsnoop.ts [options]

  -x, --failed             also show failed attempts to start a program, with the error
  -n, --name REGEX         only show programs whose command or file name matches
  -d, --duration SECONDS   stop after this time (default: run until Ctrl-C)
  -b, --buffer MIB         size of the ring buffer, a power of two (default: 4)
  -j, --json               print one line with a JSON object for each program
  -h, --help               show this help

PID and PPID are process ids in the initial pid namespace, UID is the real user id in the initial user namespace.
The file name of a program that is started by descriptor (execveat) is /dev/fd/NUMBER. Arguments that could not be
read completely end in "...". --failed does not show attempts of 32-bit programs.

With --json a line has the keys time (ISO 8601), pid, ppid, uid, comm, filename and args (an array); argsCutOff if
arguments could not be read completely; with --failed also ret (0, or a negative error number) and error (its name).
In comm, filename and args, bytes that are not UTF-8 are replaced by U+FFFD. In that case commBytes, filenameBytes or
argsBytes (an array, like args) have all bytes as hexadecimal digits.

Requires Linux 5.8 with BTF, and root, or CAP_BPF and CAP_PERFMON. --failed also requires access to tracefs.`;

/** Maximum bytes of the command's name, the file name, all arguments together, and one argument of a failed exec. */
const commSize = 16;
const filenameSize = 256;
const argsSize = 1024;
const argSize = 128;
/** Maximum number of arguments of a failed exec, which are read one by one. */
const maxFailedArgs = 20;
/** Maximum number of threads that are in exec(2) at the same time. */
const maxAttempts = 8192;
/** Maximum delay of a JavaScript timer. */
const maxDurationMs = 2 ** 31 - 1;
/** Limits of the buffer size in MiB. The minimum is the largest page size, 64 KiB. */
const [minMebibytes, maxMebibytes] = [0.0625, 1024];

const Event = t.struct({
  time: t.u64Number,
  pid: t.u32,
  ppid: t.u32,
  uid: t.u32,
  ret: t.i32,
  /** Number of bytes in `args`. */
  argsLength: t.u32,
  /** 1 if the arguments did not fit into `args`, or could not be read; else 0. */
  argsCutOff: t.u32,
  // Bytes, because names and arguments need not be UTF-8.
  comm: t.bytes(commSize),
  filename: t.bytes(filenameSize),
  /** The arguments, each ended by a NUL. */
  args: t.bytes(argsSize),
});
type Event = t.Infer<typeof Event>;

const at = (field: keyof Event): number => Event.fields[field].offset;

const { r0, r1, r2, r3, r6, r7, r8, r9, fp } = asm;

const returnZero: Code = [asm.mov(r0, 0), asm.exit()];

/** Reserves a record and stores its address in r7. If the buffer has no room, counts the lost record and jumps to `end`. */
const reserveEvent: Code = [
  asm.reserveOrCount("events", Event.size, "end", { stack: -8 }),
  asm.mov(r7, r0),
  // The memory contains an old record: initialize the fields that may not be set below.
  asm.stb(r7, at("filename"), 0),
  asm.stw(r7, at("ppid"), 0),
  asm.stw(r7, at("argsCutOff"), 0),
];

/** Fills in the fields about the current process that helpers return. */
const describeProcess: Code = [
  asm.call("ktime_get_ns"),
  asm.stxdw(r7, at("time"), r0),
  asm.call("get_current_pid_tgid"),
  asm.rsh(r0, 32),
  asm.stxw(r7, at("pid"), r0),
  asm.call("get_current_uid_gid"),
  asm.stxw(r7, at("uid"), r0),
  asm.mov(r1, r7),
  asm.add(r1, at("comm")),
  asm.mov(r2, commSize),
  asm.call("get_current_comm"),
];

const submitEvent: Code = [
  asm.mov(r1, r7),
  asm.mov(r2, 0),
  asm.call("ringbuf_submit"),
  asm.label("end"),
  returnZero,
];

/** Deletes the attempt whose key is at fp-8. */
const deleteAttempt: Code = [
  asm.ldMap(r1, "attempts"),
  asm.mov(r2, fp),
  asm.add(r2, -8),
  asm.call("map_delete_elem"),
];

/**
 * Runs when an exec has succeeded, with the arguments (task, old pid, binprm). The program's arguments are consecutive strings
 * in its memory.
 *
 * Offsets of fields in kernel structs are looked up in the BTF of the running kernel.
 */
function succeeded(kernel: Btf, { failed }: Options): Code {
  return [
    asm.mov(r6, r1),
    asm.ldxdw(r8, r6, 0),
    // A thread that is not the leader of its process gets the leader's id in exec. The attempt is stored by its old id, but
    // the program at the end of the system call would look it up by the new one.
    failed
      ? [
          asm.ldxw(r1, r8, kernel.field("task_struct", "tgid").offset),
          asm.lsh(r1, 32),
          asm.ldxdw(r2, r6, 8),
          asm.lsh(r2, 32),
          asm.rsh(r2, 32),
          asm.or(r1, r2),
          asm.stxdw(fp, -8, r1),
          deleteAttempt,
        ]
      : [],
    reserveEvent,
    describeProcess,
    asm.ldxdw(r1, r8, kernel.field("task_struct", "real_parent").offset),
    asm.ldxw(r1, r1, kernel.field("task_struct", "tgid").offset),
    asm.stxw(r7, at("ppid"), r1),
    asm.stw(r7, at("ret"), 0),

    asm.ldxdw(r3, r6, 16),
    asm.ldxdw(r3, r3, kernel.field("linux_binprm", "filename").offset),
    asm.mov(r1, r7),
    asm.add(r1, at("filename")),
    asm.mov(r2, filenameSize),
    asm.call("probe_read_kernel_str"),

    asm.ldxdw(r1, r8, kernel.field("task_struct", "mm").offset),
    asm.ldxdw(r3, r1, kernel.field("mm_struct", "arg_start").offset),
    asm.ldxdw(r2, r1, kernel.field("mm_struct", "arg_end").offset),
    asm.sub(r2, r3),
    asm.jle(r2, argsSize, "fits"),
    asm.stw(r7, at("argsCutOff"), 1),
    asm.mov(r2, argsSize),
    asm.label("fits"),
    asm.stxw(r7, at("argsLength"), r2),
    asm.mov(r1, r7),
    asm.add(r1, at("args")),
    asm.call("probe_read_user"),
    asm.jeq(r0, 0, "submit"),
    // A page is not in memory, and the program may not sleep to read it.
    asm.stw(r7, at("argsLength"), 0),
    asm.stw(r7, at("argsCutOff"), 1),
    asm.label("submit"),
    submitEvent,
  ];
}

/** Runs when an exec begins. Stores the addresses of its file name and arguments until its result is known. */
function attempted(filenameOffset: number): Code {
  return [
    asm.mov(r6, r1),
    asm.call("get_current_pid_tgid"),
    asm.stxdw(fp, -8, r0),
    asm.ldxdw(r1, r6, filenameOffset),
    asm.stxdw(fp, -24, r1),
    asm.ldxdw(r1, r6, filenameOffset + 8),
    asm.stxdw(fp, -16, r1),
    asm.ldMap(r1, "attempts"),
    asm.mov(r2, fp),
    asm.add(r2, -8),
    asm.mov(r3, fp),
    asm.add(r3, -24),
    asm.mov(asm.r4, 0),
    asm.call("map_update_elem"),
    asm.jeq(r0, 0, "stored"),
    // The attempt counts as lost, although the exec may succeed and be shown: the count of lost events must not be too low.
    asm.countLost("events", { stack: -8 }),
    asm.label("stored"),
    returnZero,
  ];
}

/** Copies the pointer at the address in r9 to fp-16. r0 is not 0 if that fails. */
const readArgumentPointer: Code = [
  asm.mov(r1, fp),
  asm.add(r1, -16),
  asm.mov(r2, 8),
  asm.mov(r3, r9),
  asm.call("probe_read_user"),
];

/** Runs when an exec ends, and reads the file name. The page of the name is in memory, because the kernel has read it. */
function ended(kernel: Btf): Code {
  return [
    asm.mov(r6, r1),
    asm.call("get_current_pid_tgid"),
    asm.stxdw(fp, -8, r0),
    asm.ldMap(r1, "attempts"),
    asm.mov(r2, fp),
    asm.add(r2, -8),
    asm.call("map_lookup_elem"),
    asm.jeq(r0, 0, "end"),
    asm.ldxdw(r1, r0, 0),
    asm.stxdw(fp, -24, r1),
    asm.ldxdw(r9, r0, 8),
    deleteAttempt,
    asm.ldxdw(r1, r6, 16),
    asm.jsge(r1, 0, "end"),
    reserveEvent,
    asm.ldxdw(r1, r6, 16),
    asm.stxw(r7, at("ret"), r1),
    describeProcess,
    // Before kernel 5.11 (get_current_task_btf) programs of this type can read the task's fields only by a helper.
    asm.call("get_current_task"),
    asm.mov(r3, r0),
    asm.add(r3, kernel.field("task_struct", "real_parent").offset),
    asm.mov(r1, fp),
    asm.add(r1, -16),
    asm.mov(r2, 8),
    asm.call("probe_read_kernel"),
    asm.ldxdw(r3, fp, -16),
    asm.add(r3, kernel.field("task_struct", "tgid").offset),
    asm.mov(r1, r7),
    asm.add(r1, at("ppid")),
    asm.mov(r2, 4),
    asm.call("probe_read_kernel"),

    asm.mov(r1, r7),
    asm.add(r1, at("filename")),
    asm.mov(r2, filenameSize),
    asm.ldxdw(r3, fp, -24),
    asm.call("probe_read_user_str"),

    // r8: number of bytes in `args`; r9: address of the pointer to the next argument.
    asm.mov(r8, 0),
    // For the kernel a NULL argv is an empty array.
    asm.jeq(r9, 0, "complete"),
    Array.from({ length: maxFailedArgs }, (_, index): Code => [
      readArgumentPointer,
      asm.jne(r0, 0, "cut off"),
      asm.ldxdw(r3, fp, -16),
      asm.jeq(r3, 0, "complete"),
      asm.jgt(r8, argsSize - argSize - 1, "cut off"),
      asm.mov(r1, r7),
      asm.add(r1, at("args")),
      asm.add(r1, r8),
      asm.mov(r6, r1),
      // Reads one byte more than it keeps, to find out if the argument is longer.
      asm.mov(r2, argSize + 1),
      asm.call("probe_read_user_str"),
      asm.jsle(r0, 0, "cut off"),
      asm.jle(r0, argSize, `whole ${index}`),
      asm.stw(r7, at("argsCutOff"), 1),
      asm.stb(r6, argSize - 1, 0),
      asm.mov(r0, argSize),
      asm.label(`whole ${index}`),
      asm.add(r8, r0),
      asm.add(r9, 8),
    ]),
    readArgumentPointer,
    asm.jne(r0, 0, "cut off"),
    asm.ldxdw(r3, fp, -16),
    asm.jeq(r3, 0, "complete"),
    asm.label("cut off"),
    asm.stw(r7, at("argsCutOff"), 1),
    asm.label("complete"),
    asm.stxw(r7, at("argsLength"), r8),
    submitEvent,
  ];
}

interface Options {
  readonly failed: boolean;
  readonly json: boolean;
  readonly name: RegExp | undefined;
  /** `undefined` for no limit. */
  readonly durationMs: number | undefined;
  /** Size of the ring buffer in bytes. */
  readonly bufferSize: number;
}

class UsageError extends Error {}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      failed: { type: "boolean", short: "x", default: false },
      json: { type: "boolean", short: "j", default: false },
      name: { type: "string", short: "n" },
      duration: { type: "string", short: "d" },
      buffer: { type: "string", short: "b", default: "4" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    process.exit(0);
  }
  const seconds = values.duration === undefined ? undefined : Number(values.duration);
  if (seconds !== undefined && !(seconds > 0 && seconds * 1000 <= maxDurationMs)) {
    throw new UsageError(
      `--duration: expected seconds, such as 10 or 0.5, at most ${Math.floor(maxDurationMs / 1000)}, got ${values.duration}`,
    );
  }
  const mebibytes = Number(values.buffer);
  const isPowerOfTwo = Number.isInteger(Math.log2(mebibytes));
  if (!(isPowerOfTwo && mebibytes >= minMebibytes && mebibytes <= maxMebibytes)) {
    throw new UsageError(
      `--buffer: expected a power of two from ${minMebibytes} to ${maxMebibytes}, got ${values.buffer}`,
    );
  }
  return {
    bufferSize: mebibytes * 1024 * 1024,
    failed: values.failed,
    json: values.json,
    name: values.name === undefined ? undefined : new RegExp(values.name),
    durationMs: seconds === undefined ? undefined : seconds * 1000,
  };
}

const errorNames = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]));

/** Returns the bytes before the first NUL. */
function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

/** Decodes UTF-8, with U+FFFD for other bytes. */
const asText = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

function argumentsOf({ args, argsLength }: Event): Uint8Array[] {
  const list: Uint8Array[] = [];
  for (let start = 0; start < argsLength; start += (list.at(-1)?.length ?? 0) + 1) {
    list.push(untilNul(args.subarray(start, argsLength)));
  }
  return list;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decode(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Yields characters as strings, and bytes that are not UTF-8 as numbers. */
function* charactersOf(bytes: Uint8Array): Generator<string | number> {
  const all = decode(bytes);
  if (all !== undefined) return yield* all;
  for (let i = 0; i < bytes.length;) {
    const byte = bytes[i] as number;
    const length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    const character = decode(bytes.subarray(i, i + length));
    yield character ?? byte;
    i += character === undefined ? 1 : length;
  }
}

const hex = (number: number, digits: number): string => number.toString(16).padStart(digits, "0");

const shortEscapes: Readonly<Record<string, string>> = {
  "\n": "\\n",
  "\t": "\\t",
  "\r": "\\r",
  "\\": "\\\\",
  "'": "\\'",
};

/** Matches control characters, invisible ones, those that change the direction of text, and line separators. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const allUnprintable = new RegExp(unprintable, "gu");

/** Escapes a character or byte for `$'...'` in bash. */
function escape(character: string | number): string {
  if (typeof character === "number") return `\\x${hex(character, 2)}`;
  const short = shortEscapes[character];
  if (short !== undefined) return short;
  if (!unprintable.test(character)) return character;
  const code = character.codePointAt(0) as number;
  if (code < 0x80) return `\\x${hex(code, 2)}`;
  return code <= 0xffff ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
}

/** Quotes text for bash if necessary, without characters that a terminal interprets. */
function quote(bytes: Uint8Array): string {
  const text = decode(bytes);
  if (text === undefined || unprintable.test(text)) {
    return `$'${[...charactersOf(bytes)].map(escape).join("")}'`;
  }
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Returns a line of JSON without characters that a terminal interprets: JSON itself only escapes controls below U+0020. */
function toJson(value: object): string {
  return JSON.stringify(value).replace(allUnprintable, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${hex(character.charCodeAt(at), 4)}`,
    ).join(""),
  );
}

const hexDigits = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function asJson(event: Event, { failed }: Options): string {
  const { time, pid, ppid, uid, ret } = event;
  const [comm, filename] = [untilNul(event.comm), untilNul(event.filename)];
  const args = argumentsOf(event);
  const isText = (bytes: Uint8Array): boolean => decode(bytes) !== undefined;
  return toJson({
    time: monotonicToDate(time).toISOString(),
    pid,
    ppid,
    uid,
    comm: asText(comm),
    filename: asText(filename),
    args: args.map(asText),
    ...(isText(comm) ? {} : { commBytes: hexDigits(comm) }),
    ...(isText(filename) ? {} : { filenameBytes: hexDigits(filename) }),
    ...(args.every(isText) ? {} : { argsBytes: args.map(hexDigits) }),
    ...(event.argsCutOff ? { argsCutOff: true } : {}),
    ...(failed ? { ret, ...(ret < 0 ? { error: errorNames.get(-ret) } : {}) } : {}),
  });
}

const isTerminal = process.stdout.isTTY === true && !process.env["NO_COLOR"];
const colour = (code: number, text: string): string =>
  isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text;
const bold = 1;
const red = 31;
const grey = 90;

function columns(time: string, pid: string, ppid: string, uid: string, ret: string): string {
  return `${time.padEnd(12)} ${pid.padStart(7)} ${ppid.padStart(7)} ${uid.padStart(5)} ${ret}`;
}

function heading({ failed }: Options): string {
  const start = columns("TIME", "PID", "PPID", "UID", failed ? "RET".padEnd(8) : "");
  const text = `${start}${"COMM".padEnd(15)} ${"FILENAME".padEnd(24)} ARGS`;
  // The heading is cut to one line of the terminal. A pipe has no width.
  return colour(bold, text.slice(0, process.stdout.columns || undefined).trimEnd());
}

function asLine(event: Event, { failed }: Options): string {
  const time = monotonicToDate(event.time);
  const clock = `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  const result = event.ret < 0 ? (errorNames.get(-event.ret) ?? String(event.ret)) : "0";
  const ret = failed ? colour(event.ret < 0 ? red : grey, result.padEnd(8)) : "";
  const start = columns(clock, `${event.pid}`, `${event.ppid}`, `${event.uid}`, ret);
  const comm = quote(untilNul(event.comm)).padEnd(15);
  const filename = quote(untilNul(event.filename)).padEnd(24);
  const args = [...argumentsOf(event).map(quote), ...(event.argsCutOff ? ["..."] : [])];
  return `${start}${comm} ${filename} ${args.join(" ")}`;
}

/**
 * Writes to standard output no faster than it is read. Meanwhile records stay in the ring buffer, and the BPF program counts
 * those for which the buffer has no room.
 */
class Output {
  #last: Promise<void> = Promise.resolve();
  #failure: NodeJS.ErrnoException | undefined;

  constructor(onFailure: () => void) {
    // `on` instead of `once`, because several writes can fail.
    process.stdout.on("error", (error) => {
      this.#failure ??= error;
      onFailure();
    });
  }

  /** Writes a line, and resolves when the buffer has room for more. */
  async write(line: string): Promise<void> {
    if (this.#failure !== undefined) return;
    const written = Promise.withResolvers<void>();
    this.#last = written.promise;
    // The callback is called even if the write fails; "drain" is not emitted then.
    if (!process.stdout.write(`${line}\n`, () => written.resolve())) await written.promise;
  }

  /**
   * Resolves when everything is written.
   *
   * @throws {Error} if a write failed, unless the reader has closed the pipe, as `head` does.
   */
  async finish(): Promise<void> {
    await this.#last;
    const error = this.#failure;
    if (error === undefined || error.code === "EPIPE") return;
    throw new Error(`cannot write to standard output: ${error.message}`, { cause: error });
  }
}

async function watch(options: Options): Promise<void> {
  const kernel = Btf.kernel();
  using events = new RingBuf({ event: Event, size: options.bufferSize, name: "exec_events" });
  using attempts = new HashMap({
    key: t.u64,
    value: t.struct({ filename: t.u64, argv: t.u64 }),
    maxEntries: options.failed ? maxAttempts : 1,
    name: "exec_attempts",
  });
  const maps = { events, attempts };

  using resources = new DisposableStack();
  const attach = (section: SectionName, code: Code): Link => {
    const program = resources.use(
      new Program({ section, code, maps, license: "GPL", name: "execsnoop" }),
    );
    return resources.use(program.attach());
  };
  attach("tp_btf/sched_process_exec", succeeded(kernel, options));
  if (options.failed) {
    // 16 and 24 are the offsets of `filename` in the tracepoints' formats, after the system call's number or the descriptor.
    attach("tp/syscalls/sys_exit_execve", ended(kernel));
    attach("tp/syscalls/sys_exit_execveat", ended(kernel));
    attach("tp/syscalls/sys_enter_execve", attempted(16));
    attach("tp/syscalls/sys_enter_execveat", attempted(24));
  }

  let seen = 0;
  let shown = 0;
  const show = async (event: Event): Promise<void> => {
    seen++;
    const { name } = options;
    const names = [event.comm, event.filename].map((bytes) => asText(untilNul(bytes)));
    if (name !== undefined && !names.some((text) => name.test(text))) return;
    shown++;
    await output.write(options.json ? asJson(event, options) : asLine(event, options));
  };

  const iterator = events[Symbol.asyncIterator]();
  /** The events that were in the ring at the end, and the number of lost events until then. */
  let rest: { events: Event[]; lost: number } | undefined;
  const stop = (): void => {
    if (rest !== undefined) return;
    void iterator.return?.();
    rest = { events: [], lost: 0 };
    // The ring is drained before the programs are detached, which takes up to 0.1 s for each tracepoint.
    events.drain((event) => rest?.events.push(event));
    rest.lost = events.stats.lost;
  };
  const output = new Output(stop);
  const interrupt = (): void => {
    // A second signal ends the process at once, because the reader of the output may have stopped reading.
    if (rest !== undefined) process.exit(130);
    stop();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  const timer = options.durationMs === undefined ? undefined : setTimeout(stop, options.durationMs);

  if (!options.json) await output.write(heading(options));
  for await (const event of iterator) await show(event);
  clearTimeout(timer);
  for (const event of rest?.events ?? []) await show(event);
  await output.finish();
  const filtered = options.name === undefined ? "" : ` (${shown} shown)`;
  printNote(`${seen} seen${filtered}, ${rest?.lost ?? 0} lost`);
}

/** Writes a line to standard error, without the red of console.error(). */
function printNote(line: string): void {
  process.stderr.write(`${line.replace(allUnprintable, escape)}\n`);
}

/** Prints an error in one line, and returns the exit status. Throws other errors again, which are defects of this script. */
function report(error: unknown): number {
  if (!(error instanceof Error)) throw error;
  const isUsage =
    error instanceof UsageError ||
    error instanceof SyntaxError ||
    error.message.startsWith("BUN_BPF_LOOP") ||
    String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
  if (isUsage) {
    const [reason] = error.message.split("\n");
    printNote(`execsnoop: ${reason} (see --help)`);
    return 2;
  }
  if (error instanceof TypeError || error instanceof ReferenceError) throw error;
  printNote(`execsnoop: ${error.message}`);
  return 1;
}

// Sets the exit code instead of calling process.exit(), so that all output is written.
try {
  await watch(readOptions());
} catch (error) {
  process.exitCode = report(error);
}
