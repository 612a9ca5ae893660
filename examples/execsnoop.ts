#!/usr/bin/env bun
/**
 * Shows every program that starts on this machine, as it starts.
 *
 *   bun execsnoop.ts [--failed] [--name REGEX] [--duration SECONDS] [--json]
 *
 * A program in the kernel fills in one record for each exec(2) and puts it into a ring buffer; what it does not find
 * room for it counts. Nothing runs here while no program starts.
 */
import { parseArgs } from "node:util";
import {
  ArrayMap,
  asm,
  BpfError,
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
  -j, --json               one JSON object for each program, a line each
  -h, --help               show this

Needs root, or CAP_BPF and CAP_PERFMON; and a kernel with BTF, 5.8 or later.`;

/** Bytes kept of the file's name, of all arguments together, and of one argument of a failed exec. */
const filenameSize = 256;
const argsSize = 1024;
const argSize = 128;
/** Arguments kept of a failed exec, which are read one by one. */
const maxFailedArgs = 20;

const Event = t.struct({
  time: t.u64n,
  pid: t.u32,
  ppid: t.u32,
  uid: t.u32,
  ret: t.i32,
  /** Bytes of all arguments together; more than `args` holds if they are cut off. */
  argsLength: t.u32,
  comm: t.cstring(16),
  filename: t.cstring(filenameSize),
  /** The arguments, each ended by a NUL. */
  args: t.bytes(argsSize),
});
type Event = t.Infer<typeof Event>;

const at = (field: keyof Event): number => Event.fields[field].offset;

const { r0, r1, r2, r3, r6, r7, r8, r9, fp } = asm;

/** Puts a zeroed-out record into r7, or counts a loss and returns. */
const reserveEvent: Code = [
  asm.ldMap(r1, "events"),
  asm.mov(r2, Event.size),
  asm.mov(r3, 0),
  asm.call("ringbuf_reserve"),
  asm.jne(r0, 0, "reserved"),
  asm.ldMapValue(r1, "lost", 0),
  asm.mov(r2, 1),
  asm.atomicAdd(r1, 0, r2),
  asm.mov(r0, 0),
  asm.exit(),
  asm.label("reserved"),
  asm.mov(r7, r0),
  // The room may hold an old record: what is not filled in below must not show it.
  asm.stb(r7, at("filename"), 0),
];

/** Fills in what is the same for all events; the task is in r8. Its layout is the running kernel's. */
function describeTask(kernel: Btf): Code {
  return [
    asm.call("ktime_get_ns"),
    asm.stxdw(r7, at("time"), r0),
    asm.ldxw(r1, r8, kernel.field("task_struct", "tgid").offset),
    asm.stxw(r7, at("pid"), r1),
    asm.ldxdw(r1, r8, kernel.field("task_struct", "real_parent").offset),
    asm.ldxw(r1, r1, kernel.field("task_struct", "tgid").offset),
    asm.stxw(r7, at("ppid"), r1),
    asm.call("get_current_uid_gid"),
    asm.stxw(r7, at("uid"), r0),
    asm.mov(r1, r7),
    asm.add(r1, at("comm")),
    asm.mov(r2, 16),
    asm.call("get_current_comm"),
  ];
}

const submitEvent: Code = [
  asm.mov(r1, r7),
  asm.mov(r2, 0),
  asm.call("ringbuf_submit"),
  asm.mov(r0, 0),
  asm.exit(),
];

/** Runs when an exec has succeeded: (task, old pid, binprm). The arguments lie in a row in the new program's memory. */
function succeeded(kernel: Btf): Code {
  return [
    asm.mov(r6, r1),
    reserveEvent,
    asm.ldxdw(r8, r6, 0),
    describeTask(kernel),
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
    asm.stxw(r7, at("argsLength"), r2),
    asm.jle(r2, argsSize, "fits"),
    asm.mov(r2, argsSize),
    asm.label("fits"),
    asm.mov(r1, r7),
    asm.add(r1, at("args")),
    asm.call("probe_read_user"),
    asm.jeq(r0, 0, "submit"),
    asm.stw(r7, at("argsLength"), 0),
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
    asm.mov(r0, 0),
    asm.exit(),
  ];
}

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
    asm.jeq(r0, 0, "done"),
    asm.ldxdw(r8, r0, 0),
    asm.ldxdw(r9, r0, 8),
    asm.stxdw(fp, -24, r8),
    asm.ldMap(r1, "attempts"),
    asm.mov(r2, fp),
    asm.add(r2, -8),
    asm.call("map_delete_elem"),
    asm.ldxdw(r1, r6, 16),
    asm.jslt(r1, 0, "failed"),
    asm.label("done"),
    asm.mov(r0, 0),
    asm.exit(),

    asm.label("failed"),
    reserveEvent,
    asm.ldxdw(r1, r6, 16),
    asm.stxw(r7, at("ret"), r1),
    asm.call("get_current_task_btf"),
    asm.mov(r8, r0),
    describeTask(kernel),

    asm.mov(r1, r7),
    asm.add(r1, at("filename")),
    asm.mov(r2, filenameSize),
    asm.ldxdw(r3, fp, -24),
    asm.call("probe_read_user_str"),

    // r8: bytes of arguments so far; r9: where the next pointer to one is.
    asm.mov(r8, 0),
    Array.from({ length: maxFailedArgs }, (): Code => [
      asm.mov(r1, fp),
      asm.add(r1, -16),
      asm.mov(r2, 8),
      asm.mov(r3, r9),
      asm.call("probe_read_user"),
      asm.jne(r0, 0, "complete"),
      asm.ldxdw(r3, fp, -16),
      asm.jeq(r3, 0, "complete"),
      asm.jgt(r8, argsSize - argSize, "complete"),
      asm.mov(r1, r7),
      asm.add(r1, at("args")),
      asm.add(r1, r8),
      asm.mov(r2, argSize),
      asm.call("probe_read_user_str"),
      asm.jsle(r0, 0, "complete"),
      asm.add(r8, r0),
      asm.add(r9, 8),
    ]),
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
}

class UsageError extends Error {}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      failed: { type: "boolean", short: "x", default: false },
      json: { type: "boolean", short: "j", default: false },
      name: { type: "string", short: "n" },
      duration: { type: "string", short: "d" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    process.exit(0);
  }
  const seconds = values.duration === undefined ? undefined : Number(values.duration);
  // Node's and Bun's timers hold no more milliseconds than this.
  if (seconds !== undefined && !(seconds > 0 && seconds * 1000 < 2 ** 31)) {
    throw new UsageError(`--duration: expected seconds, such as 10 or 0.5, got ${values.duration}`);
  }
  return {
    failed: values.failed,
    json: values.json,
    name: values.name === undefined ? undefined : new RegExp(values.name),
    duration: seconds === undefined ? undefined : seconds * 1000,
  };
}

const errorNames = new Map(
  Object.entries((await import("node:os")).constants.errno).map(([name, errno]) => [errno, name]),
);

function argumentsOf(event: Event): { args: string[]; isCutOff: boolean } {
  const isCutOff = event.argsLength > argsSize;
  const bytes = Buffer.from(event.args.subarray(0, Math.min(event.argsLength, argsSize)));
  const args = bytes.toString().split("\0");
  // Each argument is ended by a NUL, so that the last piece is empty, unless it is what was cut off.
  if (args.at(-1) === "") args.pop();
  return { args, isCutOff };
}

/** As a shell would take it: quoted where needed, and nothing in it that a terminal would obey. */
function quote(arg: string): string {
  if (/^[\w@%+=:,./-]+$/.test(arg)) return arg;
  const visible = arg.replace(
    /[\u0000-\u001f\u007f-\u009f]/g,
    (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return `'${visible.replaceAll("'", "'\\''")}'`;
}

function asJson(event: Event, { failed }: Options): string {
  const { time, pid, ppid, uid, comm, filename, ret } = event;
  const { args, isCutOff } = argumentsOf(event);
  return JSON.stringify({
    time: monotonicToDate(time).toISOString(),
    pid,
    ppid,
    uid,
    comm,
    filename,
    args,
    ...(isCutOff ? { argsCutOff: true } : {}),
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
  return colour(bold, `${start}${"COMM".padEnd(15)} ${"FILENAME".padEnd(24)} ARGS`);
}

function asLine(event: Event, { failed }: Options): string {
  const { args, isCutOff } = argumentsOf(event);
  const time = monotonicToDate(event.time);
  const clock = `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  const result = event.ret < 0 ? (errorNames.get(-event.ret) ?? String(event.ret)) : "0";
  const ret = failed ? colour(event.ret < 0 ? red : grey, result.padEnd(8)) : "";
  const start = columns(clock, `${event.pid}`, `${event.ppid}`, `${event.uid}`, ret);
  const command = `${quote(event.comm).padEnd(15)} ${quote(event.filename).padEnd(24)}`;
  return `${start}${command} ${args.map(quote).join(" ")}${isCutOff ? " ..." : ""}`;
}

