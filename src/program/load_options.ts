/** @module Options of loading that the kernel takes beside the code: flags, the network interface, descriptors, a signature. */

import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { type ProgramFlag, programFlags, type ProgramLoad } from "../ffi/bpf_prog.ts";
import { readFileSync } from "../ffi/files.ts";
import { isKernelSince, type KernelVersion } from "../ffi/kernel.ts";
import { pageSize } from "../ffi/mapped_memory.ts";
import { interfaceName } from "../ffi/socket.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { atInterface, missingInterface } from "../link/network_target.ts";
import type { ProgramSpec } from "./program_spec.ts";
import type { Section } from "./sections.ts";

/** Options of loading that belong to this machine and process, not to the spec. */
export interface MachineOptions {
  /**
   * The network interface to bind a program of a section `xdp` or `tc` to: its index or its name. With the flag
   * `"xdp_dev_bound_only"` the program can read the metadata of the driver, and can be attached only to this interface (kernel 6.3).
   * Without the flag the program is offloaded: the hardware of the interface runs it.
   */
  readonly interface?: number | string;
  /**
   * Maps and BTF objects that the instructions refer to by their index in this array: loads of maps (`BPF_PSEUDO_MAP_IDX`, kernel
   * 5.14) and calls of functions of modules (kernel 5.16). Light skeletons have such instructions. Since Linux 6.14 the program
   * keeps all maps of the array in the kernel, also those that it does not refer to.
   */
  readonly fdArray?: readonly FdLike[];
  /**
   * A BPF token, which lets a process in a user namespace load the program with the privileges that the token delegates (kernel
   * 6.9). The types of the program are loaded with it, too. The kernel ignores a token that does not allow programs of this type,
   * and then requires the capabilities as without one.
   *
   * @default none: the process needs the capabilities itself
   */
  readonly token?: FdLike;
  /**
   * The signature of the encoded instructions: a detached PKCS #7 message in DER. The kernel loads the program only if a key of the
   * keyring verifies it (kernel 6.18). Code that refers to maps by descriptor has other bytes in each process: signed code
   * refers to them by their index in `fdArray`.
   *
   * @default none: the kernel verifies no signature
   */
  readonly signature?: Uint8Array;
  /**
   * The keyring with the key that verifies the signature: 0 for the keys that are built into the kernel, 1 to add those of its
   * secondary keyring, 2 for those of the platform, otherwise the serial number of a keyring, or -3 for that of the session
   * (`KEY_SPEC_SESSION_KEYRING`).
   *
   * @default 0
   */
  readonly keyringId?: number;
}

/** The fields of BPF_PROG_LOAD that the options determine. */
type LoadFields = Pick<
  ProgramLoad,
  "flags" | "interfaceIndex" | "fdArray" | "tokenFd" | "signature"
>;

/** The first kernel versions that have the flags. */
const flagVersions: Readonly<Record<ProgramFlag, KernelVersion>> = {
  strict_alignment: "4.12",
  any_alignment: "5.0",
  test_rnd_hi32: "5.3",
  test_state_freq: "5.4",
  sleepable: "5.10",
  xdp_has_frags: "5.18",
  xdp_dev_bound_only: "6.3",
  test_reg_invariants: "6.8",
};

/**
 * Checks the options and returns the fields for the kernel. The flags of the section are among them.
 *
 * @throws {TypeError | RangeError} if an option is wrong, or does not fit the section.
 * @throws {BpfError} `ENODEV` if no network interface has the name.
 */
export function loadFields(
  { flags = [] }: Pick<ProgramSpec, "flags">,
  options: MachineOptions,
  section: Section,
): LoadFields {
  const { interface: device } = options;
  const { programType } = section.row;
  const bits = flagBits(flags) | (section.row.flags ?? 0);
  if (device === undefined) {
    if ((bits & programFlags.xdp_dev_bound_only) === 0) {
      return { flags: bits, ...fdsOf(options), ...signatureOf(options) };
    }
    throw new TypeError(
      'interface: the flag "xdp_dev_bound_only" needs the network interface to bind the program to',
    );
  }
  if (programType !== "xdp" && programType !== "sched_cls") {
    throw new TypeError(
      `interface: only programs of the types xdp and sched_cls are bound to network interfaces, those of section "${section.name}" are ${programType}`,
    );
  }
  const interfaceIndex = atInterface({ interface: device }, ({ index }) => index);
  return { flags: bits, interfaceIndex, ...fdsOf(options), ...signatureOf(options) };
}

function flagBits(flags: readonly ProgramFlag[]): number {
  if (!Array.isArray(flags)) {
    throw new TypeError(`flags: expected an array of names, got ${describe(flags)}`);
  }
  let bits = 0;
  for (const flag of flags as readonly ProgramFlag[]) {
    if (!Object.hasOwn(programFlags, flag)) {
      throw new TypeError(
        `flags: unknown flag ${describe(flag)}: ${suggest(String(flag), Object.keys(programFlags))}`,
      );
    }
    bits |= programFlags[flag];
  }
  return bits;
}

