/** @module Detaches programs that are attached without a link, also those that other processes have attached. */

import { checkChoice, checkOptions } from "../check/arguments.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { detachProgram, queryPrograms } from "../ffi/bpf_link.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { inNetworkNamespace } from "../ffi/namespace.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import { fdOf } from "../handle/fd_like.ts";
import { XDP_FLAGS_REPLACE } from "../uapi/network.ts";
import type { OrderOptions } from "./anchor.ts";
import type { AttachMethod } from "./attach_method.ts";
import {
  cgroup,
  cgroupHints,
  type CgroupOptions,
  cgroupSkb,
  type CgroupSkbOptions,
  lsmCgroup,
  openCgroup,
} from "./cgroup.ts";
import { notAttached } from "./held_program.ts";
import type { LinkedProgram } from "./link.ts";
import { atInterface, openNetnsOption } from "./network_target.ts";
import { flowDissector, type FlowDissectorOptions } from "./netns.ts";
import { skSkb, type SkSkbOptions, socketMap, type SocketMapOptions } from "./socket_map.ts";
import { describeInterface, setXdp } from "./route.ts";
import { directedTc, type DirectedTcOptions, tc } from "./tc.ts";
import { listFilters, removeFilter } from "./tc_filter.ts";
import { checkXdpMode, xdp, xdpModeFlags, type XdpOptions } from "./xdp.ts";

/** A program that is attached somewhere. */
export interface DetachableProgram extends LinkedProgram {
  readonly id: number;
}

/** The arguments of a {@link DetachMethod}. */
interface DetachRequest<Options extends object> {
  readonly program: DetachableProgram;
  readonly attachType: AttachTypeName;
  readonly options: Options;
}

/** A way to detach programs. */
interface DetachMethod<Options extends object = object> {
  /** The names of the options, which are those of the way to attach that tell where the program is attached. */
  readonly options: readonly string[];
  /** @throws {BpfError} `ENOENT` if the program is not attached there without a link. */
  detach(request: DetachRequest<Options>): void;
}

const needs = ["CAP_BPF", "CAP_NET_ADMIN"] as const;

const fromCgroup: DetachMethod<CgroupOptions> = {
  options: ["cgroup"],
  detach({ program, attachType, options }) {
    using target = openCgroup(options.cgroup);
    const doing = `detach from the ${target.what} (${attachType})`;
    // In the modes with one program, the kernel detaches whatever program the cgroup has.
    const { programs } = queryPrograms(target.fd, attachType, {
      doing,
      hints: cgroupHints(target),
    });
    if (!programs.some(({ programId }) => programId === program.id)) {
      throw notAttached({ doing, syscall: "bpf(BPF_PROG_QUERY)" });
    }
    detachFrom(target.fd, program, attachType, { doing });
  },
};

const fromCgroupSkb: DetachMethod<CgroupSkbOptions> = {
  options: ["cgroup", "direction"],
  detach({ program, options }) {
    const { direction } = options;
    checkChoice("detach: direction", direction, ["ingress", "egress"]);
    fromCgroup.detach({ program, attachType: `cgroup_inet_${direction}`, options });
  },
};

const fromSocketMap: DetachMethod<SocketMapOptions> = {
  options: ["map"],
  detach({ program, attachType, options: { map } }) {
    const fd = fdOf(map, 'a map of sockets as option "map"');
    const doing = `detach from the map of sockets (${attachType})`;
    detachFrom(fd, program, attachType, {
      doing,
      hints: {
        EBUSY: "The program is attached by a link",
        EOPNOTSUPP: "The map is not a map of sockets (SockMap, SockHash)",
      },
    });
  },
};

const fromSkSkb: DetachMethod<SkSkbOptions> = {
  options: ["map", "attachType"],
  detach: ({ program, options }) =>
    fromSocketMap.detach({ program, attachType: options.attachType, options }),
};

const fromNetns: DetachMethod<FlowDissectorOptions> = {
  options: ["netns"],
  detach({ program, attachType, options: { netns } }) {
    using target: Descriptor = openNetnsOption(netns);
    const doing = `detach from the ${target.what} (${attachType})`;
    inNetworkNamespace(target.fd, () =>
      detachFrom(0, program, attachType, {
        doing,
        hints: { EINVAL: "The program is attached by a link" },
      }),
    );
  },
};

