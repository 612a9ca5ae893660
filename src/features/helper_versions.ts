/**
 * @module Since which version of the kernel programs of each type can call each helper.
 *
 * Read off the functions that give verifiers their helpers (`*_func_proto()`, in net/core/filter.c, kernel/trace/bpf_trace.c and
 * others) in the sources of Linux 3.19 to 7.2, all versions but 6.15 and 6.16: what is new in 6.17 was announced for 6.16 or 6.15.
 * Of helpers that depend on how a program is attached, those are here that the attach types of {@link programTypes} have; helpers for
 * programs that sleep are here for `syscall` alone, which always do.
 */

import type { KernelVersion } from "../ffi/kernel.ts";
import type { HelperName } from "../asm/call.ts";
import type { bpfProgTypes } from "../uapi/enumerations.ts";

/** `"5.13"`; `"5.11-5.16"` for one that 5.16 has no more; `"never"` for one that others have. */
type Versions = KernelVersion | `${KernelVersion}-${KernelVersion}` | "never";

/** Helpers that most types of programs have, since a version: or since the type itself, where that is younger. */
export const commonHelpers: Readonly<Partial<Record<HelperName, KernelVersion>>> = {
  map_lookup_elem: "3.19",
  map_update_elem: "3.19",
  map_delete_elem: "3.19",
  ktime_get_ns: "4.2",
  trace_printk: "4.2",
  get_prandom_u32: "4.1",
  get_smp_processor_id: "4.1",
  tail_call: "4.2",
  perf_event_read: "6.16",
  get_current_task: "5.8",
  get_numa_node_id: "4.10",
  perf_event_read_value: "6.16",
  map_push_elem: "4.20",
  map_pop_elem: "4.20",
  map_peek_elem: "4.20",
  spin_lock: "5.1",
  spin_unlock: "5.1",
  strtol: "6.1",
  strtoul: "6.1",
  send_signal: "6.16",
  probe_read_user: "5.8",
  probe_read_kernel: "5.8",
  probe_read_user_str: "5.8",
  probe_read_kernel_str: "5.8",
  send_signal_thread: "6.16",
  jiffies64: "5.6",
  get_ns_current_pid_tgid: "6.10",
  ktime_get_boot_ns: "5.8",
  ringbuf_output: "5.8",
  ringbuf_reserve: "5.8",
  ringbuf_submit: "5.8",
  ringbuf_discard: "5.8",
  ringbuf_query: "5.8",
  get_task_stack: "6.16",
  snprintf_btf: "5.10",
  per_cpu_ptr: "5.10",
  this_cpu_ptr: "5.10",
  task_storage_get: "6.16",
  task_storage_delete: "6.16",
  get_current_task_btf: "5.15",
  ktime_get_coarse_ns: "5.11",
  for_each_map_elem: "5.13",
  snprintf: "5.13",
  timer_init: "5.15",
  timer_set_callback: "5.15",
  timer_start: "5.15",
  timer_cancel: "5.15",
  task_pt_regs: "5.15",
  get_branch_snapshot: "6.16",
  trace_vprintk: "5.16",
  find_vma: "6.16",
  loop: "5.17",
  strncmp: "5.17",
  kptr_xchg: "5.19",
  map_lookup_percpu_elem: "5.19",
  dynptr_from_mem: "5.19",
  ringbuf_reserve_dynptr: "5.19",
  ringbuf_submit_dynptr: "5.19",
  ringbuf_discard_dynptr: "5.19",
  dynptr_read: "5.19",
  dynptr_write: "5.19",
  dynptr_data: "5.19",
  ktime_get_tai_ns: "6.1",
  user_ringbuf_drain: "6.1",
  cgrp_storage_get: "6.2",
  cgrp_storage_delete: "6.2",
  get_current_cgroup_id: "6.4",
  get_current_ancestor_cgroup_id: "6.4",
  get_current_pid_tgid: "6.10",
  get_current_uid_gid: "6.16",
  get_current_comm: "6.16",
  get_cgroup_classid: "6.16",
  current_task_under_cgroup: "6.16",
};

/** Helpers by the version that they came with. */
type VersionTable = Readonly<Partial<Record<Versions, string>>>;