function fdsOf({ fdArray, token }: MachineOptions): Pick<LoadFields, "fdArray" | "tokenFd"> {
  const tokenFd = token === undefined ? {} : { tokenFd: fdOf(token, "a BPF token") };
  if (fdArray === undefined) return tokenFd;
  if (!Array.isArray(fdArray)) {
    throw new TypeError(
      `fdArray: expected an array of maps and BTF objects, got ${describe(fdArray)}`,
    );
  }
  return {
    ...tokenFd,
    fdArray: Int32Array.from(fdArray, (object) => fdOf(object, "a map or a BTF object", 1)),
  };
}

function signatureOf({ signature, keyringId = 0 }: MachineOptions): Pick<LoadFields, "signature"> {
  if (!Number.isInteger(keyringId) || keyringId !== (keyringId | 0)) {
    throw new RangeError(
      `keyringId: expected an integer from -2147483648 to 2147483647, got ${describe(keyringId)}`,
    );
  }
  if (signature === undefined) {
    if (keyringId === 0) return {};
    throw new TypeError("keyringId: names the keyring for a signature, got no signature");
  }
  if (!(signature instanceof Uint8Array)) {
    throw new TypeError(`signature: expected a Uint8Array, got ${describe(signature)}`);
  }
  // The bytes may be of a subclass of Uint8Array whose length changes, so they are copied first.
  const bytes = new Uint8Array(signature);
  // The largest cache of kmalloc(), to which the kernel limits signatures (KMALLOC_MAX_CACHE_SIZE).
  const maxLength = 2 * pageSize();
  if (bytes.length < 1 || bytes.length > maxLength) {
    throw new RangeError(`signature: expected 1 to ${maxLength} bytes, got ${bytes.length}`);
  }
  return { signature: { bytes, keyringId } };
}

/** Returns a hint for a load whose signature the kernel does not accept. */
function explainSignature(keyringId: number, code: string): string | undefined {
  if (!isKernelSince("6.18")) {
    return code === "E2BIG" ? "The option signature needs Linux 6.18" : undefined;
  }
  const hints: Readonly<Record<string, string>> = {
    EINVAL: `The kernel has no keyring ${keyringId} that this process may search, or was built without CONFIG_KEYS`,
    EOPNOTSUPP:
      "This kernel was built without CONFIG_SYSTEM_DATA_VERIFICATION, which verifies signatures",
    EBADMSG: "The signature is not a PKCS #7 message in DER",
    ENOKEY: `The keyring ${keyringId} has no key that verifies the signature`,
    EKEYREJECTED: "The signature is not that of these instructions",
  };
  return hints[code];
}

/** Returns a hint for a load whose token the kernel does not accept. */
function explainToken(tokenFd: number, code: string): string | undefined {
  if (!isKernelSince("6.9")) {
    return code === "E2BIG" || code === "EINVAL" ? "The option token needs Linux 6.9" : undefined;
  }
  if (code !== "EBADF" && code !== "EINVAL") return undefined;
  try {
    const isToken = readFileSync(`/proc/self/fdinfo/${tokenFd}`, "utf8").includes("allowed_progs:");
    return isToken ? undefined : "The option token is not the descriptor of a BPF token";
  } catch {
    return "The descriptor of the token is not open";
  }
}

/**
 * Returns a hint for a load that the kernel refused before it verified the program; `undefined` if none of the options can be the
 * cause.
 *
 * @param code the name of the error
 */
export function explainLoadFields(
  { flags = 0, interfaceIndex: index, fdArray, tokenFd, signature }: LoadFields,
  code: string,
): string | undefined {
  if (code === "EINVAL") {
    for (const [name, since] of Object.entries(flagVersions)) {
      const isSet = (flags & programFlags[name as ProgramFlag]) !== 0;
      if (isSet && !isKernelSince(since)) return `The flag ${name} needs Linux ${since}`;
    }
  }
  const optionHint =
    (signature && explainSignature(signature.keyringId, code)) ??
    (tokenFd === undefined ? undefined : explainToken(tokenFd, code));
  if (optionHint !== undefined) return optionHint;
  if (fdArray !== undefined && !isKernelSince("5.14")) {
    return code === "E2BIG" || code === "EINVAL"
      ? "The option fdArray needs Linux 5.14"
      : undefined;
  }
  if (fdArray !== undefined && code === "EBADF") {
    return "A descriptor in fdArray is neither that of a map nor of a BTF object";
  }
  if (index === undefined || (code !== "EINVAL" && code !== "EOPNOTSUPP")) return undefined;
  const name = interfaceName(index);
  if (name === undefined) return missingInterface({ index });
  if ((flags & programFlags.xdp_dev_bound_only) === 0) {
    return `The driver of ${name} does not offload programs to hardware, or not with these flags. With the flag xdp_dev_bound_only, an XDP program is bound to the interface and the kernel runs it`;
  }
  return code === "EOPNOTSUPP"
    ? `The driver of ${name} does not support XDP`
    : "Only XDP programs can have the flag xdp_dev_bound_only, and beside it only xdp_has_frags";
}
