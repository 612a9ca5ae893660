#!/usr/bin/env -S bun --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * Shows every program that starts on this machine, as it starts.
 *
 *   bun execsnoop.ts [--failed] [--name REGEX] [--duration SECONDS] [--buffer MIB] [--json]
 *
 * A program in the kernel fills in one record for each exec(2) and puts it into a ring buffer; what it does not find
 * room for it counts. Nothing runs here while no program starts.
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
} from "bun-bpf";

const help = `Shows every program that starts on this machine, as it starts.

usage: bun execsnoop.ts [options]

  -x, --failed             also show programs that could not be started, with the error
  -n, --name REGEX         only programs whose command or file name matches
  -d, --duration SECONDS   stop after this long (default: at Ctrl-C)
  -b, --buffer MIB         room for programs that were not shown yet: a power of two (default: 4)
  -j, --json               one JSON object for each program, a line each
  -h, --help               show this

PID and PPID are numbers of the initial pid namespace, UID is the real user id in the initial user namespace.
A program that was started by descriptor (execveat) has /dev/fd/NUMBER for its file name.
With --failed, attempts of 32-bit programs are not seen; arguments that were not read whole end in "...".

With --json a line has the keys time (ISO 8601), pid, ppid, uid, comm, filename and args (an array); argsCutOff
where arguments were not read whole; with --failed also ret (0, or a negative error number) and error (its name).
Bytes that are not UTF-8 are U+FFFD in comm, filename and args: commBytes, filenameBytes or argsBytes
(an array, like args) then have all bytes as hexadecimal digits.

Needs root, or CAP_BPF and CAP_PERFMON; and a kernel with BTF, 5.8 or later.`;

/** Bytes kept of the command's and the file's name, of all arguments together, and of one argument of a failed exec. */
const commSize = 16;
const filenameSize = 256;
const argsSize = 1024;
const argSize = 128;
/** Arguments kept of a failed exec, which are read one by one. */
const maxFailedArgs = 20;
/** Attempts under way at once: one for each thread that is in exec(2). */
const maxAttempts = 8192;
/** Milliseconds at most: Node's and Bun's timers hold no more. */
const maxDuration = 2 ** 31 - 1;
/** The largest page that kernels have, in MiB, and as much as is ever of use. */
const [leastMebibytes, mostMebibytes] = [0.0625, 1024];

const Event = t.struct({
  time: t.u64Number,
  pid: t.u32,
  ppid: t.u32,
  uid: t.u32,
  ret: t.i32,
  /** Bytes used of `args`. */
  argsLength: t.u32,
  /** Whether there was more than `args` holds, or what could not be read. */
  argsCutOff: t.u32,
  // As bytes: a name of a file or an argument need not be UTF-8.
  comm: t.bytes(commSize),
  filename: t.bytes(filenameSize),
  /** The arguments, each ended by a NUL. */
  args: t.bytes(argsSize),
});
type Event = t.Infer<typeof Event>;

const at = (field: keyof Event): number => Event.fields[field].offset;

const { r0, r1, r2, r3, r6, r7, r8, r9, fp } = asm;

const leave: Code = [asm.mov(r0, 0), asm.exit()];

/** Puts a record into r7; if there is no room for one, counts that and goes to the end. */
const reserveEvent: Code = [
  asm.reserveOrCount("events", Event.size, "end", { stack: -8 }),
  asm.mov(r7, r0),
  // The room may hold an old record: what is not filled in below must not show it.
  asm.stb(r7, at("filename"), 0),
  asm.stw(r7, at("ppid"), 0),
  asm.stw(r7, at("argsCutOff"), 0),
];

/** Fills in what every program can ask of the kernel about the process that it runs in. */
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
  leave,
];

/** Forgets the attempt whose key is at fp-8. */
const forgetAttempt: Code = [
  asm.ldMap(r1, "attempts"),
  asm.mov(r2, fp),
  asm.add(r2, -8),
  asm.call("map_delete_elem"),
];

