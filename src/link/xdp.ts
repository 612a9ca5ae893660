/** @module Attaches XDP programs to network interfaces: by a link, or by netlink. */

import { checkBoolean, checkChoice } from "../check/arguments.ts";
import { createLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, ignoreErrors } from "../ffi/error.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import { ENOLINK } from "../uapi/errno.ts";
import {
  XDP_FLAGS_DRV_MODE,
  XDP_FLAGS_HW_MODE,
  XDP_FLAGS_REPLACE,
  XDP_FLAGS_SKB_MODE,
  XDP_FLAGS_UPDATE_IF_NOEXIST,
} from "../uapi/network.ts";
import type { AttachKindRow, AttachMethod, AttachRequest } from "./attach_method.ts";
import { Attachment } from "./attachment.ts";
import { HeldProgram } from "./held_program.ts";
import { InterfaceLink } from "./interface_link.ts";
import { checkProgram, type Link, type LinkedProgram } from "./link.ts";
import type { XdpLinkInfo, XdpMode } from "./link_info.ts";
import {
  atInterface,
  type InterfaceOptions,
  missingInterface,
  type NetworkInterface,
} from "./network_target.ts";
import { describeInterface, setXdp, type XdpRequest } from "./route.ts";

/** Options of `attach()` for the sections `xdp` and `xdp.frags`. */
export interface XdpOptions extends InterfaceOptions {
  /**
   * The place where the program runs: `"driver"` (fast; needs a driver that supports XDP), `"generic"` (in the network stack,
   * with every driver) or `"offload"` (in the network card; needs a program that was loaded for the card).
   *
   * @default "driver" if the driver supports it, otherwise "generic"
   */
  readonly mode?: XdpMode;
  /**
   * The way to attach. `"netlink"` also reports the driver's reason for a refusal, and can replace a program. If the process
   * is killed, a program that was attached by netlink stays attached.
   *
   * @default "link" on Linux 5.9 and newer, otherwise "netlink"
   */
  readonly method?: "link" | "netlink";
  /**
   * The attached program that this one replaces in one step; `true` for any program. Needs the method `"netlink"`, and an
   * expected program needs Linux 5.7.
   *
   * @default false, so that the call fails if a program is attached
   */
  readonly replace?: boolean | LinkedProgram;
}

/** The bits of the modes. */
export const xdpModeFlags: Readonly<Record<XdpMode, number>> = {
  driver: XDP_FLAGS_DRV_MODE,
  generic: XDP_FLAGS_SKB_MODE,
  offload: XDP_FLAGS_HW_MODE,
};

/** Attaches to the packets that a network interface receives (kernel 4.8; links since 5.9). */
export const xdp: AttachMethod<XdpOptions> = {
  options: ["interface", "netns", "mode", "method", "replace"],
  attach(request) {
    const { options } = request;
    checkXdpOptions(options);
    const method = options.method ?? (isKernelSince("5.9") ? "link" : "netlink");
    if (method === "link" && options.replace) {
      throw new TypeError(
        'attach: the option replace needs method: "netlink": the kernel replaces the program of a link only by link.update()',
      );
    }
    return atInterface(options, (device) =>
      method === "link" ? attachLink(request, device) : attachByNetlink(request, device),
    );
  },
};

function checkXdpOptions({ mode, method, replace }: XdpOptions): void {
  checkXdpMode(mode);
  if (method !== undefined) checkChoice("method", method, ["link", "netlink"]);
  if (typeof replace === "object" && replace !== null) checkProgram("replace", replace);
  else if (replace !== undefined) checkBoolean("replace", replace);
}

const refusedByDriver =
  'The driver cannot run the program with the present settings of the interface, for example its MTU: method: "netlink" reports the reason of the driver, and mode: "generic" works with every driver';

/** @throws {TypeError} if a mode is not known. */
export function checkXdpMode(mode: XdpMode | undefined): void {
  if (mode !== undefined) checkChoice("mode", mode, Object.keys(xdpModeFlags));
}

function attachLink(
  { program, options }: AttachRequest<XdpOptions>,
  device: NetworkInterface,
): Link {
  const { mode } = options;
  const fd = createLink(
    {
      fd: program.fd,
      attachType: "xdp",
      target: device.index,
      flags: mode === undefined ? 0 : xdpModeFlags[mode],
    },
    {
      doing: `attach an XDP program to ${device.label}`,
      needs: ["CAP_BPF", "CAP_NET_ADMIN"],
      hints: {
        ...refusals(device, mode),
        ERANGE: refusedByDriver,
        EINVAL: () =>
          isKernelSince("5.9")
            ? (missingInterface(device) ?? refusedByDriver)
            : 'XDP links need Linux 5.9: method: "netlink" attaches without a link',
      },
    },
  );
  return new InterfaceLink(new Descriptor(fd, `xdp link to ${device.label}`), device);
}

/** Returns hints for refusals of both methods, by errno name. */
function refusals(device: NetworkInterface, mode: XdpMode | undefined) {
  const present = () => attachedHint(device);
  return {
    EBUSY: present,
    EEXIST: present,
    ENODEV: () => missingInterface(device),
    EOPNOTSUPP:
      mode === "offload"
        ? `The driver of ${device.label} has no offload, or the program was not loaded for the network card: load it with the option interface`
        : `The driver of ${device.label} does not support XDP: mode: "generic" works with every driver`,
  };
}