/** Of programs that trace (`bpf_tracing_func_proto()`). */
const tracing: VersionTable = {
  "4.1": "probe_read",
  "4.2": "get_current_pid_tgid get_current_uid_gid get_current_comm",
  "4.3": "perf_event_read",
  "4.4": "perf_event_output",
  "4.6": "get_stackid",
  "4.8": "get_current_task probe_write_user",
  "4.9": "get_prandom_u32 current_task_under_cgroup",
  "4.11": "probe_read_str",
  "4.18": "get_stack get_current_cgroup_id",
  "5.2": "map_push_elem map_pop_elem map_peek_elem",
  "5.3": "send_signal",
  "5.5": "probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str",
  "5.6": "send_signal_thread",
  "5.7": "perf_event_read_value get_ns_current_pid_tgid",
  "5.9": "jiffies64 get_task_stack",
  "5.11": "get_current_task_btf",
  "5.11-5.16": "ktime_get_coarse_ns",
  "5.13": "task_storage_get task_storage_delete",
  "5.14": "get_current_ancestor_cgroup_id",
  "5.15": "spin_lock spin_unlock",
  "5.16": "get_branch_snapshot",
  "5.17": "find_vma",
};

/** Of programs that get sockets to see (`bpf_sk_base_func_proto()`). */
const sockets: VersionTable = {
  "5.10":
    "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock",
  "5.16": "skc_to_unix_sock",
  "5.19": "skc_to_mptcp_sock",
};

/** Of programs that answer for the kernel when a connection is asked for. */
const synCookies: VersionTable = {
  "5.2": "skc_lookup_tcp tcp_check_syncookie",
  "5.4": "tcp_gen_syncookie",
  "6.0":
    "tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6",
};

/** Of programs that decide what the processes of a cgroup may do (`cgroup_base_func_proto()`). */
const cgroup: VersionTable = {
  "4.15": "get_current_uid_gid",
  "4.19": "get_local_storage",
  "4.20": "get_current_cgroup_id",
  "5.2": "map_push_elem map_pop_elem map_peek_elem",
  "5.8":
    "ktime_get_ns get_prandom_u32 get_smp_processor_id tail_call perf_event_output get_numa_node_id spin_lock spin_unlock jiffies64",
  "5.18": "get_retval set_retval",
  "6.1": "get_current_pid_tgid get_current_comm get_cgroup_classid get_current_ancestor_cgroup_id",
  "6.12": "current_task_under_cgroup",
};

/** Of programs that decide what the sockets of a cgroup may do. */
const cgroupSocket: VersionTable = {
  "4.14": "get_current_uid_gid",
  "4.19": "get_local_storage",
  "5.7":
    "get_current_pid_tgid get_current_comm get_cgroup_classid perf_event_output get_current_cgroup_id get_netns_cookie get_current_ancestor_cgroup_id",
  "6.1": "get_retval set_retval",
  "6.12": "current_task_under_cgroup",
};

/** Of programs of light-weight tunnels (`lwt_out_func_proto()`). */
const lightweightTunnel: VersionTable = {
  "4.10":
    "get_cgroup_classid get_route_realm perf_event_output skb_load_bytes csum_diff skb_under_cgroup get_hash_recalc skb_pull_data",
};

/** Of classifiers and of actions (`tc_cls_act_func_proto()`). */
const trafficControl: VersionTable = {
  "4.1": "skb_store_bytes l3_csum_replace l4_csum_replace",
  "4.2": "clone_redirect",
  "4.3": "get_cgroup_classid skb_vlan_push skb_vlan_pop skb_get_tunnel_key skb_set_tunnel_key",
  "4.4": "redirect get_route_realm",
  "4.5": "skb_load_bytes",
  "4.6": "csum_diff skb_get_tunnel_opt skb_set_tunnel_opt",
  "4.7": "perf_event_output",
  "4.8": "skb_change_proto skb_change_type skb_under_cgroup get_hash_recalc",
  "4.9": "skb_change_tail skb_pull_data csum_update set_hash_invalid",
  "4.12": "get_socket_cookie get_socket_uid",
  "4.13": "set_hash skb_adjust_room",
  "4.18": "skb_get_xfrm_state skb_load_bytes_relative fib_lookup skb_cgroup_id",
  "4.19": "skb_ancestor_cgroup_id",
  "4.20": "sk_lookup_tcp sk_lookup_udp sk_release",
  "5.1": "sk_fullsock tcp_sock get_listener_sock",
  "5.2": "skb_ecn_set_ce sk_storage_get sk_storage_delete",
  "5.7": "sk_assign",
  "5.8": "skb_change_head csum_level",
  "5.10": "skb_cgroup_classid redirect_neigh redirect_peer",
  "5.12": "check_mtu",
  "5.18": "skb_set_tstamp",
  "6.13": "get_netns_cookie",
};

/**
 * Helpers of each type besides, and those of the common ones that came to it at another time. Of tables that name the same helper the
 * last one counts, and none counts before the type itself.
 */
export const particularHelpers: Readonly<
  Partial<Record<keyof typeof bpfProgTypes, readonly VersionTable[]>>