/**
 * Runs when an exec has succeeded: (task, old pid, binprm). The arguments lie in a row in the new program's memory.
 *
 * The layout of the kernel's structures is the running kernel's.
 */
function succeeded(kernel: Btf, { failed }: Options): Code {
  return [
    asm.mov(r6, r1),
    asm.ldxdw(r8, r6, 0),
    // A thread that is not the first of its process takes over the first one's id in exec: the attempt was noted under
    // its old id, and the end of the system call will look for it under the new one.
    failed
      ? [
          asm.ldxw(r1, r8, kernel.field("task_struct", "tgid").offset),
          asm.lsh(r1, 32),
          asm.ldxdw(r2, r6, 8),
          asm.lsh(r2, 32),
          asm.rsh(r2, 32),
          asm.or(r1, r2),
          asm.stxdw(fp, -8, r1),
          forgetAttempt,
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
    // The page is not in memory: a program may not wait for it.
    asm.stw(r7, at("argsLength"), 0),
    asm.stw(r7, at("argsCutOff"), 1),
    asm.label("submit"),
    submitEvent,
  ];
}

/** Runs when an exec begins, to remember where its file name and arguments are until its result is known. */
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
    asm.jeq(r0, 0, "noted"),
    // It may yet succeed, and be seen then: better to count one too many than one too few.
    asm.countLost("events", { stack: -8 }),
    asm.label("noted"),
    leave,
  ];
}

/** Reads the pointer at r9 to fp-16; r0 is not 0 if that fails. */
const readArgumentPointer: Code = [
  asm.mov(r1, fp),
  asm.add(r1, -16),
  asm.mov(r2, 8),
  asm.mov(r3, r9),
  asm.call("probe_read_user"),
];

/** Runs when an exec ends. Only now is the file name sure to be in memory: the kernel has just read it. */
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
    forgetAttempt,
    asm.ldxdw(r1, r6, 16),
    asm.jsge(r1, 0, "end"),
    reserveEvent,
    asm.ldxdw(r1, r6, 16),
    asm.stxw(r7, at("ret"), r1),
    describeProcess,
    // Only from kernel 5.11 on could a program of this type follow the task's pointers by itself.
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

    // r8: bytes of arguments so far; r9: where the next pointer to one is.
    asm.mov(r8, 0),
    // The kernel takes no array at all for an empty one.
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
      // One byte more than is kept, to tell an argument that fits from a longer one.
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
  /** Milliseconds, or `undefined` for no end. */
  readonly duration: number | undefined;
  /** Bytes. */
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
  if (seconds !== undefined && !(seconds > 0 && seconds * 1000 <= maxDuration)) {
    throw new UsageError(
      `--duration: expected seconds, such as 10 or 0.5, at most ${Math.floor(maxDuration / 1000)}, got ${values.duration}`,
    );
  }
  const mebibytes = Number(values.buffer);
  const isPowerOfTwo = Number.isInteger(Math.log2(mebibytes));
  if (!(isPowerOfTwo && mebibytes >= leastMebibytes && mebibytes <= mostMebibytes)) {
    throw new UsageError(
      `--buffer: expected a power of two from ${leastMebibytes} to ${mostMebibytes}, got ${values.buffer}`,
    );
  }
  return {
    bufferSize: mebibytes * 1024 * 1024,
    failed: values.failed,
    json: values.json,
    name: values.name === undefined ? undefined : new RegExp(values.name),
    duration: seconds === undefined ? undefined : seconds * 1000,
  };
}

const errorNames = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]));

/** The bytes before the first NUL. */
function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

/** As text, with U+FFFD for what is not UTF-8. */
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

/** Characters, and as numbers the bytes that are not UTF-8. */
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