async function watch(options: Options): Promise<void> {
  const kernel = Btf.kernel();
  using events = new RingBuf({ event: Event, size: 4 * 1024 * 1024, name: "exec_events" });
  using lost = new ArrayMap({ value: t.u64n, maxEntries: 1, name: "exec_lost" });
  using attempts = new HashMap({
    key: t.u64,
    value: t.struct({ filename: t.u64, argv: t.u64 }),
    maxEntries: options.failed ? 8192 : 1,
    name: "exec_attempts",
  });
  const maps = { events, lost, attempts };

  using resources = new DisposableStack();
  const attach = (section: string, code: Code): Link => {
    const program = resources.use(
      new Program({ section, code, maps, license: "GPL", name: "execsnoop" }),
    );
    return resources.use(program.attach());
  };
  attach("tp_btf/sched_process_exec", succeeded(kernel));
  if (options.failed) {
    // The offsets are those of the tracepoints' format: filename follows the number of the system call, or the fd.
    attach("tp/syscalls/sys_exit_execve", ended(kernel));
    attach("tp/syscalls/sys_exit_execveat", ended(kernel));
    attach("tp/syscalls/sys_enter_execve", attempted(16));
    attach("tp/syscalls/sys_enter_execveat", attempted(24));
  }

  let seen = 0;
  let shown = 0;
  const show = (event: Event): void => {
    seen++;
    const { name } = options;
    if (name !== undefined && !name.test(event.comm) && !name.test(event.filename)) return;
    shown++;
    process.stdout.write(`${options.json ? asJson(event, options) : asLine(event, options)}\n`);
  };

  const iterator = events[Symbol.asyncIterator]();
  const stop = (): void => void iterator.return?.();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  // Whoever read our output has gone (`| head`): that is an end like any other.
  process.stdout.once("error", stop);
  if (options.duration !== undefined) setTimeout(stop, options.duration);

  if (!options.json) console.log(heading(options));
  for await (const event of iterator) show(event);
  // What came between the last wake-up and the detaching.
  resources.dispose();
  events.drain(show);
  const filtered = options.name === undefined ? "" : ` (${shown} shown)`;
  console.error(`${seen} seen${filtered}, ${lost.get(0)} lost`);
}

try {
  await watch(readOptions());
  process.exit(0);
} catch (error) {
  const isUsage =
    error instanceof UsageError ||
    error instanceof SyntaxError ||
    String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
  if (isUsage) {
    const [reason] = (error as Error).message.split("\n");
    console.error(`execsnoop: ${reason} (see --help)`);
    process.exit(2);
  }
  if (!(error instanceof BpfError)) throw error;
  console.error(`execsnoop: ${error.message}`);
  process.exit(1);
}
