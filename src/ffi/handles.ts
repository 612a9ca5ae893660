/** The environment variable that turns tracing on: read once, when this module is imported. */
const variable = "BUN_BPF_TRACE_HANDLES";

/** More than the engine's 10: of those, the library's own calls would take half. */
const maxFrames = 50;

/** A kernel object that this library holds, and has not been told to give up. */
export interface OpenHandle {
  /** Names it as errors do: `hash map "counts"`. */
  readonly what: string;
  /** How it is held: one map can be both, a descriptor and a mapping of its memory. */
  readonly kind: "descriptor" | "mapping";
  /** The calls that opened it, innermost first: lines like those of `Error.stack`, without a message. */
  readonly stack: string;
}

/** What the owner of a kernel object says of it. */
export interface HandleDescription {
  readonly kind: OpenHandle["kind"];
  /** Which of its kind it is: `descriptor 7`. */
  readonly place: string;
  /** Asked at the time of the report: some objects are opened first and named by the kernel then. */
  readonly what: () => string;
}

/**
 * The kernel objects that this thread holds, each with the stack that opened it.
 *
 * It keeps the owners alive: what nobody disposed of is reported, whether or not it was collected by then.
 */
export class HandleRegistry extends Map<
  object,
  { readonly description: HandleDescription; readonly stack: string }
> {
  /** Notes that `owner` holds what it describes, opened by the caller. */
  add(owner: object, description: HandleDescription): void {
    this.set(owner, { description, stack: captureStack() });
  }

  /** A block of text for each that is open: what it is, and the stack that opened it. */
  reports(): string[] {
    return Array.from(this.values(), ({ description: { what, kind, place }, stack }) => {
      const [state, past] = kind === "mapping" ? ["mapped", "mapped"] : ["open", "opened"];
      return `bun-bpf: ${what()} (${place}) is still ${state}; it was ${past} at\n${stack}`;
    });
  }
}

/** The calls that led here, from the one into this library on. */
function captureStack(): string {
  const { stackTraceLimit, prepareStackTrace } = Error;
  // A formatter of the program's own may give anything but lines.
  Object.assign(Error, { stackTraceLimit: maxFrames, prepareStackTrace: undefined });
  let lines: string[];
  try {
    lines = (new Error().stack ?? "").split("\n").slice(1);
  } finally {
    Object.assign(Error, { stackTraceLimit, prepareStackTrace });
  }
  // The first call is this one. In a bundle without a source map its file is not known: then all calls are kept.
  const library = /\((.*\/)ffi\/handles\.ts:/.exec(lines[0] ?? "")?.[1];
  if (library === undefined) return lines.join("\n");
  // Others are like a constructor that a class does not spell out, or stand in for a class that is loaded on first use.
  const hasFile = (line: string) =>
    !/\((native|unknown):|at unknown$|\/start\/deferred\.ts:/.test(line);
  const caller = lines.findIndex((line) => hasFile(line) && !line.includes(library));
  // All are the library's where there is no caller.
  const own = lines.splice(0, Math.max(caller, 0));
  return [...own.filter(hasFile).slice(-1), ...lines].join("\n");
}

/** Makes the registry of a thread, which tells at its exit what it leaves open. */
function createRegistry(): HandleRegistry | undefined {
  if (["", "0", "false", undefined].includes(process.env[variable])) return undefined;
  const registry = new HandleRegistry();
  const report = (): void => {
    for (const block of registry.reports()) console.error(block);
  };
  process.on("exit", report);
  // Listeners run in the order of their addition, and a later one may be what disposes: stay the last. This event comes
  // before the addition, hence the microtask.
  process.on("newListener", (event: string | symbol, listener: unknown) => {
    if (event !== "exit" || listener === report) return;
    queueMicrotask(() => process.off("exit", report).on("exit", report));
  });
  return registry;
}

/** This thread's registry; `undefined` unless tracing is on, so that to ask is all that it costs otherwise. */
export const handles = createRegistry();

/** What a registry has now, in the order of opening. */
export function listHandles(registry: HandleRegistry): OpenHandle[] {
  return Array.from(registry.values(), ({ description: { what, kind }, stack }) => ({
    what: what(),
    kind,
    stack,
  }));
}

/**
 * What this thread has open now, in the order of opening, each with the stack that opened it: maps, programs, links,
 * and what the library itself needs for them.
 *
 * For a leak: with `BUN_BPF_TRACE_HANDLES=1` in the environment, as in `BUN_BPF_TRACE_HANDLES=1 bun script.ts`, each
 * process names on standard error what it leaves open at its exit, and each Worker at its own. Nobody is left to tell
 * that of a process which ended by a signal, of a Worker that was terminated or that was running at the end of the
 * process, and of `bun test`, which has no exit event: call this in an `afterAll` there.
 *
 * What a listener of the exit disposes of is not named, unless `process.exit()` follows in the same tick as the addition
 * of that listener.
 *
 * The variable is read when this library is imported; each opening is slower with it, and what was not disposed of is
 * never collected.
 *
 * @throws {Error} without the variable: an empty list would say that nothing leaks
 *
 * @example
 * ```ts
 * process.env.BUN_BPF_TRACE_HANDLES = "1"; // or in the shell
 * const { HashMap, openHandles, t } = await import("bun-bpf");
 * using counts = new HashMap({ key: t.ipv4, value: t.u64, maxEntries: 1024, name: "counts" });
 * for (const { what, stack } of openHandles()) {
 *   console.log(what); // hash map "counts"
 *   console.log(stack); // at new HashMap
 * }
 * ```
 */
export function openHandles(): readonly OpenHandle[] {
  if (handles !== undefined) return listHandles(handles);
  throw new Error(
    `what is open is not traced: set ${variable}=1 in the environment before bun-bpf is imported`,
  );
}