/** Controls of the terminal, what changes the direction of text or cannot be seen, and separators of lines. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const allUnprintable = new RegExp(unprintable, "gu");

/** A character or byte within `$'...'`. */
function escape(character: string | number): string {
  if (typeof character === "number") return `\\x${hex(character, 2)}`;
  const short = shortEscapes[character];
  if (short !== undefined) return short;
  if (!unprintable.test(character)) return character;
  const code = character.codePointAt(0) as number;
  if (code < 0x80) return `\\x${hex(code, 2)}`;
  return code <= 0xffff ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
}

/** As bash would take it: quoted where needed, and nothing in it that a terminal would obey. */
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
  // One line; a pipe has no width.
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
 * Standard output, written no faster than it is read: what waits meanwhile waits in the ring buffer, and what finds no
 * room there the kernel counts.
 */
class Output {
  #last: Promise<void> = Promise.resolve();
  #failure: NodeJS.ErrnoException | undefined;

  constructor(onFailure: () => void) {
    // More than one write may fail.
    process.stdout.on("error", (error) => {
      this.#failure ??= error;
      onFailure();
    });
  }

  /** Returns once there is room for more. */
  async write(line: string): Promise<void> {
    if (this.#failure !== undefined) return;
    const written = Promise.withResolvers<void>();
    this.#last = written.promise;
    // It is called when the write has failed, too; "drain" is not.
    if (!process.stdout.write(`${line}\n`, () => written.resolve())) await written.promise;
  }

  /** Returns once all is written. @throws the error of a write, unless the reader has gone (`| head`): that is an end like any other */
  async finish(): Promise<void> {
    await this.#last;
    const error = this.#failure;
    if (error === undefined || error.code === "EPIPE") return;
    throw new Error(`cannot write to the standard output: ${error.message}`, { cause: error });
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
  const attach = (section: string, code: Code): Link => {
    const program = resources.use(
      new Program({ section, code, maps, license: "GPL", name: "execsnoop" }),
    );
    return resources.use(program.attach());
  };
  attach("tp_btf/sched_process_exec", succeeded(kernel, options));
  if (options.failed) {
    // The offsets are those of the tracepoints' format: filename follows the number of the system call, or the fd.
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
  /** What was in the ring at the end, and how many were lost until then. */
  let rest: { events: Event[]; lost: number } | undefined;
  const stop = (): void => {
    if (rest !== undefined) return;
    void iterator.return?.();
    rest = { events: [], lost: 0 };
    // Before the programs are detached, for which the kernel takes its time: up to 0.1 s for each tracepoint.
    events.drain((event) => rest?.events.push(event));
    rest.lost = events.stats.lost;
  };
  const output = new Output(stop);
  const interrupt = (): void => {
    // Whoever reads our output may never read on.
    if (rest !== undefined) process.exit(130);
    stop();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  const timer = options.duration === undefined ? undefined : setTimeout(stop, options.duration);

  if (!options.json) await output.write(heading(options));
  for await (const event of iterator) await show(event);
  clearTimeout(timer);
  for (const event of rest?.events ?? []) await show(event);
  await output.finish();
  const filtered = options.name === undefined ? "" : ` (${shown} shown)`;
  tell(`${seen} seen${filtered}, ${rest?.lost ?? 0} lost`);
}

/** Writes a line to standard error. console.error() makes it red. */
function tell(line: string): void {
  process.stderr.write(`${line.replace(allUnprintable, escape)}\n`);
}

/** What the user can do something about, in a line: but an error of this script is shown with its stack. */
function report(error: unknown): number {
  if (!(error instanceof Error)) throw error;
  const isUsage =
    error instanceof UsageError ||
    error instanceof SyntaxError ||
    error.message.startsWith("BUN_BPF_LOOP") ||
    String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
  if (isUsage) {
    const [reason] = error.message.split("\n");
    tell(`execsnoop: ${reason} (see --help)`);
    return 2;
  }
  if (error instanceof TypeError || error instanceof ReferenceError) throw error;
  tell(`execsnoop: ${error.message}`);
  return 1;
}

// No process.exit(): the process ends by itself, when all is written.
try {
  await watch(readOptions());
} catch (error) {
  process.exitCode = report(error);
}
