import { Btf } from "../btf/btf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import { loadError, tryLoadProgram } from "../ffi/bpf_prog.ts";
import { hasCapability } from "../ffi/capabilities.ts";
import { BpfError, errnoName } from "../ffi/error.ts";
import { explainer } from "../handle/explanation.ts";
import { BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { bpfAttachTypes, bpfProgTypes } from "../uapi/enumerations.ts";
import { errnoNumbers } from "../uapi/errno.ts";
import type { Assembled } from "../asm/assembler.ts";
import { functionTypes } from "./function_types.ts";
import type { Section } from "./section.ts";
import { VerifierError } from "./verifier_error.ts";

/** How much the verifier writes, by the names that the option `log` takes. */
export const logLevels = {
  /** Nothing; a rejected program is loaded a second time to get the log of the error. */
  none: 0,
  /** Each instruction of the path that is rejected, with the verifier's state; for an accepted program, the statistics. */
  instructions: 1,
  /** Each instruction of every path with the state of all registers, also for an accepted program. */
  verbose: 2,
  /** Only how much work it was. */
  statistics: 4,
} as const;

/** What is loaded, beside its section. */
export interface Load {
  readonly license: string;
  readonly name: string;
  readonly what: string;
  readonly assembled: Assembled;
  readonly logLevel: number;
}

/**
 * Loads a program into the kernel: its descriptor, and what the verifier wrote.
 *
 * @throws {VerifierError} when the verifier rejects it
 * @throws {BpfError} when the kernel refuses it for another reason
 */
export function loadProgram(
  section: Section,
  { license, name, what, assembled, logLevel }: Load,
): { readonly fd: number; readonly log: string } {
  const { programType, attachType, isSleepable = false, needs } = section.kind;
  const types = functionTypes(assembled);
  // The program keeps the kernel's copy of the types: this descriptor is for the load only.
  using btf = types === undefined ? undefined : loadBtf(types.btf, `types of the ${what}`);
  const program = {
    type: bpfProgTypes[programType],
    expectedAttachType: attachType === undefined ? 0 : bpfAttachTypes[attachType],
    attachBtfId: attachBtfId(section, what),
    flags: isSleepable ? BPF_F_SLEEPABLE : 0,
    instructions: assembled.bytes,
    license,
    name,
    functionInfo: btf && types && { btfFd: btf.fd, records: types.records },
  };
  const result = tryLoadProgram(program, logLevel);
  if ("fd" in result) return result;
  const isPrivilegeMissing =
    errnoName(result.errno) === "EPERM" && !needs.every(hasCapabilityOrAdmin);
  // Without a log the kernel says no more than a number: it is asked again for the reason.
  const explained =
    isPrivilegeMissing || result.log !== ""
      ? result
      : tryLoadProgram(program, logLevels.instructions);
  // What was in the way the first time (memory, say) may be gone.
  if ("fd" in explained) return { fd: explained.fd, log: "" };
  const { log } = explained;
  if (log.trim() === "") {
    const hint =
      explainer()?.programType(programType) ??
      `The kernel refuses the ${what} before looking at its instructions`;
    throw loadError(result.errno, what, needs, hint);
  }
  const hint = explainer()?.helper(programType, log);
  throw new VerifierError(
    { errno: result.errno, syscall: "bpf(BPF_PROG_LOAD)", doing: `load the ${what}`, hint },
    log,
    assembled,
  );
}

function hasCapabilityOrAdmin(capability: Parameters<typeof hasCapability>[0]): boolean {
  return hasCapability("CAP_SYS_ADMIN") || hasCapability(capability);
}

function attachBtfId({ kind, target }: Section, what: string): number {
  if (kind.btfTypedefPrefix === undefined) return 0;
  // The kernel, too, takes the first one, should there be several.
  const [id] = Btf.kernel().findAll("typedef", `${kind.btfTypedefPrefix}${target}`);
  if (id === undefined) {
    throw new BpfError({
      errno: errnoNumbers.ENOENT,
      syscall: "look-up in the kernel's BTF",
      doing: `load the ${what}`,
      hint: `This kernel has no tracepoint ${target}, or no type information for it`,
    });
  }
  return id;
}