const fromXdp: DetachMethod<XdpOptions> = {
  options: ["interface", "netns", "mode"],
  detach({ program, options }) {
    const { mode } = options;
    checkXdpMode(mode);
    atInterface(options, ({ index, label }) => {
      const doing = `detach an XDP program from ${label}`;
      using route = new RouteSocket();
      const attached = [...describeInterface(route, index).xdp].find(
        ([other, id]) => id === program.id && (mode === undefined || other === mode),
      );
      if (attached === undefined) throw notAttached({ doing, syscall: "netlink" });
      const canCompare = isKernelSince("5.7");
      setXdp(route, {
        interfaceIndex: index,
        programFd: -1,
        flags: xdpModeFlags[attached[0]] | (canCompare ? XDP_FLAGS_REPLACE : 0),
        expectedFd: canCompare ? program.fd : undefined,
        doing,
        hints: { EBUSY: "The program is attached by a link", EEXIST: notWithoutLink },
      });
    });
  },
};

type FilterOptions = Omit<DirectedTcOptions, "method" | "replace" | keyof OrderOptions>;

const filterOptions = ["interface", "netns", "priority", "handle", "chain"] as const;

/** Detaches classic filters. Without options that name one, all filters of the direction that run the program. */
function detachFilters(program: DetachableProgram, options: FilterOptions): void {
  const { direction, priority, handle, chain } = options;
  atInterface(options, ({ index, label }) => {
    using route = new RouteSocket();
    const filters = listFilters(route, index, direction).filter(
      (filter) =>
        filter.programId === program.id &&
        (priority === undefined || filter.priority === priority) &&
        (handle === undefined || filter.handle === handle) &&
        (chain === undefined || filter.chain === chain),
    );
    if (filters.length === 0) {
      const doing = `detach from the ${direction} of ${label}`;
      throw notAttached({ doing, syscall: "netlink" });
    }
    for (const filter of filters) removeFilter(route, filter);
  });
}

const fromDirectedTc: DetachMethod<FilterOptions> = {
  options: [...filterOptions, "direction"],
  detach({ program, options }) {
    checkChoice("detach: direction", options.direction, ["ingress", "egress"]);
    detachFilters(program, options);
  },
};

const fromTc: DetachMethod<FilterOptions> = {
  options: filterOptions,
  detach: ({ program, attachType, options }) =>
    detachFilters(program, {
      ...options,
      direction: attachType === "tcx_egress" ? "egress" : "ingress",
    }),
};

function detachFrom(
  targetFd: number,
  { fd }: DetachableProgram,
  attachType: AttachTypeName,
  context: BpfCallContext,
): void {
  const hints = { ENOENT: notWithoutLink, ...context.hints };
  detachProgram({ programFd: fd, attachType, targetFd }, { needs, ...context, hints });
}

const notWithoutLink = "The program is not attached there, or it is attached by a link";

/** The ways to detach, by the ways to attach that need no link. */
const detachMethods = new Map<AttachMethod, DetachMethod>([
  [cgroup, fromCgroup],
  [cgroupSkb, fromCgroupSkb],
  [lsmCgroup, fromCgroup],
  [socketMap, fromSocketMap],
  [skSkb, fromSkSkb],
  [flowDissector, fromNetns],
  [xdp, fromXdp],
  [tc, fromTc],
  [directedTc, fromDirectedTc],
] as [AttachMethod, DetachMethod][]);

/**
 * Detaches a program that is attached without a link, in the way of its section. Links are detached by {@link Link.detach}.
 *
 * @param section the name of the section, the way to attach and the attach type
 * @throws {BpfError} `ENOENT` if the program is not attached there without a link.
 * @throws {TypeError | RangeError} if an option is wrong, or programs of the section are attached by links only.
 */
export function detachWithoutLink(
  section: {
    readonly name: string;
    readonly row: { readonly method?: AttachMethod; readonly attachType?: AttachTypeName };
  },
  program: DetachableProgram,
  options: object,
): void {
  const { method, attachType } = section.row;
  const way = method && detachMethods.get(method);
  if (way === undefined) {
    throw new TypeError(
      method?.options.includes("socket")
        ? `detach: programs of section "${section.name}" belong to a socket: the process that has attached the program detaches it, or closes the socket`
        : `detach: programs of section "${section.name}" are attached by links only: detach the link`,
    );
  }
  checkOptions("detach", options, way.options);
  way.detach({ program, attachType: attachType ?? "cgroup_inet_ingress", options });
}
