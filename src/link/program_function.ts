import { Btf } from "../btf/btf.ts";
import { readBtfObject } from "../ffi/bpf_btf.ts";
import { objectInfo, openById } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { ENOENT } from "../uapi/errno.ts";
import { PROG_INFO } from "../uapi/layout.ts";

/** A function of a loaded BPF program. */
export interface ProgramFunction {
  /** The id of the function in the program's BTF. */
  readonly typeId: number;
  /** The program's raw BTF. */
  readonly btf: Uint8Array;
}

/**
 * Finds a function of a loaded BPF program by its name, which needs CAP_SYS_ADMIN.
 *
 * @param doing the operation that needs the function, for errors
 * @throws {BpfError} `ENOENT` if the program has no such function, or no BTF.
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN.
 */
export function findProgramFunction(
  programFd: number,
  name: string,
  doing: string,
): ProgramFunction {
  using info = objectInfo(programFd, PROG_INFO.sizeof, "program whose function was named");
  const btfId = info.u32(PROG_INFO.btf_id);
  if (btfId === 0) {
    throw notFound(
      doing,
      `The program was loaded without BTF, which has the names of its functions: load it with the option btf`,
    );
  }
  using descriptor = new Descriptor(openById("btf", btfId), `BTF ${btfId} of a program`);
  const { bytes } = readBtfObject(descriptor.fd, descriptor.what);
  const btf = Btf.parse(bytes);
  const [typeId] = btf.findAll("func", name);
  if (typeId === undefined) {
    const near = btf.suggestion(name, "func");
    throw notFound(doing, `The program has no function ${name}${near}`);
  }
  return { typeId, btf: bytes };
}

function notFound(doing: string, hint: string): BpfError {
  return new BpfError({ errno: ENOENT, syscall: "look-up in the program's BTF", doing, hint });
}
