/** @module Attaches iterator programs, which the kernel calls for each object of a kind while their output is read. */

import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { type Keyword, numbersByKeyword, suggest } from "../check/names.ts";
import type { BpfAttr, BpfCallContext } from "../ffi/bpf.ts";
import { createLink } from "../ffi/bpf_link.ts";
import { objectKind } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { bpfCgroupIterOrders } from "../uapi/enumerations.ts";
import { EINVAL } from "../uapi/errno.ts";
import { ITER_LINK_INFO, LINK_CREATE } from "../uapi/layout.ts";
import type { AttachKindRow, AttachMethod, TargetForm } from "./attach_method.ts";
import { openCgroup } from "./cgroup.ts";
import { IterLink } from "./iterator_link.ts";

/**
 * The order in which an iterator visits cgroups, from the cgroup of the option `cgroup` on: only that one, its descendants before
 * or after their own descendants, it and its ancestors, or its children without it.
 */
export type CgroupOrder = Keyword<Exclude<keyof typeof bpfCgroupIterOrders, "ORDER_UNSPEC">>;

/** Options of `attach()` for the sections `iter/...`: the objects to which the iteration is limited. */
export interface IteratorOptions {
  /** The map whose elements `iter/bpf_map_elem`, `iter/bpf_sk_storage_map` or `iter/sockmap` visits (kernel 5.9). They need it. */
  readonly map?: FdLike;
  /**
   * The cgroup from which `iter/cgroup` starts: the path of its directory, or a descriptor of it (kernel 6.1).
   *
   * @default the root of the hierarchy
   */
  readonly cgroup?: string | FdLike;
  /**
   * The order in which `iter/cgroup` visits cgroups (kernel 6.1). `"children"` needs Linux 7.0.
   *
   * @default "descendants_pre"
   */
  readonly order?: CgroupOrder;
  /**
   * The id of the only process whose threads `iter/task`, `iter/task_file` or `iter/task_vma` visits (kernel 6.1). If there is no
   * such process, the iteration visits nothing.
   *
   * @default all processes
   */
  readonly pid?: number;
  /** The id of the only thread that `iter/task`, `iter/task_file` or `iter/task_vma` visits, instead of `pid` (kernel 6.1). */
  readonly tid?: number;
  /** A descriptor of the only process, from pidfd_open(2), instead of `pid` (kernel 6.1). */
  readonly pidfd?: FdLike;
}

const form: TargetForm = { example: "task", pattern: /^\w+$/ };

/** The iterators that take options, by the options. The kernel ignores the parameters of others. */
const iteratorsByOption: Readonly<Record<keyof IteratorOptions, readonly string[]>> = {
  map: ["bpf_map_elem", "bpf_sk_storage_map", "sockmap"],
  cgroup: ["cgroup"],
  order: ["cgroup"],
  pid: ["task", "task_file", "task_vma"],
  tid: ["task", "task_file", "task_vma"],
  pidfd: ["task", "task_file", "task_vma"],
};

/** The maps that iterators over the elements of maps take, for hints. */
const mapsByIterator: Readonly<Record<string, string>> = {
  bpf_map_elem: "hash tables and arrays, also LRU and per-CPU ones",
  bpf_sk_storage_map: "maps of type sk_storage",
  sockmap: "maps of type sockmap and sockhash",
};

