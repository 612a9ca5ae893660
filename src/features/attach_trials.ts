/**
 * @module Runs the trials of ways to attach, which are data: makes the place, attaches the smallest program there, and detaches
 * it. For `tc` the kernel may load its modules, which stay.
 */

import { constants, mkdirSync, openSync, rmdirSync } from "../ffi/files.ts";
import * as asm from "../asm/asm.ts";
import { Btf } from "../btf/btf.ts";
import {
  attachProgram,
  createLink,
  detachLink,
  detachProgram,
  type LinkTarget,
  openRawTracepoint,
  updateLink,
} from "../ffi/bpf_link.ts";
import { probeElement, probeMap } from "../ffi/bpf_probe.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { memoryFile } from "../ffi/memory_file.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { inNewNamespace, inNewNetworkNamespace, openNetworkNamespace } from "../ffi/namespace.ts";
import {
  enablePerfEvent,
  openIdleEvent,
  openTracepointEvent,
  setPerfEventProgram,
} from "../ffi/perf_event.ts";
import { activeSecurityModules, bpfModuleObstacle } from "../ffi/security.ts";
import { openSocket, RouteSocket, setSocketOption } from "../ffi/socket.ts";
import {
  type AttachKindRow,
  tracedFunction,
  type TrialPlace,
  trialTracepoint,
} from "../link/attach_kinds.ts";
import { openProbe, type ProbeSource } from "../link/perf_event.ts";
import { addClassifier, addNetkit, attachXdp } from "../link/route.ts";
import { tracepointId } from "../link/tracepoint.ts";
import { BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM } from "../uapi/commands.ts";
import { BPF_F_LINK } from "../uapi/bpf.ts";
import { CLONE_NEWCGROUP } from "../uapi/system.ts";
import { attempt, descriptorOf, Missing, requireNone } from "./attempt.ts";
import type { ProbeAnswer } from "./feature.ts";
import { mapTypes } from "../maps/map_types.ts";
import { probeMapOf } from "./map_types.ts";
import { kernelTypeId, loadTrial } from "./trial_program.ts";

/** Attaches a program in a way, and detaches it at once. */
export function probeAttachKind(row: AttachKindRow): ProbeAnswer {
  return attempt(() => {
    try {
      if (row.place === "struct") tryStruct(row);
      else tryProgram(row);
    } catch (error) {
      if (row.isExclusive && error instanceof BpfError && error.code === "EEXIST") return;
      throw error;
    }
    if (row.needsSecurityModule) requireSecurityModule();
  });
}

const what = "place of a trial";
const linkWhat = "link of a trial";

/** Lets everything pass, which is the one thing that all programs of cgroups may do. */
const allow = [asm.mov(asm.r0, 1), asm.exit()];

function tryProgram(row: AttachKindRow): void {
  if (row.program === undefined) throw new Error("the trial has no program");
  const trial = row.place === "cgroup" ? { ...row.program, code: allow } : row.program;
  using program = loadTrial(trial);
  atPlace(row.place, (target) => {
    switch (row.by) {
      case "link":
        return makeLink(row, program.fd, target)[Symbol.dispose]();
      case "link, then update": {
        using other = loadTrial(trial);
        using link = makeLink(row, program.fd, target);
        return updateLink(link.fd, other.fd, linkWhat);
      }
      case "link, then detach": {
        using link = makeLink(row, program.fd, target);
        return detachLink(link.fd, linkWhat);
      }
      case "attach":
        return attachAndDetach(row, program.fd, fdOf(target));
      case "raw_tracepoint": {
        const { tracepoint = null, hasCookie } = row;
        const context = { doing: "attach to a tracepoint or a function" };
        const fd = openRawTracepoint(
          program.fd,
          tracepoint,
          context,
          hasCookie ? cookie : undefined,
        );
        return new Descriptor(fd, linkWhat)[Symbol.dispose]();
      }
      case "event":
        setPerfEventProgram(fdOf(target), program.fd, what);
        return enablePerfEvent(fdOf(target), what);
      case "xdp by netlink":
        // The program goes with the interface, and that with the namespace.
        return withRoute((route) => attachXdp(route, loopback, program.fd));
      case "tc by netlink":
        return withRoute((route) => addClassifier(route, loopback, program.fd));
      case "SO_ATTACH_BPF":
        return setSocketOption(fdOf(target), row.by, program.fd, what);
      case "SO_ATTACH_REUSEPORT_EBPF":
        setSocketOption(fdOf(target), "SO_REUSEPORT", 1, what);
        return setSocketOption(fdOf(target), row.by, program.fd, what);
      case "map update":
        throw new Error("only a struct is attached by a map");
    }
  });
}

