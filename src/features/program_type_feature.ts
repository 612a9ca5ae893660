/** @module Programs that take the place of a function of another program (kernel 5.6). */

import * as asm from "../asm/asm.ts";
import { assemble } from "../asm/assembler.ts";
import type { Code } from "../asm/instruction.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { keyword } from "../check/names.ts";
import { attempt } from "./attach_kind.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";
import { probeProgramType, type ProgramTypeFacts } from "./program_types.ts";
import { loadTrial, returnZero } from "./smallest_program.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import type { FunctionInfo } from "../ffi/bpf_prog.ts";
import type { Descriptor } from "../ffi/descriptor.ts";

/** A program that calls a function of its own. */
const target: Code = [
  asm.func("main"),
  asm.callFunction("replaceable"),
  asm.exit(),
  asm.func("replaceable"),
  ...returnZero,
];

/** What the kernel answers to the smallest program that takes the place of another's function. */
export function probeExtension(): ProbeAnswer {
  return attempt(() => {
    using extended = loadExtensionTarget();
    using _extension = loadExtension(extended);
  });
}

/** Loads a program with a function that another program can take the place of. @throws {BpfError} */
export function loadExtensionTarget(): Descriptor {
  const { functions } = assemble(target);
  const [mainId, replaceableId] = functionIds;
  const records = [functions[0]?.slot ?? 0, mainId, functions[1]?.slot ?? 0, replaceableId];
  return loadTyped(records, (functionInfo) =>
    loadTrial({ type: "SOCKET_FILTER", code: target, functionInfo }),
  );
}

/** Loads a program to take the place of that function. @throws {BpfError} */
export function loadExtension({ fd }: Descriptor): Descriptor {
  const [, functionId] = functionIds;
  return loadTyped([0, functionId], (functionInfo) =>
    loadTrial({ type: "EXT", extended: { fd, functionId }, functionInfo }),
  );
}

/** The functions of both programs: they return a number, as all that can be replaced have to say. */
const types = new BtfBuilder();
const prototype = types.functionPrototype(types.int("int", 4, { isSigned: true }));
const functionIds = [
  types.func("main", prototype, "global"),
  types.func("replaceable", prototype, "global"),
] as const;

/** @param records pairs of the slot that a function begins at, and its type */
function loadTyped(
  records: readonly number[],
  load: (functionInfo: FunctionInfo) => Descriptor,
): Descriptor {
  // A program keeps the kernel's copy of its types: this descriptor is for the load only.
  using btf = loadBtf(types.encode(), "types of a trial");
  return load({ btfFd: btf.fd, records: new Uint8Array(Uint32Array.from(records).buffer) });
}

/** Whether there are programs of a type: the smallest is loaded. */
export function programTypeFeature(type: ProgramTypeFacts): Feature {
  const name = `program type ${keyword(type.name)}`;
  const probe = () => (type.name === "EXT" ? probeExtension() : probeProgramType(type));
  return new Feature({ ...type, name, probe });
}