> = {
  SOCKET_FILTER: [
    sockets,
    {
      "4.11": "skb_load_bytes",
      "4.12": "get_socket_cookie get_socket_uid",
      "4.18": "skb_load_bytes_relative",
      "5.4": "perf_event_output",
      "6.15": "get_netns_cookie",
    },
  ],
  KPROBE: [
    tracing,
    {
      "4.1": "ktime_get_ns trace_printk",
      "4.2": "get_smp_processor_id",
      "4.15": "perf_event_read_value",
      "4.16": "override_return",
      "5.15": "get_func_ip get_attach_cookie",
    },
  ],
  SCHED_CLS: [sockets, synCookies, trafficControl],
  SCHED_ACT: [sockets, synCookies, trafficControl],
  TRACEPOINT: [tracing, { "4.15-4.16": "perf_prog_read_value", "5.15": "get_attach_cookie" }],
  XDP: [
    sockets,
    synCookies,
    {
      "4.9": "perf_event_output",
      "4.10": "xdp_adjust_head",
      "4.14": "redirect redirect_map",
      "4.15": "xdp_adjust_meta",
      "4.16": "csum_diff",
      "4.18": "xdp_adjust_tail fib_lookup",
      "5.0": "sk_lookup_tcp sk_lookup_udp sk_release",
      "5.12": "check_mtu",
      "5.18": "xdp_get_buff_len xdp_load_bytes xdp_store_bytes",
    },
  ],
  PERF_EVENT: [
    tracing,
    { "4.15": "perf_prog_read_value", "5.7": "read_branch_records", "5.15": "get_attach_cookie" },
  ],
  CGROUP_SKB: [
    sockets,
    {
      "4.10": "skb_load_bytes",
      "4.12": "get_socket_cookie get_socket_uid",
      "4.18": "skb_load_bytes_relative",
      "4.19": "get_local_storage",
      "5.1": "sk_fullsock tcp_sock skb_ecn_set_ce get_listener_sock",
      "5.2": "sk_storage_get sk_storage_delete",
      "5.3": "skb_cgroup_id",
      "5.4": "perf_event_output",
      "5.8":
        "skb_ancestor_cgroup_id sk_lookup_tcp sk_lookup_udp sk_release skc_lookup_tcp sk_cgroup_id sk_ancestor_cgroup_id",
      "6.15": "get_netns_cookie",
    },
  ],
  CGROUP_SOCK: [
    cgroupSocket,
    { "5.7": "get_socket_cookie", "5.9": "sk_storage_get", "6.19": "setsockopt getsockopt" },
  ],
  LWT_IN: [sockets, lightweightTunnel, { "4.18": "lwt_push_encap" }],
  LWT_OUT: [sockets, lightweightTunnel],
  LWT_XMIT: [
    sockets,
    lightweightTunnel,
    {
      "4.10":
        "skb_store_bytes l3_csum_replace l4_csum_replace clone_redirect skb_get_tunnel_key skb_set_tunnel_key redirect skb_get_tunnel_opt skb_set_tunnel_opt skb_change_tail csum_update set_hash_invalid skb_change_head",
      "5.1": "lwt_push_encap",
      "5.8": "csum_level",
    },
  ],
  SOCK_OPS: [
    sockets,
    {
      "4.13": "setsockopt",
      "4.14": "sock_map_update",
      "4.15": "getsockopt",
      "4.16": "sock_ops_cb_flags_set",
      "4.18": "sock_hash_update",
      "4.19": "get_socket_cookie get_local_storage",
      "5.0": "perf_event_output",
      "5.3": "tcp_sock sk_storage_get sk_storage_delete",
      "5.10": "load_hdr_opt store_hdr_opt reserve_hdr_opt",
      "5.15": "get_netns_cookie",
    },
  ],
  SK_SKB: [
    sockets,
    {
      "4.14":
        "skb_store_bytes skb_load_bytes skb_change_tail skb_pull_data skb_change_head get_socket_cookie get_socket_uid sk_redirect_map",
      "4.18": "sk_redirect_hash",
      "4.19-4.20": "get_local_storage",
      "4.20": "sk_lookup_tcp sk_lookup_udp sk_release",
      "5.2": "skc_lookup_tcp",
      "5.4": "perf_event_output",
      "5.10": "skb_adjust_room",
    },
  ],
  CGROUP_DEVICE: [cgroup, { "5.11-5.16": "ktime_get_coarse_ns" }],
  SK_MSG: [
    sockets,
    {
      "4.17": "msg_redirect_map msg_apply_bytes msg_cork_bytes msg_pull_data",
      "4.18": "msg_redirect_hash",
      "4.19-4.20": "get_local_storage",
      "4.20": "msg_push_data",
      "5.0": "msg_pop_data",
      "5.8":
        "get_current_pid_tgid get_current_uid_gid get_cgroup_classid perf_event_output get_current_cgroup_id sk_storage_get sk_storage_delete get_current_ancestor_cgroup_id",
      "5.15": "get_netns_cookie",
    },
  ],
  RAW_TRACEPOINT: [tracing, { "6.10": "get_attach_cookie" }],
  CGROUP_SOCK_ADDR: [
    sockets,
    cgroupSocket,
    {
      "4.17": "bind",
      "4.19": "get_socket_cookie",
      "5.0": "sk_lookup_tcp sk_lookup_udp sk_release",
      "5.2": "skc_lookup_tcp",
      "5.3": "sk_storage_get sk_storage_delete",
      "5.8": "setsockopt getsockopt",
    },
  ],
  LWT_SEG6LOCAL: [
    sockets,
    lightweightTunnel,
    {
      "4.18": "lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action",
      "4.18-7.2": "skb_pull_data",
    },
  ],
  LIRC_MODE2: [
    {
      "4.18": "rc_repeat rc_keydown",
      "5.0": "rc_pointer_rel",
      "5.2": "map_push_elem map_pop_elem map_peek_elem",
      never:
        "get_smp_processor_id perf_event_read get_current_task get_numa_node_id perf_event_read_value spin_lock spin_unlock strtol strtoul send_signal probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str send_signal_thread jiffies64 get_ns_current_pid_tgid ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query get_task_stack snprintf_btf per_cpu_ptr this_cpu_ptr task_storage_get task_storage_delete get_current_task_btf ktime_get_coarse_ns for_each_map_elem snprintf timer_init timer_set_callback timer_start timer_cancel task_pt_regs get_branch_snapshot trace_vprintk find_vma loop strncmp kptr_xchg map_lookup_percpu_elem dynptr_from_mem ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_read dynptr_write dynptr_data ktime_get_tai_ns user_ringbuf_drain cgrp_storage_get cgrp_storage_delete get_current_pid_tgid get_current_uid_gid get_current_comm get_cgroup_classid current_task_under_cgroup get_current_cgroup_id get_current_ancestor_cgroup_id",
    },
  ],
  SK_REUSEPORT: [
    {
      "4.19": "skb_load_bytes skb_load_bytes_relative sk_select_reuseport",
      "5.14": "get_socket_cookie",
    },
  ],
  FLOW_DISSECTOR: [sockets, { "4.20": "skb_load_bytes" }],
  CGROUP_SYSCTL: [
    cgroup,
    {
      "5.2":
        "sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value strtol strtoul",
    },
  ],
  RAW_TRACEPOINT_WRITABLE: [tracing, { "6.10": "get_attach_cookie" }],
  CGROUP_SOCKOPT: [
    cgroup,
    {
      "5.3": "tcp_sock sk_storage_get sk_storage_delete",
      "5.11-5.16": "ktime_get_coarse_ns",
      "5.15": "setsockopt getsockopt get_netns_cookie",
    },
  ],
  TRACING: [
    tracing,
    sockets,
    {
      "5.5": "skb_output",
      "5.7": "xdp_output",
      "5.9":
        "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock",
      "5.11": "sk_storage_get sk_storage_delete sock_from_file",
      "5.12": "get_socket_cookie",
      "5.18": "xdp_get_buff_len",
      "6.10": "get_attach_cookie",
      "7.0": "get_func_arg get_func_arg_cnt",
    },
  ],
  STRUCT_OPS: [
    {
      "5.6": "tcp_send_ack",
      "5.7": "sk_storage_get sk_storage_delete",
      "5.15": "setsockopt getsockopt",
    },
  ],
  LSM: [
    tracing,
    sockets,
    {
      "5.8": "perf_event_output get_stackid get_stack skb_output xdp_output",
      "5.9":
        "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock",
      "5.10": "sk_storage_get sk_storage_delete inode_storage_get inode_storage_delete",
      "5.11":
        "spin_lock spin_unlock d_path task_storage_get task_storage_delete bprm_opts_set sock_from_file",
      "5.12": "get_socket_cookie",
      "5.18": "xdp_get_buff_len",
      "5.19": "get_attach_cookie get_func_arg get_func_ret get_func_arg_cnt",
    },
  ],
  SK_LOOKUP: [sockets, { "5.9": "perf_event_output sk_release sk_assign" }],
  SYSCALL: [
    tracing,
    sockets,
    {
      "5.14":
        "get_socket_cookie skb_output xdp_output copy_from_user sock_from_file sys_bpf btf_find_by_name_kind sys_close",
      "5.16": "kallsyms_lookup_name",
      "5.18": "xdp_get_buff_len copy_from_user_task",
    },
  ],
  NETFILTER: [{ never: "ktime_get_coarse_ns" }],
};
