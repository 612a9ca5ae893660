import { Btf } from "../btf/btf.ts";
import { BpfError } from "../ffi/error.ts";
import type { TracingLinkInfo } from "../link/info.ts";
import { visibleObject } from "./objects.ts";

/** Names of functions by the ids of their types. Each BTF is read once, and not before it is asked for. */
export class FunctionNames {
  readonly #btfs = new Map<number, Btf | undefined>();

  /** The name of a type of a BTF, or `undefined` where this process may not read it, or it is gone. */
  nameOf(btfId: number, typeId: number): string | undefined {
    const btf = this.#btfs.getOrInsertComputed(btfId, () => readBtf(btfId));
    if (btf === undefined || typeId >= btf.length) return undefined;
    return btf.type(typeId).name || undefined;
  }

  /** What a tracing link is of: a function of the kernel or a module, or of another program. */
  targetOf({ targetId, targetTypeId, attachType, programId }: TracingLinkInfo): string | undefined {
    if (targetId === undefined || targetTypeId === undefined) return undefined;
    // The same number is a BTF's or a program's. From kernel 5.17 on the attached program tells, as it keeps the BTF that it
    // was loaded for; before, functions of other programs are rare.
    const loadedFor = visibleObject("prog", programId)?.target;
    const isOfBtf =
      attachType !== "ext" && (loadedFor === undefined || loadedFor.btfId === targetId);
    if (isOfBtf) return this.nameOf(targetId, targetTypeId);
    const program = visibleObject("prog", targetId);
    if (program === undefined) return undefined;
    const name = program.btfId === 0 ? undefined : this.nameOf(program.btfId, targetTypeId);
    return name === undefined
      ? `program ${program.id} ${program.name}`
      : `${name} of program ${program.id}`;
  }
}

function readBtf(id: number): Btf | undefined {
  try {
    return Btf.fromId(id);
  } catch (error) {
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}
