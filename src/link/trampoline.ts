/** @module Attaches to functions by trampolines: fentry, fexit, fmod_ret, fsession, LSM hooks, and freplace. */

import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, openRawTracepoint } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince, type KernelVersion, sinceByArchitecture } from "../ffi/kernel.ts";
import { activeSecurityModules, bpfModuleObstacle } from "../ffi/security.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { EOPNOTSUPP } from "../uapi/errno.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  type AttachRequest,
  checkCookie,
  checkTarget,
  type CookieOptions,
  type TargetForm,
} from "./attach_method.ts";
import { traceableFunctions } from "./function_patterns.ts";
import { Link } from "./link.ts";
import { findProgramFunction } from "./program_function.ts";

/** Options of `attach()` for the section `freplace`. */
export interface ReplacementOptions {
  /**
   * Another program with a function of the same type, whose function is replaced (Linux 5.10).
   *
   * @default the program that the replacement was loaded for; only until it has been attached once
   */
  readonly program?: FdLike;
  /** The replaced function of the option `program`. @default the function that the section names */
  readonly function?: string;
}

/** A function; one of a module can be named with the module: `"nf_nat:nf_nat_init"`. */
const functionForm: TargetForm = {
  example: "vfs_read",
  pattern: /^(?:\w+:)?[\w.]+$/,
};

const needs = ["CAP_BPF", "CAP_PERFMON"] as const;

/** Attaches to the function that the program was loaded for: fentry and fexit (kernel 5.5), fmod_ret (5.7), fsession (7.0). */
export const tracedFunction: AttachMethod<CookieOptions> = {
  options: ["cookie"],
  target: functionForm,
  attach: (request) => attachTrampoline(request, "function"),
};

/**
 * Attaches to the security hook that the program was loaded for (kernel 5.7).
 *
 * The kernel also attaches programs while the BPF security module is not active, and then never runs them. This is an error.
 */
export const securityHook: AttachMethod<CookieOptions> = {
  options: ["cookie"],
  target: functionForm,
  attach(request) {
    checkSecurityModule(`attach to the security hook ${request.target}`);
    return attachTrampoline(request, "security hook");
  },
};

/**
 * Checks that the kernel runs programs that are attached to security hooks.
 *
 * @throws {BpfError} `EOPNOTSUPP` if the BPF security module is known not to be active.
 */
export function checkSecurityModule(doing: string, modules = activeSecurityModules()): void {
  const obstacle = "names" in modules ? bpfModuleObstacle(modules) : undefined;
  if (obstacle === undefined) return;
  const hint = `The kernel would never run the program: ${obstacle}`;
  throw new BpfError({ errno: EOPNOTSUPP, syscall: "lsm_list_modules", doing, hint });
}

function attachTrampoline(
  { program, attachType = "trace_fentry", target = "", options }: AttachRequest<CookieOptions>,
  noun: "function" | "security hook",
): Link {
  const { cookie } = options;
  checkCookie(cookie);
  const context: BpfCallContext = {
    doing: `attach to the ${noun} ${target}`,
    needs,
    hints: {
      ...trampolineHints,
      EBUSY: () =>
        explainUntraceable(noun, target) ??
        `The program is attached to this ${noun} already, or a program of freplace replaces it: load the program again for a second link`,
      EINVAL: () =>
        cookie !== undefined && !isKernelSince("5.19")
          ? `Cookies of programs for functions need Linux 5.19: leave out the cookie`
          : explainUntraceable(noun, target),
    },
  };
  const fd =
    cookie === undefined
      ? openRawTracepoint(program.fd, null, context)
      : createLink({ fd: program.fd, attachType }, context, (attr) =>
          attr.u64(LINK_CREATE.tracing_cookie, cookie),
        );
  return new Link(new Descriptor(fd, `${sectionOf[attachType] ?? attachType} link to ${target}`));
}

/** The sections of attach types, for descriptions of links. */
const sectionOf: Readonly<Partial<Record<string, string>>> = {
  trace_fentry: "fentry",
  trace_fexit: "fexit",
  modify_return: "fmod_ret",
  trace_fsession: "fsession",
  lsm_mac: "lsm",
};

const trampolineHints = {
  ENOENT: () =>
    isKernelSince("5.13")
      ? undefined
      : "Before Linux 5.13 a program can be attached only once to the function that it was loaded for: load it again",
  ENOTSUPP: () =>
    `This kernel cannot call programs at functions: its JIT compiler has no trampolines (on arm64 they need Linux 6.4), or it was built without ${ftrace}`,
  // BPF_MAX_TRAMP_LINKS in include/linux/bpf.h, which was 40 in Linux 5.10.
  E2BIG: "The function has as many programs as a trampoline can call, which are 38",
} as const;

