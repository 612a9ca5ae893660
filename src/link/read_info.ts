import { interfaceName } from "../ffi/interface.ts";
import { type InfoBuffer, type ObjectInfo, objectInfo } from "../ffi/object_info.ts";
import { keywordOf, keywordsByNumber } from "../types/keyword.ts";
import { bpfAttachTypes, bpfCgroupIterOrders, bpfLinkTypes } from "../uapi/enumerations.ts";
import { LINK_INFO } from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/netfilter.ts";
import { attachTypeName } from "./attach_type.ts";
import type { CommonLinkInfo, LinkInfo, LinkTypeName, TracingLinkInfo } from "./info.ts";
import { present32, present64, presentList, presentText, textBuffer } from "./info_fields.ts";
import { perfEventBuffers, readPerfEventTarget } from "./perf_event_target.ts";

/** How the description of a kind of link is read. */
interface Reader<Type extends LinkTypeName> {
  /** Room for what is of no fixed length; the rest is known by now. */
  readonly buffers?: (info: ObjectInfo) => readonly InfoBuffer[];
  /** What there is beside what every link has. */
  readonly read: (
    info: ObjectInfo,
  ) => Omit<Extract<LinkInfo, { type: Type }>, keyof CommonLinkInfo | "type">;
}

const orders = keywordsByNumber(bpfCgroupIterOrders);
const families = keywordsByNumber(netfilterFamilies);
const hooks = keywordsByNumber(netfilterHooks);
const linkTypes = keywordsByNumber(bpfLinkTypes) as ReadonlyMap<number, LinkTypeName>;

const readers: { readonly [Type in LinkTypeName]?: Reader<Type> } = {
  "raw-tracepoint": {
    buffers: () => [
      textBuffer(LINK_INFO.raw_tracepoint_tp_name, LINK_INFO.raw_tracepoint_tp_name_len),
    ],
    read: (info) => ({
      name: info.text(LINK_INFO.raw_tracepoint_tp_name),
      cookie: present64(info, LINK_INFO.raw_tracepoint_cookie),
    }),
  },
  tracing: {
    read: (info) => ({
      attachType: tracingType(info.u32(LINK_INFO.tracing_attach_type)),
      targetId: present32(info, LINK_INFO.tracing_target_obj_id),
      targetTypeId: present32(info, LINK_INFO.tracing_target_btf_id),
      cookie: present64(info, LINK_INFO.tracing_cookie),
    }),
  },
  cgroup: {
    read: (info) => ({
      cgroupId: present64(info, LINK_INFO.cgroup_cgroup_id),
      attachType: attachTypeName(info.u32(LINK_INFO.cgroup_attach_type)),
    }),
  },
  iter: {
    buffers: () => [textBuffer(LINK_INFO.iter_target_name, LINK_INFO.iter_target_name_len)],
    read: readIterator,
  },
  netns: {
    read: (info) => ({
      netnsInode: present32(info, LINK_INFO.netns_netns_ino),
      attachType: attachTypeName(info.u32(LINK_INFO.netns_attach_type)),
    }),
  },
  xdp: { read: (info) => interfaceAt(info, LINK_INFO.xdp_ifindex) },
  tcx: {
    read: (info) => ({
      ...interfaceAt(info, LINK_INFO.tcx_ifindex),
      attachType: attachTypeName(info.u32(LINK_INFO.tcx_attach_type)),
    }),
  },
  netkit: {
    read: (info) => ({
      ...interfaceAt(info, LINK_INFO.netkit_ifindex),
      attachType: attachTypeName(info.u32(LINK_INFO.netkit_attach_type)),
    }),
  },
  "perf-event": {
    buffers: perfEventBuffers,
    read: (info) => ({ event: readPerfEventTarget(info) }),
  },
  "kprobe-multi": {
    buffers: (info) => {
      const elements = info.u32(LINK_INFO.kprobe_multi_count);
      const shared = { count: LINK_INFO.kprobe_multi_count, elements, elementSize: 8 } as const;
      return [
        { pointer: LINK_INFO.kprobe_multi_addrs, ...shared },
        { pointer: LINK_INFO.kprobe_multi_cookies, ...shared },
      ];
    },
    read: readKprobes,
  },
  "uprobe-multi": {
    buffers: (info) => {
      const elements = info.u32(LINK_INFO.uprobe_multi_count);
      const shared = { count: LINK_INFO.uprobe_multi_count, elements, elementSize: 8 } as const;
      return elements === 0
        ? []
        : [
            textBuffer(LINK_INFO.uprobe_multi_path, LINK_INFO.uprobe_multi_path_size),
            { pointer: LINK_INFO.uprobe_multi_offsets, ...shared },
            { pointer: LINK_INFO.uprobe_multi_ref_ctr_offsets, ...shared },
            { pointer: LINK_INFO.uprobe_multi_cookies, ...shared },
          ];
    },
    read: readUprobes,
  },
  "struct-ops": { read: (info) => ({ mapId: present32(info, LINK_INFO.struct_ops_map_id) }) },
  netfilter: {
    read: (info) => ({
      family: keywordOf(families, info.u32(LINK_INFO.netfilter_pf)),
      hook: keywordOf(hooks, info.u32(LINK_INFO.netfilter_hooknum)),
      priority: info.i32(LINK_INFO.netfilter_priority),
      flags: info.u32(LINK_INFO.netfilter_flags),
    }),
  },
  sockmap: {
    read: (info) => ({
      mapId: present32(info, LINK_INFO.sockmap_map_id),
      attachType: attachTypeName(info.u32(LINK_INFO.sockmap_attach_type)),
    }),
  },
};