/** A cookie other than 0, which stands for none. */
const cookie = 1n;

function makeLink(row: AttachKindRow, fd: number, target: LinkTarget): Descriptor {
  const { isReturn = false, hasCookie = false } = row;
  const options: object = {
    ...(isReturn && { isReturn }),
    ...(hasCookie && (isOfMany(target) ? { cookies: [cookie] } : { cookie })),
  };
  const parts = { fd, attachType: attachTypeOf(row), target: { ...target, ...options } };
  return new Descriptor(createLink(parts, { doing: "make a link" }), linkWhat);
}

/** Many functions or places have a cookie each. */
function isOfMany({ kind }: LinkTarget): boolean {
  return kind === "kernel functions" || kind === "file places" || kind === "typed functions";
}

function attachTypeOf({ attachType, program }: AttachKindRow): AttachTypeName {
  const type = attachType ?? program?.attachType;
  if (type === undefined) throw new Error("the trial has no type of attachment");
  return type;
}

/** @throws {Error} when the program cannot be detached */
function attachAndDetach(row: AttachKindRow, programFd: number, targetFd: number): void {
  const attachment = { programFd, attachType: attachTypeOf(row), targetFd };
  attachProgram(attachment, { doing: "attach a program" });
  try {
    detachProgram(attachment, { doing: "detach a program" });
  } catch (cause) {
    throw new Error("the program of a trial cannot be detached", { cause });
  }
}

function fdOf(target: LinkTarget): number {
  if ("fd" in target) return target.fd;
  throw new Error(`a place of kind "${target.kind}" has no descriptor`);
}

/** The first interface of every network namespace. */
const loopback = 1;
/** The number for an interface to be made. */
const netkit = 100;

/** A function that every kernel since 4.17 has, and that is called by sync(2) alone. */
const rareFunction = "ksys_sync";

/** Makes a place, calls back with it, and removes it. */
function atPlace(place: TrialPlace, use: (target: LinkTarget) => void): void {
  switch (place) {
    case "cgroup":
      return withCgroup((fd) => use({ kind: "descriptor", fd }));
    case "netns":
      return inNewNetworkNamespace(() => useDescriptor(openNetworkNamespace(), use));
    case "own netns":
      return inNewNetworkNamespace(() => use({ kind: "descriptor", fd: 0 }));
    case "loopback":
      return inNewNetworkNamespace(() => use({ kind: "interface", index: loopback }));
    case "netkit":
      return inNewNetworkNamespace(() => {
        withRoute((route) => addNetkit(route, netkit));
        use({ kind: "interface", index: netkit });
      });
    case "netfilter hook":
      return inNewNetworkNamespace(() =>
        use({ kind: "netfilter", family: "IPV4", hook: "LOCAL_IN", priority: 0 }),
      );
    case "kernel functions":
      return use({ kind: place, names: [rareFunction] });
    case "typed functions":
      return use({ kind: place, ids: [kernelTypeId(tracedFunction.kind, tracedFunction.name)] });
    case "file":
      return withFile((path) => use({ kind: "file places", path, offsets: [0] }));
    case "idle event":
      return useEvent(new Descriptor(openIdleEvent(what), what), use);
    case "tracepoint event": {
      const id = tracepointId(`${trialTracepoint.category}/${trialTracepoint.name}`);
      return useEvent(new Descriptor(openTracepointEvent(id, what), what), use);
    }
    case "kprobe":
    case "kretprobe":
      return useEvent(openTrialProbe("kprobe", place === "kretprobe", rareFunction), use);
    case "uprobe":
    case "uretprobe":
      return withFile((path) =>
        useEvent(openTrialProbe("uprobe", place === "uretprobe", path), use),
      );
    case "loaded for":
      return use({ kind: place });
    case "socket":
      return useDescriptor(openSocket("datagram", 0, what), use);
    case "socket map": {
      const shape = { keySize: 4, valueSize: 4, maxEntries: 1 };
      return useDescriptor(descriptorOf(probeMap({ type: "SOCKMAP", ...shape })), use);
    }
    case "struct":
      throw new Error("a struct is a map with programs of its own");
  }
}

function useDescriptor(place: Descriptor, use: (target: LinkTarget) => void): void {
  using opened = place;
  use({ kind: "descriptor", fd: opened.fd });
}