/** Explains that a function of the kernel cannot be traced; returns `undefined` if it can. */
function explainUntraceable(noun: string, target: string): string | undefined {
  const name = target.slice(target.indexOf(":") + 1);
  return noun === "function" && traceableFunctions()?.has(name) === false
    ? "The kernel does not let the function be traced (notrace): choose one in available_filter_functions of tracefs"
    : undefined;
}

/**
 * Replaces a function of another program: of the one that the program was loaded for (kernel 5.6), or of another one with a function
 * of the same type (kernel 5.10).
 */
export const replacement: AttachMethod<ReplacementOptions> = {
  options: ["program", "function"],
  target: functionForm,
  attach({ program, target = "", options: { program: other, function: name = target } }) {
    checkTarget("attach: function", functionForm, name);
    if (other === undefined && name !== target) {
      throw new TypeError(
        `attach: function: expected the option program, whose function ${name} is replaced`,
      );
    }
    const doing = `replace the function ${name} of a program`;
    const link = (fd: number) => new Link(new Descriptor(fd, `freplace link to ${name}`));
    const hints = {
      ...trampolineHints,
      EBUSY: `The function is replaced already, or programs of fentry or fexit are attached to it: detach them first`,
    };
    if (other === undefined) {
      const again =
        "After its first attachment a program can be attached only with the option program, which names the other program";
      // Before Linux 5.13 the error is ENOENT.
      const context = { doing, needs, hints: { ...hints, ENOENT: again, EINVAL: again } };
      return link(openRawTracepoint(program.fd, null, context));
    }
    const fd = fdOf(other, "attach: program", 1);
    const { typeId } = findProgramFunction(fd, name, doing);
    const EINVAL = () =>
      isKernelSince("5.10")
        ? "The function differs in its type from the one that the program was loaded for, is static, or its program has another type or is a replacement itself"
        : "The option program needs Linux 5.10: load the replacement with the option attachTo instead";
    // Programs of freplace have no attach type, which is the number 0. It is also that of cgroup_inet_ingress.
    const request = { fd: program.fd, attachType: "cgroup_inet_ingress", target: fd } as const;
    const context = { doing, needs, hints: { ...hints, EINVAL } };
    return link(
      createLink(request, context, (attr) => attr.u32(LINK_CREATE.target_btf_id, typeId)),
    );
  },
};

/** The kernel's build option for trampolines at functions of the kernel. */
export const ftrace = "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS";

/** Returns the first kernel version with trampolines. On arm64 the kernel can call them since 6.4. */
function trampolinesSince(x64: KernelVersion): KernelVersion {
  return sinceByArchitecture({ x64, arm64: "6.4" });
}

/** The capabilities and build options that all programs with typed arguments need. */
export const typed = {
  needs,
  config: ["CONFIG_BPF_EVENTS", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;
const traced = { ...typed, config: [...typed.config, ftrace] } as const;

/** A function that exists to be traced by tests (kernel 5.5): only test runs of tracing programs call it. */
export const testFunction = "bpf_fentry_test1";

/** The ways to attach to functions of the kernel, as `features` lists them. */
export const tracedFunctionKinds = {
  fentry: { since: trampolinesSince("5.5"), ...traced, section: `fentry/${testFunction}` },
  fexit: { since: trampolinesSince("5.5"), ...traced, section: `fexit/${testFunction}` },
  fmod_ret: {
    since: trampolinesSince("5.7"),
    ...traced,
    config: [...traced.config, "CONFIG_SECURITY"],
    // fmod_ret programs may change the results of security hooks. Only quotactl(2) calls this hook.
    section: "fmod_ret/security_quotactl",
  },
  fsession: { since: "7.0", ...traced, section: `fsession/${testFunction}` },
  fentry_cookie: {
    since: trampolinesSince("5.19"),
    ...traced,
    section: `fentry/${testFunction}`,
    options: { cookie: 1n },
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;

/** The other ways to attach in this file, as `features` lists them. */
export const replacementKinds = {
  lsm: {
    since: trampolinesSince("5.7"),
    ...traced,
    config: [...traced.config, "CONFIG_BPF_LSM"],
    // The security hook of quotactl(2), a rare system call.
    section: "lsm/quotactl",
    needsSecurityModule: true,
  },
  freplace: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    // CAP_SYS_ADMIN is needed to find the replaced function by its name.
    needs: [...needs, "CAP_SYS_ADMIN"],
    config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
    // The probe loads a program with this function.
    section: "freplace/replaceable",
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
