import { type HandleDescription, tracing } from "./handles.ts";

/** The environment variable that turns tracing on: read once, when this module is imported. */
const variable = "BUN_BPF_TRACE_HANDLES";

/** More than the engine's 10, half of which would be calls of this library. */
const maxFrames = 50;

/** A kernel object that this library holds: nothing has disposed of it. */
export interface OpenHandle {
  /** The name that errors use: `hash map "counts"`. */
  readonly what: string;
  /** A descriptor, or a mapping of its memory. One map can have both. */
  readonly kind: HandleDescription["kind"];
  /** The calls that opened it, innermost first: lines like those of `Error.stack`, without a message. */
  readonly stack: string;
}

/**
 * The kernel objects that this thread holds, each with the stack that opened it.
 *
 * It keeps the owners alive, so that garbage collection hides no leak.
 */
export class HandleRegistry {
  readonly #open = new Map<object, { description: HandleDescription; stack: string }>();

  /** Notes that `owner` holds what it describes, opened by the caller. */
  add(owner: object, description: HandleDescription): void {
    this.#open.set(owner, { description, stack: captureStack() });
  }

  /** Removes `owner`, if it is there. */
  delete(owner: object): void {
    this.#open.delete(owner);
  }

  /** Returns the open objects, in the order of opening. */
  list(): OpenHandle[] {
    return [...this.#open.values()].map(({ description: { what, kind }, stack }) => ({
      what: what(),
      kind,
      stack,
    }));
  }

  /** Returns a text for each open object: its name, and the stack that opened it. */
  reports(): string[] {
    return [...this.#open.values()].map(({ description: { what, kind, place }, stack }) => {
      const [state, past] =
        kind === "mapping" ? ["still mapped", "mapped"] : ["still open", "opened"];
      return `bun-bpf: ${what()} (${place}) is ${state}; it was ${past} at\n${stack}`;
    });
  }
}

/** Returns the stack, from the call into this library on. */
function captureStack(): string {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = maxFrames;
  // A custom prepareStackTrace may return something other than lines.
  Reflect.set(Error, "prepareStackTrace", undefined);
  let lines: string[];
  try {
    lines = (new Error().stack ?? "").split("\n").slice(1);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    Reflect.set(Error, "prepareStackTrace", prepareStackTrace);
  }
  // The first frame is this function. In a bundle without a source map its file is unknown: then all frames are kept.
  const library = /\((.*\/)ffi\/handle_registry\.ts:/.exec(lines[0] ?? "")?.[1];
  if (library === undefined) return lines.join("\n");
  const isInLibrary = (line: string) => line.includes(library) && !isOfNoFile(line);
  const caller = lines.findIndex((line) => !isInLibrary(line) && !isOfNoFile(line));
  const entry = lines.slice(0, Math.max(caller, 0)).findLast(isInLibrary);
  return [entry ?? [], lines.slice(Math.max(caller, 0))].flat().join("\n");
}

/** Returns true for the frame of an implicit constructor, or of a stand-in for a class that is loaded on first use. */
function isOfNoFile(line: string): boolean {
  return /\((native|unknown):|at unknown$|\/start\/deferred\.ts:/.test(line);
}

/** Reports at the exit of the thread the objects that it leaves open. */
function reportAtExit(registry: HandleRegistry): void {
  const report = (): void => {
    for (const block of registry.reports()) console.error(block);
  };
  process.on("exit", report);
  // Listeners run in the order of their addition, and a later one may dispose of objects: stay the last. This event comes before
  // the addition, hence the microtask.
  process.on("newListener", (event: string | symbol, listener: unknown) => {
    if (event !== "exit" || listener === report) return;
    queueMicrotask(() => {
      process.off("exit", report);
      process.on("exit", report);
    });
  });
}

function createRegistry(): HandleRegistry {
  const registry = new HandleRegistry();
  reportAtExit(registry);
  tracing.registry = registry;
  return registry;
}

function isOn(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false"].includes(value);
}

/** This thread's registry; `undefined` unless tracing is on. A bundle contains it only with {@link openHandles}. */
export const registry: HandleRegistry | undefined = /*@__PURE__*/ startTracing();

function startTracing(): HandleRegistry | undefined {
  return isOn(process.env[variable]) ? createRegistry() : undefined;
}

/**
 * Returns the objects that this thread has open, in the order of opening, each with the stack that opened it: maps, programs,
 * links, and those that the library itself needs for them.
 *
 * To find a leak, set `BUN_BPF_TRACE_HANDLES=1`, as in `BUN_BPF_TRACE_HANDLES=1 bun script.ts`: at its exit each process and each
 * Worker lists on standard error what it leaves open. There is no list from a process that a signal ended, from a Worker that was
 * terminated or still ran at the end of the process, and from `bun test`, which has no exit event: call this function in an
 * `afterAll` there.
 *
 * Objects that an exit listener disposes of are not listed, unless `process.exit()` is called in the tick in which that listener
 * was added.
 *
 * A bundled or compiled script is traced only if it uses this function, as bundlers drop unused code.
 *
 * The variable is read when this library is imported. With it each opening is slower, and objects that are not disposed of are
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
  if (registry !== undefined) return registry.list();
  throw new Error(
    `open handles are not traced: set ${variable}=1 in the environment before bun-bpf is imported`,
  );
}