/** Makes an iterator of the kind that the program was loaded for (kernel 5.8). */
export const iterator: AttachMethod<IteratorOptions> = {
  options: Object.keys(iteratorsByOption),
  target: form,
  attach({ program, target = "", options }) {
    checkIteratorOptions(target, options);
    using opened = new DisposableStack();
    const parameters = parametersOf(target, options, opened);
    const context: BpfCallContext = {
      doing: `attach to the iterator ${target}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
      hints: { EINVAL: sleepableHint(target), ...parameters?.hints },
    };
    const request = { fd: program.fd, attachType: "trace_iter" } as const;
    const fd = createLink(request, context, (attr) => {
      if (parameters !== undefined) fillParameters(attr, parameters.fields);
    });
    return new IterLink(new Descriptor(fd, `iter link to ${target}`));
  },
};

function sleepableHint(target: string): string {
  return `The kernel runs sleepable programs (iter.s/...) only for some iterators, such as task and cgroup: load the program for section "iter/${target}"`;
}

/**
 * Checks that the iterator takes the options.
 *
 * @throws {TypeError} if the kernel would ignore one, or one is missing.
 */
function checkIteratorOptions(target: string, options: IteratorOptions): void {
  for (const [option, targets] of Object.entries(iteratorsByOption)) {
    if (options[option as keyof IteratorOptions] === undefined || targets.includes(target)) {
      continue;
    }
    throw new TypeError(
      `attach: the iterator ${target} takes no option "${option}", which is for ${targets.join(", ")}`,
    );
  }
  const maps = mapsByIterator[target];
  if (maps !== undefined && options.map === undefined) {
    throw new TypeError(
      `attach: the iterator ${target} needs the option "map", the map whose elements it visits`,
    );
  }
  const given = (["pid", "tid", "pidfd"] as const).filter((name) => options[name] !== undefined);
  if (given.length > 1) {
    throw new TypeError(
      `attach: ${given.map((name) => `"${name}"`).join(" and ")} cannot be combined: pass one of them`,
    );
  }
}

/** The parameters of an iterator, struct bpf_iter_link_info, and hints about errors that they cause. */
interface IteratorParameters {
  /** The fields that are not 0, by their offsets. */
  readonly fields: readonly (readonly [offset: ITER_LINK_INFO, value: number])[];
  readonly hints: NonNullable<BpfCallContext["hints"]>;
}

/** Returns the parameters; `undefined` for none. @param opened owns the descriptors that the call needs */
function parametersOf(
  target: string,
  { map, cgroup, order = "descendants_pre", pid, tid, pidfd }: IteratorOptions,
  opened: DisposableStack,
): IteratorParameters | undefined {
  if (map !== undefined) return mapParameters(target, fdOf(map, "a map", 1));
  if (target === "cgroup") return cgroupParameters(cgroup, order, opened);
  if (pid !== undefined) return taskParameters("pid", ITER_LINK_INFO.task_pid, pid);
  if (tid !== undefined) return taskParameters("tid", ITER_LINK_INFO.task_tid, tid);
  if (pidfd === undefined) return undefined;
  const fd = fdOf(pidfd, "a descriptor of a process", 1);
  const hints = {
    EBADF: `pidfd: the descriptor ${fd} is not one of a process: pass one from pidfd_open(2)`,
    E2BIG: taskHint("pidfd"),
  };
  return { fields: [[ITER_LINK_INFO.task_pid_fd, fd]], hints };
}

function mapParameters(target: string, fd: number): IteratorParameters {
  const hints = {
    EBADF: `map: the descriptor ${fd} is not open`,
    EINVAL: () =>
      (objectKind(fd) ?? "map") === "map"
        ? `map: the iterator ${target} visits the elements of ${mapsByIterator[target]}`
        : `map: the descriptor ${fd} is not one of a map`,
    EACCES: "The program accesses bytes beyond the keys or the values of this map",
  };
  return { fields: [[ITER_LINK_INFO.map_map_fd, fd]], hints };
}

const orders = numbersByKeyword(bpfCgroupIterOrders);

function cgroupParameters(
  cgroup: string | FdLike | undefined,
  order: CgroupOrder,
  opened: DisposableStack,
): IteratorParameters {
  if (!Object.hasOwn(orders, order) || orders[order] === bpfCgroupIterOrders.ORDER_UNSPEC) {
    const known = Object.keys(orders).filter((name) => name !== "order_unspec");
    throw new TypeError(`order: unknown ${describe(order)}: ${suggest(String(order), known)}`);
  }
  const fields: [ITER_LINK_INFO, number][] = [[ITER_LINK_INFO.cgroup_order, orders[order]]];
  if (cgroup !== undefined) {
    const fd =
      typeof cgroup === "string"
        ? opened.use(openCgroup(cgroup)).fd
        : fdOf(cgroup, "the path or a descriptor of a cgroup", 1);
    fields.push([ITER_LINK_INFO.cgroup_cgroup_fd, fd]);
  }
  const which = typeof cgroup === "string" ? cgroup : "the descriptor";
  const hints = {
    EBADF: `cgroup: ${which} is not the directory of a cgroup`,
    EINVAL:
      order === "children"
        ? 'order: "children" needs Linux 7.0: use "descendants_pre"'
        : sleepableHint("cgroup"),
  };
  return { fields, hints };
}

function taskHint(option: string): string {
  return `${option}: limiting an iterator to a process or a thread needs Linux 6.1`;
}

function taskParameters(
  option: "pid" | "tid",
  offset: ITER_LINK_INFO,
  id: number,
): IteratorParameters {
  checkCount(option, id, 1);
  // Older kernels reject the other fields, but take this one as that of the map, which they ignore here.
  if (option === "tid" && !isKernelSince("6.1")) {
    throw new BpfError({
      errno: EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `attach to the iterator with the thread ${id}`,
      hint: taskHint(option),
    });
  }
  return { fields: [[offset, id]], hints: { E2BIG: taskHint(option) } };
}

function fillParameters(attr: BpfAttr, fields: IteratorParameters["fields"]): void {
  const { view } = attr.memory(LINK_CREATE.iter_info, ITER_LINK_INFO.sizeof);
  attr.u32(LINK_CREATE.iter_info_len, ITER_LINK_INFO.sizeof);
  for (const [offset, value] of fields) view.setUint32(offset, value, true);
}

/** The ways to attach in this file, as `features` lists them. */
export const iteratorKinds = {
  iter: {
    since: "5.8",
    config: ["CONFIG_BPF_EVENTS", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
    needs: ["CAP_BPF", "CAP_PERFMON"],
    section: "iter/bpf_map",
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