/** Returns a hint that names the attached programs. */
function attachedHint({ index, label }: NetworkInterface): string {
  using route = new RouteSocket();
  const programs = [...describeInterface(route, index).xdp].map(
    ([mode, id]) => `program ${id} (mode "${mode}")`,
  );
  if (programs.length === 0) return `${label} had another XDP program, which is detached now`;
  return `${label} has an XDP program already: ${programs.join(" and ")}. The kernel runs one program in each mode, and not both in "driver" and in "generic": detach it first (bun-bpf link list; ip link set dev ${label} xdp off)`;
}

/** Returns a hint for an interface that has another program than the expected one, or none. */
function otherThanExpected(device: NetworkInterface): string {
  using route = new RouteSocket();
  const ids = [...describeInterface(route, device.index).xdp.values()];
  return ids.length === 0
    ? `${device.label} has no XDP program, so there is none to replace: leave out the option replace`
    : `${device.label} has another XDP program than the one to replace: program ${ids.join(", ")}`;
}

function attachByNetlink(
  { program, options: { mode, replace = false } }: AttachRequest<XdpOptions>,
  device: NetworkInterface,
): Attachment {
  const flags = mode === undefined ? 0 : xdpModeFlags[mode];
  const expectedFd = typeof replace === "object" ? replace.fd : undefined;
  using stack = new DisposableStack();
  const route = stack.use(new RouteSocket());
  const held = stack.use(new HeldProgram(program));
  setXdp(route, {
    interfaceIndex: device.index,
    programFd: program.fd,
    flags:
      flags |
      (expectedFd === undefined ? 0 : XDP_FLAGS_REPLACE) |
      (replace === false ? XDP_FLAGS_UPDATE_IF_NOEXIST : 0),
    expectedFd,
    doing: `attach an XDP program to ${device.label}`,
    hints: {
      ...refusals(device, mode),
      ...(expectedFd !== undefined && { EEXIST: () => otherThanExpected(device) }),
      ...(expectedFd !== undefined &&
        !isKernelSince("5.7") && {
          EINVAL: "An expected program needs Linux 5.7: pass replace: true",
        }),
    },
  });
  stack.move();
  return new XdpAttachment(route, held, device, flags).attachment;
}

/** An XDP program that is attached without a link. */
class XdpAttachment {
  readonly attachment: Attachment;
  readonly #route: RouteSocket;
  readonly #device: NetworkInterface;
  /** The bits of the mode. Without any, the kernel chooses the same mode each time. */
  readonly #flags: number;
  #program: HeldProgram;
  readonly #label: string;

  constructor(route: RouteSocket, program: HeldProgram, device: NetworkInterface, flags: number) {
    this.#route = route;
    this.#program = program;
    this.#device = device;
    this.#flags = flags;
    this.#label = `xdp program of ${device.label}`;
    route.descriptor.what = this.#label;
    this.attachment = new Attachment(route.descriptor, {
      info: () => this.#info(),
      update: (next, expected) => this.#update(next, expected),
      detach: () => this.#set({ programFd: -1, doing: `detach the ${this.#label}` }),
      close: () => this.#program[Symbol.dispose](),
    });
  }

  #info(): XdpLinkInfo {
    const programId = this.#program.id;
    const device = this.#present();
    const isAttached = device !== undefined && [...device.xdp.values()].includes(programId);
    return {
      type: "xdp",
      id: 0,
      programId,
      ifindex: isAttached ? device.index : undefined,
      interfaceName: isAttached ? device.name : undefined,
    };
  }

  /** Describes the interface; returns `undefined` after it was removed. */
  #present() {
    return ignoreErrors(["ENODEV"], () => describeInterface(this.#route, this.#device.index));
  }

  #update(next: LinkedProgram, expected: LinkedProgram | undefined): void {
    const doing = `replace the program of the ${this.#label}`;
    this.#program.requireExpected(expected, { doing, syscall: "netlink" });
    this.#program.requireSameType(next, { doing, syscall: "netlink" });
    using stack = new DisposableStack();
    const held = stack.use(new HeldProgram(next));
    if (!this.#set({ programFd: next.fd, doing })) {
      throw new BpfError({
        errno: ENOLINK,
        syscall: "netlink",
        doing,
        hint: "The program is not attached any more: another process replaced or detached it, or the interface was removed",
      });
    }
    stack.move();
    this.#program[Symbol.dispose]();
    this.#program = held;
  }

  /** Replaces or detaches the program. Returns false if it is not attached any more. */
  #set(change: Pick<XdpRequest, "programFd" | "doing">): boolean {
    const interfaceIndex = this.#device.index;
    // Kernels before 5.7 cannot compare the program, so another process can replace it between these steps.
    const canCompare = isKernelSince("5.7");
    if (!canCompare && this.#info().ifindex === undefined) return false;
    // EEXIST: another program is attached. EBUSY: a link is attached.
    const isSet = ignoreErrors(["EEXIST", "EBUSY", "ENODEV"], () => {
      setXdp(this.#route, {
        ...change,
        interfaceIndex,
        flags: this.#flags | (canCompare ? XDP_FLAGS_REPLACE : 0),
        expectedFd: canCompare ? this.#program.fd : undefined,
      });
      return true;
    });
    return isSet ?? false;
  }
}

/** Common part of the rows about network interfaces. */
const interfaces = {
  // CAP_SYS_ADMIN is needed to create the network namespace.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  config: ["CONFIG_NET", "CONFIG_NET_NS"],
  section: "xdp",
  place: "loopback",
} as const;

/** The ways to attach in this file, as `features` lists them. */
export const xdpKinds = {
  xdp: { since: "5.9", ...interfaces, options: { method: "link" } },
  xdp_netlink: { since: "4.12", ...interfaces, options: { method: "netlink" } },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
