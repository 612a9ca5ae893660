/**
 * @module Probes ways to attach, as their rows describe: makes a place, attaches the smallest program to it, and detaches it.
 * For `tc` the kernel may load modules, which stay loaded.
 */

import { constants, mkdirSync, openSync, rmdirSync } from "../ffi/files.ts";
import * as asm from "../asm/asm.ts";
import { Btf } from "../btf/btf.ts";
import { createLink } from "../ffi/bpf_link.ts";
import { probeElement, probeMap } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { createMemoryFile } from "../ffi/memory_file.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { inNewNamespace, inNewNetworkNamespace, openNetworkNamespace } from "../ffi/namespace.ts";
import { activeSecurityModules, bpfModuleObstacle } from "../ffi/security.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import { openSocket, setSocketOption } from "../ffi/socket.ts";
import type { AttachKindRow, ProbePlace } from "../link/attach_method.ts";
import { addNetkit } from "../link/route.ts";
import { Program } from "../program/program.ts";
import type { SectionName } from "../program/section_types.ts";
import { BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM } from "../uapi/commands.ts";
import { BPF_F_LINK } from "../uapi/bpf.ts";
import { CLONE_NEWCGROUP } from "../uapi/system.ts";
import { attempt, descriptorOf, Missing, requireSuccess } from "./attempt.ts";
import type { ProbeAnswer } from "./feature.ts";
import { mapTypes } from "../maps/map_types.ts";
import { probeMapOf } from "./map_types.ts";
import { kernelTypeId, loadExtensible, loadProbe } from "./probe_program.ts";

/** Probes a way to attach: attaches a program in this way, and detaches it at once. */
export function probeAttachKind(row: AttachKindRow): ProbeAnswer {
  return attempt(() => {
    try {
      if (row.place === "struct_ops map") attachStructOps(row.options !== undefined);
      else attachProgram(row);
    } catch (error) {
      if (error instanceof BpfError) {
        if (row.isExclusive && error.code === "EEXIST") return;
        // The ways refuse to attach while the security module is not active.
        if (row.needsSecurityModule && error.code === "EOPNOTSUPP") requireSecurityModule();
      }
      throw error;
    }
    if (row.needsSecurityModule) requireSecurityModule();
  });
}

/** Loads the smallest program for a way to attach. */
export function loadFor({ section, returns = 0 }: AttachKindRow, name = "probe"): Program {
  using attachTo = section.startsWith("freplace/") ? loadExtensible() : undefined;
  return new Program({
    // A test checks that all sections of the rows are known.
    section: section as SectionName,
    name,
    license: "GPL",
    code: [asm.mov(asm.r0, returns), asm.exit()],
    ...(attachTo && { attachTo }),
  });
}

/** Loads the program of a row, attaches it by the way of its section, and detaches it. */
function attachProgram(row: AttachKindRow): void {
  const { place, options, operation } = row;
  using program = loadFor(row);
  atProbePlace(place, (placeOptions) => {
    using link = program.attach({ ...placeOptions, ...options });
    if (operation === "detach") link.detach();
    if (operation === "update") {
      using other = loadFor(row);
      link.update(other);
    }
  });
}

/** Makes a place, calls `use` with the options of `attach()` that name it, and removes the place. */
export function atProbePlace(place: ProbePlace | undefined, use: (options: object) => void): void {
  switch (place) {
    case undefined:
      return use({});
    case "cgroup":
      return withCgroup((fd) => use({ cgroup: { fd } }));
    case "netns":
      return inNewNetworkNamespace(() => {
        using netns = openNetworkNamespace();
        use({ netns: { fd: netns.fd } });
      });
    case "own netns":
      return inNewNetworkNamespace(() => use({}));
    case "loopback":
      return inNewNetworkNamespace(() => use({ interface: loopback }));
    case "netkit":
      return inNewNetworkNamespace(() => {
        using route = new RouteSocket();
        addNetkit(route, netkit);
        use({ interface: netkit });
      });
    case "socket": {
      using socket = openSocket("datagram", 0, placeName);
      setSocketOption(socket.fd, "SO_REUSEPORT", 1, { doing: `set up the ${placeName}` });
      return use({ socket: { fd: socket.fd } });
    }
    case "socket map": {
      const shape = { keySize: 4, valueSize: 4, maxEntries: 1 };
      using map = descriptorOf(probeMap({ type: "SOCKMAP", ...shape }));
      return use({ map: { fd: map.fd } });
    }
    case "file":
      return withFile((path) => use({ path }));
    case "struct_ops map":
      throw new Error("programs of struct_ops are attached with their map");
  }
}

const placeName = "place of a probe";

/** Index of the loopback interface in every network namespace. */
const loopback = 1;
/** Index for the created netkit interface. */
const netkit = 100;

/** Calls `body` with the path of a file that no process executes, so that uprobes change no code. */
function withFile(body: (path: string) => void): void {
  using file = createMemoryFile(new Uint8Array(16), "file of a probe");
  body(`/proc/self/fd/${file.fd}`);
}

