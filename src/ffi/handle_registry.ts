import { type HandleDescription, tracing } from "./handles.ts";

/** The environment variable that turns tracing on. It is read when this module is imported. */
const variable = "BUN_BPF_TRACE_HANDLES";

/** The length of captured stacks. The default of the JavaScript engine is 10, half of which would be calls inside this library. */
const maxFrames = 50;

/** A descriptor or mapping that this library has open. */
export interface OpenHandle {
  /** The name of the object, as in errors: `hash map "counts"`. */
  readonly what: string;
  /** `"descriptor"`, or `"mapping"` for mapped memory. One map can have both. */
  readonly kind: HandleDescription["kind"];
  /** The stack of the call that opened it, innermost first: lines as in `Error.stack`, without a message. */
  readonly stack: string;
}

/**
 * The descriptors and mappings that this thread has open, each with the stack of the call that opened it.
 *
 * The registry references the owners, so that garbage collection cannot hide a leak.
 */
export class HandleRegistry {
  readonly #open = new Map<object, { description: HandleDescription; stack: string }>();

  /** Adds an owner with the description of its descriptor or mapping, and with the stack of the caller. */
  add(owner: object, description: HandleDescription): void {
    this.#open.set(owner, { description, stack: captureStack() });
  }

  /** Removes an owner; does nothing if it was not added. */
  delete(owner: object): void {
    this.#open.delete(owner);
  }

  /** Returns the open descriptors and mappings, in the order of opening. */
  list(): OpenHandle[] {
    return [...this.#open.values()].map(({ description: { what, kind }, stack }) => ({
      what: what(),
      kind,
      stack,
    }));
  }

  /** Returns a message for each open descriptor and mapping: its name, and the stack of the call that opened it. */
  reports(): string[] {
    return [...this.#open.values()].map(({ description: { what, kind, place }, stack }) => {
      const [state, past] =
        kind === "mapping" ? ["still mapped", "mapped"] : ["still open", "opened"];
      return `bun-bpf: ${what()} (${place}) is ${state}; it was ${past} at\n${stack}`;
    });
  }
}

/** Returns the stack, starting at the call into this library. */
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
  // The first frame is this function. In a bundle without a source map its file is not known, and all frames are kept.
  const library = /\((.*\/)ffi\/handle_registry\.ts:/.exec(lines[0] ?? "")?.[1];
  if (library === undefined) return lines.join("\n");
  const isInLibrary = (line: string) => line.includes(library) && !isWithoutFile(line);
  const caller = lines.findIndex((line) => !isInLibrary(line) && !isWithoutFile(line));
  const entry = lines.slice(0, Math.max(caller, 0)).findLast(isInLibrary);
  return [entry ?? [], lines.slice(Math.max(caller, 0))].flat().join("\n");
}

/** Returns true for a frame of an implicit constructor, or of a stand-in for a class that is loaded on first use. */
function isWithoutFile(line: string): boolean {
  return /\((native|unknown):|at unknown$|\/start\/deferred\.ts:/.test(line);
}

/** Prints the open descriptors and mappings when the thread exits. */
function reportAtExit(registry: HandleRegistry): void {
  const report = (): void => {
    for (const block of registry.reports()) console.error(block);
  };
  process.on("exit", report);
  // Listeners run in the order of their addition, and later ones may dispose of objects, so this listener must stay the last.
  // It is moved in a microtask, because the event newListener is emitted before the addition.
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

/** The registry of this thread; `undefined` unless tracing is on. A bundle contains it only if it uses {@link openHandles}. */
export const registry: HandleRegistry | undefined = /*@__PURE__*/ startTracing();

function startTracing(): HandleRegistry | undefined {
  return isOn(process.env[variable]) ? createRegistry() : undefined;
}

/**
 * Returns the descriptors and mappings that this thread has open, in the order of opening: those of maps, programs and links, and
 * those that the library needs internally. Each has the stack of the call that opened it.
 *
 * To find a leak, set `BUN_BPF_TRACE_HANDLES=1`, as in `BUN_BPF_TRACE_HANDLES=1 bun script.ts`. At exit, each process and
 * each Worker prints its open descriptors and mappings to standard error. A process that was ended by a signal prints
 * nothing; nor does a Worker that was terminated, or that still ran when the process exited. `bun test` has no exit event:
 * call this function in an `afterAll` there.
 *
 * Objects that an exit listener disposes of are not listed, unless `process.exit()` is called in the tick in which that listener
 * was added.
 *
 * A bundled or compiled script is traced only if it uses this function, because bundlers drop unused code.
 *
 * The variable is read when this library is imported. While it is set, opening is slower, and objects that are not disposed of
 * are never collected.
 *
 * @throws {Error} if the variable is not set: an empty list would mean that nothing leaks.
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
