/** @module From functions to specs of programs: all passes, in their order. */

import { parseSection } from "../program/sections.ts";
import type { ProgramSpec } from "../program/program_spec.ts";
import { type AnyKernelFunction, type ScopeMaps, translate } from "./language/translate.ts";
import { STACK_LIMIT, StackError } from "./machine/allocate.ts";
import { emit } from "./machine/emit.ts";
import { type IrFunction, printFunction, type TextPosition, withCallees } from "./ir/ir.ts";
import { prepareLoops } from "./ir/loops.ts";
import { optimize } from "./ir/optimize.ts";
import { analyseRanges } from "./ir/ranges.ts";
import { sectionContext } from "./language/section_context.ts";
import { TargetError } from "./machine/select.ts";
import { shareSlots } from "./ir/share_slots.ts";
import type { Sources } from "./source/source.ts";
import type { Target } from "./machine/target.ts";

/** A function to compile, and where it will run. */
export interface CompileRequest {
  readonly sources: Sources;
  readonly fn: AnyKernelFunction;
  /** The key of the function. */
  readonly place: string;
  /** The section by libbpf's name. */
  readonly section: string;
  readonly scope: Readonly<Record<string, unknown>>;
  readonly maps: ScopeMaps;
  readonly target: Target;
  /** The value of `ctx.probe`. */
  readonly probe: string;
  /** Called with the listing of each stage. */
  readonly onStage?: (name: string, listing: string) => void;
}

/**
 * Compiles a function to the spec of a program.
 *
 * @throws {CompileError} if the function is not in the language.
 * @throws {BpfError} if this kernel does not have the place.
 */
export function compileFunction(request: CompileRequest): ProgramSpec {
  const { sources, place, section, target, onStage } = request;
  const { members, results } = sectionContext(parseSection(section));
  const { main } = translate({ ...request, members, results });
  const show = (stage: string) => onStage?.(stage, printFunction(main));
  show("intermediate representation");
  for (const fn of withCallees(main)) optimize(fn);
  show("optimized");
  for (const fn of withCallees(main)) {
    check(fn, sources, target);
    optimize(fn);
  }
  show("optimized with ranges");
  for (const fn of withCallees(main)) {
    prepareLoops(fn);
    shareSlots(fn);
  }
  show("prepared for the verifier");
  const code = emitOrExplain(main, request);
  return { section: section as never, code, license: "GPL", name: nameOf(place) };
}

/** The position of errors about a whole function. */
const everywhere: TextPosition = { source: 0, start: 0, end: 0 };

/** Returns the instructions. @throws {CompileError} if the stack is too small, or the kernel too old. */
function emitOrExplain(main: IrFunction, { sources, target }: CompileRequest) {
  const sourceOf = (position: TextPosition) => sources.sourceOf(position);
  try {
    return emit(withCallees(main), { target, sourceOf });
  } catch (error) {
    if (error instanceof StackError) {
      throw sources.error(
        everywhere,
        `the function needs ${error.size} bytes of stack, and a program has ${STACK_LIMIT}`,
        "Use fewer or shorter strings, structs and copies of map values at a time: ref() makes no copy",
      );
    }
    if (!(error instanceof TargetError)) throw error;
    throw sources.error(
      error.position ?? everywhere,
      error.message,
      "This kernel is older: use another way, or compile for newer kernels only",
    );
  }
}

function check(fn: IrFunction, sources: Sources, target: Target): void {
  analyseRanges(
    fn,
    (position, message, hint) => {
      throw sources.error(position ?? everywhere, message, hint);
    },
    target,
  );
}

/** Returns a name for the kernel, from the end of a place: `vfs_read` of `kprobe/vfs_read`. */
function nameOf(place: string): string {
  const last = place.split(/[/:]/).at(-1) ?? place;
  return last.replaceAll(/[^A-Za-z0-9_.]/g, "_").slice(0, 15);
}