/** Asks the kernel about a link (kernel 5.8). */
export function readLinkInfo(fd: number, what: string): LinkInfo {
  // First without room for names and lists: which there are depends on the kind.
  using first = objectInfo(fd, LINK_INFO.sizeof, what);
  const type = keywordOf(linkTypes, first.u32(LINK_INFO.type));
  const reader = readers[type] as Reader<LinkTypeName> | undefined;
  const buffers = reader?.buffers?.(first) ?? [];
  using second = buffers.length === 0 ? undefined : objectInfo(fd, LINK_INFO.sizeof, what, buffers);
  const info = second ?? first;
  const common = { id: info.u32(LINK_INFO.id), type, programId: info.u32(LINK_INFO.prog_id) };
  // The table says which reader is for which type, but not in a way that the compiler follows.
  return { ...common, ...reader?.read(info) } as LinkInfo;
}

/** No tracing program is for type 0: it is what the kernel gives programs that replace functions of others. */
function tracingType(number: number): TracingLinkInfo["attachType"] {
  return number === bpfAttachTypes.CGROUP_INET_INGRESS ? "ext" : attachTypeName(number);
}

function interfaceAt(info: ObjectInfo, offset: number) {
  const ifindex = present32(info, offset);
  return { ifindex, interfaceName: ifindex === undefined ? undefined : interfaceName(ifindex) };
}

function readIterator(info: ObjectInfo): ReturnType<Reader<"iter">["read"]> {
  const target = presentText(info.text(LINK_INFO.iter_target_name));
  // The same bytes mean other things for other targets.
  const isOfMap = target === "bpf_map_elem" || target === "bpf_sk_storage_map";
  const isOfCgroup = target === "cgroup";
  const isOfTask = target?.startsWith("task") === true;
  return {
    target,
    mapId: isOfMap ? present32(info, LINK_INFO.iter_map_map_id) : undefined,
    cgroupId: isOfCgroup ? present64(info, LINK_INFO.iter_cgroup_cgroup_id) : undefined,
    cgroupOrder: isOfCgroup ? orders.get(info.u32(LINK_INFO.iter_cgroup_order)) : undefined,
    tid: isOfTask ? present32(info, LINK_INFO.iter_task_tid) : undefined,
    pid: isOfTask ? present32(info, LINK_INFO.iter_task_pid) : undefined,
  };
}

function readKprobes(info: ObjectInfo): ReturnType<Reader<"kprobe-multi">["read"]> {
  const count = present32(info, LINK_INFO.kprobe_multi_count);
  if (count === undefined) {
    const unknown = undefined;
    return { count, flags: unknown, addresses: unknown, cookies: unknown, missed: unknown };
  }
  return {
    count,
    flags: info.u32(LINK_INFO.kprobe_multi_flags),
    addresses: presentList(info.u64s(LINK_INFO.kprobe_multi_addrs)),
    cookies: presentList(info.u64s(LINK_INFO.kprobe_multi_cookies)),
    missed: info.u64n(LINK_INFO.kprobe_multi_missed),
  };
}

function readUprobes(info: ObjectInfo): ReturnType<Reader<"uprobe-multi">["read"]> {
  const count = present32(info, LINK_INFO.uprobe_multi_count);
  const isTold = count !== undefined;
  return {
    count,
    path: isTold ? presentText(info.text(LINK_INFO.uprobe_multi_path)) : undefined,
    flags: isTold ? info.u32(LINK_INFO.uprobe_multi_flags) : undefined,
    pid: isTold ? present32(info, LINK_INFO.uprobe_multi_pid) : undefined,
    offsets: isTold ? info.u64s(LINK_INFO.uprobe_multi_offsets) : undefined,
    referenceOffsets: isTold
      ? presentList(info.u64s(LINK_INFO.uprobe_multi_ref_ctr_offsets))
      : undefined,
    cookies: isTold ? presentList(info.u64s(LINK_INFO.uprobe_multi_cookies)) : undefined,
  };
}