function useEvent(event: Descriptor, use: (target: LinkTarget) => void): void {
  using opened = event;
  use({ kind: "perf event", fd: opened.fd });
}

function openTrialProbe(source: ProbeSource, isReturn: boolean, target: string): Descriptor {
  return openProbe({ source, isReturn, target, offset: 0 }, `${source} of a trial`);
}

function withRoute(body: (route: RouteSocket) => void): void {
  using route = new RouteSocket();
  body(route);
}

/** Calls back with the path of a file that nobody runs, so that not an instruction of any process is changed. */
function withFile(body: (path: string) => void): void {
  using file = memoryFile(new Uint8Array(16), "file of a trial");
  body(`/proc/self/fd/${file.fd}`);
}

/**
 * Calls back with a cgroup that is made for it, and removed afterwards: no process is in it, and nobody else knows of it.
 *
 * @throws {Missing} in a kernel without cgroups of version 2
 * @throws {Error} when the cgroup cannot be removed
 */
function withCgroup(body: (fd: number) => void): void {
  using mount = mountCgroups();
  const folder = `${mount.path}/bun-bpf-${crypto.randomUUID()}`;
  mkdirSync(folder);
  try {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    using cgroup = new Descriptor(openSync(folder, flags), "cgroup of a trial");
    body(cgroup.fd);
  } finally {
    removeCgroup(folder);
  }
}

function removeCgroup(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (cause) {
    throw new Error("the cgroup that was made for a trial cannot be removed", { cause });
  }
}

/**
 * Mounts the cgroups below this process's own, for this process alone (kernel 5.2, CAP_SYS_ADMIN).
 *
 * In the initial cgroup namespace each mount sets the options of all of them, and so takes away what systemd has set: `nsdelegate`
 * and `memory_recursiveprot`. In another one mounts have no say in that (cgroup_get_tree(), kernel/cgroup/cgroup.c).
 *
 * @throws {Missing} in a kernel without cgroups of version 2
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
      "this kernel has no cgroups of version 2, the only ones that programs are attached to",
    );
  }
}

/** The kernel attaches programs to security hooks also where it calls none of them. @throws {Missing} where it does not */
function requireSecurityModule(): void {
  const modules = activeSecurityModules();
  const obstacle = "names" in modules ? bpfModuleObstacle(modules) : undefined;
  if (obstacle !== undefined) throw new Missing(obstacle);
}

/** An algorithm of TCP against congestion: connections ask for theirs by name, and for this one no one does. */
const struct = "tcp_congestion_ops";
/** The kernel's value of maps that are such a struct. */
const valueStruct = `bpf_struct_ops_${struct}`;
/** The functions without which the kernel does not take it. */
const functions = ["ssthresh", "undo_cwnd", "cong_avoid"] as const;
const key = new Uint8Array(4);

/** Makes the smallest struct of functions, and registers it with the map's one value, or with a link. */
function tryStruct({ by }: AttachKindRow): void {
  const facts = mapTypes.get("struct_ops");
  if (facts === undefined) throw new Error("there is no kind of map for structs of functions");
  using map = descriptorOf(probeMapOf({ ...facts, flags: by === "link" ? BPF_F_LINK : 0 }));
  const btf = Btf.kernel();
  const value = new Uint8Array(btf.sizeOf(kernelTypeId("struct", valueStruct)));
  const view = new DataView(value.buffer);
  const place = (member: string) =>
    btf.field(valueStruct, "data").offset + btf.field(struct, member).offset;
  // Another process may try this at the same time.
  value.set(Buffer.from(`bunbpf${process.pid}`), place("name"));
  using programs = new DisposableStack();
  for (const member of functions) {
    const target = { kind: "struct", name: struct, member } as const;
    const program = programs.use(loadTrial({ type: "struct_ops", target }));
    view.setBigUint64(place(member), BigInt(program.fd), true);
  }
  requireNone(probeElement(BPF_MAP_UPDATE_ELEM, map.fd, key, value));
  if (by === "link") {
    const parts = { fd: map.fd, attachType: "struct_ops" } as const;
    return new Descriptor(createLink(parts, { doing: "make a link" }), linkWhat)[Symbol.dispose]();
  }
  const error = probeElement(BPF_MAP_DELETE_ELEM, map.fd, key, new Uint8Array(0));
  if (error !== undefined) throw new Error(`the struct of a trial cannot be taken back: ${error}`);
}
