/** @module The places in the user's files from which the library is called. */

/** A place in a file that is on the stack. */
export interface CallSite {
  /** Absolute path of the file. */
  readonly file: string;
  /** Line number, from 1. */
  readonly line: number;
  /** Column number, from 1. */
  readonly column: number;
}

/** The part of V8's CallSite, which Bun also implements, that is read. */
interface StackFrame {
  getFileName(): string | null | undefined;
  getLineNumber(): number | null;
  getColumnNumber(): number | null;
}

/** Number of frames that are searched for files. */
const maxFrames = 50;

/**
 * Returns the calls that led to the call of a function, the innermost first. Source maps are applied. Frames of no file, such
 * as those of the engine and of compiled binaries without source map, are left out.
 *
 * @param skip a function that is on the stack. It must not make this call as a tail call, which would remove it from there. Bun
 * compares names: no function that it calls on the way may have the same name.
 */
export function callSites(skip: Function): CallSite[] {
  const { prepareStackTrace, stackTraceLimit } = Error;
  const holder: { stack?: unknown } = {};
  let frames: unknown;
  try {
    Error.stackTraceLimit = maxFrames;
    Error.prepareStackTrace = (_, callSites) => callSites;
    Error.captureStackTrace(holder, skip);
    frames = holder.stack;
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit });
  }
  return (Array.isArray(frames) ? (frames as StackFrame[]) : []).flatMap((frame) => {
    const file = frame.getFileName()?.replace(/^file:\/\//, "");
    const line = frame.getLineNumber();
    if (!file?.startsWith("/") || file.startsWith("/$bunfs/") || line === null) return [];
    return [{ file, line, column: frame.getColumnNumber() ?? 1 }];
  });
}