/**
 * Creates a cgroup without processes, calls `body` with its descriptor, and removes it.
 *
 * @throws {Missing} if the kernel has no cgroups of version 2.
 * @throws {Error} if the cgroup cannot be removed.
 */
function withCgroup(body: (fd: number) => void): void {
  using mount = mountCgroups();
  const folder = `${mount.path}/bun-bpf-${crypto.randomUUID()}`;
  mkdirSync(folder);
  try {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    using cgroup = new Descriptor(openSync(folder, flags), "cgroup of a probe");
    body(cgroup.fd);
  } finally {
    removeCgroup(folder);
  }
}

function removeCgroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (cause) {
    throw new Error("the cgroup of a probe cannot be removed", { cause });
  }
}

/**
 * Mounts the cgroup file system without a mount point; its root is the cgroup of this process (kernel 5.2, CAP_SYS_ADMIN).
 *
 * It is mounted in a new cgroup namespace. In the initial namespace, a mount sets the options of all mounts. It would reset
 * the options that systemd sets, `nsdelegate` and `memory_recursiveprot` (cgroup_get_tree(), kernel/cgroup/cgroup.c).
 *
 * @throws {Missing} if the kernel has no cgroups of version 2.
 */
export function mountCgroups(): DetachedMount {
  const namespace = {
    name: "cgroup namespace",
    file: "cgroup",
    flag: CLONE_NEWCGROUP,
    config: "CONFIG_CGROUPS",
  };
  try {
    return inNewNamespace(namespace, () => new DetachedMount("cgroup2"));
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "ENODEV") throw error;
    throw new Missing(
      "this kernel does not support cgroup version 2, and programs cannot be attached to cgroups of version 1",
    );
  }
}

/**
 * Checks that the kernel calls programs that are attached to security hooks. It attaches them even if it never calls them.
 *
 * @throws {Missing} if the BPF security module is not active.
 */
function requireSecurityModule(): void {
  const modules = activeSecurityModules();
  const obstacle = "names" in modules ? bpfModuleObstacle(modules) : undefined;
  if (obstacle !== undefined) throw new Missing(obstacle);
}

/** The struct of a TCP congestion control algorithm. Connections select one by name, and none selects that of a probe. */
const structName = "tcp_congestion_ops";
/** The struct of the map's value. It contains the struct {@link structName}. */
const valueStructName = `bpf_struct_ops_${structName}`;
/** The functions that the kernel requires in a congestion control algorithm. */
const requiredFunctions = ["ssthresh", "undo_cwnd", "cong_avoid"] as const;
const key = new Uint8Array(4);

/** Makes the smallest congestion control algorithm, and registers it by a link or by a map update. */
function attachStructOps(byLink: boolean): void {
  using programs = new DisposableStack();
  const load = (member: RequiredFunction) =>
    programs.use(loadProbe(`struct_ops/${structName}.${member}`));
  // The name is unique, because another process may run this probe at the same time.
  registerCongestionControl(`bunbpf${process.pid}`, byLink, load)[Symbol.dispose]();
}

/** The functions that the kernel requires in a congestion control algorithm. */
export type RequiredFunction = (typeof requiredFunctions)[number];

/**
 * Registers a TCP congestion control algorithm (kernel 5.6). Disposal of the result unregisters it.
 *
 * @param byLink registers it by a link (kernel 6.4) instead of an update of its map
 * @param load returns the program of a function, which can be closed after this call
 */
export function registerCongestionControl(
  name: string,
  byLink: boolean,
  load: (member: RequiredFunction) => { readonly fd: number },
): Disposable {
  const facts = mapTypes.get("struct_ops");
  if (facts === undefined) throw new Error("there is no row of the map type struct_ops");
  using opened = new DisposableStack();
  const map = opened.use(descriptorOf(probeMapOf({ ...facts, flags: byLink ? BPF_F_LINK : 0 })));
  const btf = Btf.kernel();
  const value = new Uint8Array(btf.sizeOf(kernelTypeId("struct", valueStructName)));
  const view = new DataView(value.buffer);
  const place = (member: string) =>
    btf.field(valueStructName, "data").offset + btf.field(structName, member).offset;
  value.set(Buffer.from(name), place("name"));
  for (const member of requiredFunctions) {
    view.setBigUint64(place(member), BigInt(load(member).fd), true);
  }
  requireSuccess(probeElement(BPF_MAP_UPDATE_ELEM, map.fd, key, value));
  if (byLink) {
    const request = { fd: map.fd, attachType: "struct_ops" } as const;
    opened.use(new Descriptor(createLink(request, { doing: "create a link" }), "link of a probe"));
  } else {
    opened.defer(() => {
      const error = probeElement(BPF_MAP_DELETE_ELEM, map.fd, key, new Uint8Array(0));
      if (error !== undefined)
        throw new Error(`the congestion control ${name} cannot be unregistered: ${error}`);
    });
  }
  return opened.move();
}
