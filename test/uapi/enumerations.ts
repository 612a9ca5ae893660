/** @module The constants in src/uapi/constants.ts, which scripts use as `uapi`. */

import type { Constants } from "./sources.ts";

/** Constants that belong together. */
export interface Enumeration {
  /** The summary of its documentation, without the full stop. */
  readonly about: string;
  readonly from: readonly Constants[];
  /**
   * True for constants that can be combined, such as flags: they get no object and no type.
   *
   * @default false
   */
  readonly areSeparate?: boolean;
}

const bpf = "linux/bpf.h";
const socket = "asm-generic/socket.h";
const kernelSocket = "kernel:linux/socket.h";
const perf = "linux/perf_event.h";

const ofEnum = (header: string, type: string): readonly Constants[] => [{ header, enum: type }];
const named = (header: string, names: RegExp): readonly Constants[] => [{ header, names }];

/** The enumerations, by name: that of the kernel's enum where it has one. */
export const enumerations: Readonly<Record<string, Enumeration>> = {
  // Results of programs.
  xdp_action: { about: "Results of XDP programs", from: ofEnum(bpf, "xdp_action") },
  tc_action: {
    about: "Results of programs of traffic control (`tc`, `action`), also of tcx",
    from: named(
      "linux/pkt_cls.h",
      /^TC_ACT_(UNSPEC|OK|RECLASSIFY|SHOT|PIPE|STOLEN|QUEUED|REPEAT|REDIRECT|TRAP)$/,
    ),
  },
  tcx_action_base: { about: "Results of tcx programs", from: ofEnum(bpf, "tcx_action_base") },
  netkit_action: {
    about: "Results of netkit programs",
    from: ofEnum("linux/if_link.h", "netkit_action"),
  },
  sk_action: {
    about:
      "Results of programs that choose or filter by socket: sk_skb, sk_msg, sk_lookup, sk_reuseport",
    from: ofEnum(bpf, "sk_action"),
  },
  nf_verdict: {
    about: "Results of netfilter programs, which may return `NF_DROP` and `NF_ACCEPT`",
    from: named("linux/netfilter.h", /^NF_(DROP|ACCEPT|STOLEN|QUEUE|REPEAT|STOP)$/),
  },
  bpf_ret_code: {
    about: "Results of programs on lightweight tunnels (`lwt_*`) and of flow dissectors",
    from: ofEnum(bpf, "bpf_ret_code"),
  },

  // Arguments and results of helper functions; the flags are in bpf.ts.
  bpf_adj_room_mode: {
    about: "Modes of the helper `skb_adjust_room`",
    from: ofEnum(bpf, "bpf_adj_room_mode"),
  },
  bpf_hdr_start_off: {
    about: "Headers that the helper `skb_load_bytes_relative` can count from",
    from: ofEnum(bpf, "bpf_hdr_start_off"),
  },
  bpf_lwt_encap_mode: {
    about: "Types of the helper `lwt_push_encap`",
    from: ofEnum(bpf, "bpf_lwt_encap_mode"),
  },
  bpf_csum_level: {
    about: "Levels of the helper `csum_level`",
    from: named(bpf, /^BPF_CSUM_LEVEL_/),
  },
  bpf_fib_lookup_flags: {
    about: "Flags of the helper `fib_lookup`",
    areSeparate: true,
    from: named(bpf, /^BPF_FIB_LOOKUP_/),
  },
  bpf_fib_lookup_result: {
    about: "Results of the helper `fib_lookup`",
    from: named(bpf, /^BPF_FIB_LKUP_RET_/),
  },
  bpf_check_mtu_flags: {
    about: "Flags of the helper `check_mtu`",
    areSeparate: true,
    from: ofEnum(bpf, "bpf_check_mtu_flags"),
  },
  bpf_check_mtu_ret: {
    about: "Results of the helper `check_mtu`",
    from: ofEnum(bpf, "bpf_check_mtu_ret"),
  },
  bpf_storage_flags: {
    about:
      "Flags of the helpers `sk_storage_get`, `task_storage_get`, `inode_storage_get` and `cgrp_storage_get`",
    areSeparate: true,
    from: named(bpf, /^BPF_(LOCAL|SK)_STORAGE_GET_F_CREATE$/),
  },
  bpf_sk_lookup_flags: {
    about: "Flags of the helper `sk_assign` in sk_lookup programs",
    areSeparate: true,
    from: named(bpf, /^BPF_SK_LOOKUP_F_/),
  },
  bpf_sock_ops_op: {
    about: "Events of sock_ops programs: the field `op` of their context",
    from: named(bpf, /^BPF_SOCK_OPS_(?!.*(?:_FLAG|_FLAGS)$)/),
  },
  bpf_sock_ops_cb_flags: {
    about:
      "Events that a socket calls sock_ops programs for: flags of the helper `sock_ops_cb_flags_set`",
    areSeparate: true,
    from: named(bpf, /^BPF_SOCK_OPS_\w+_FLAGS?$/),
  },
  bpf_tcp_header_option_flags: {
    about: "Flags of the helpers `load_hdr_opt` and `reserve_hdr_opt`, and similar helpers",
    areSeparate: true,
    from: named(bpf, /^BPF_(LOAD_HDR_OPT_TCP_SYN|WRITE_HDR_TCP_\w+)$/),
  },
  bpf_tcp_state: {
    about: "States of TCP sockets, as sock_ops programs get them: the numbers of `tcp_state`",
    from: named(bpf, /^BPF_TCP_(?!MAX_STATES)/),
  },
  bpf_flow_dissector_flags: {
    about: "Flags in the context of flow dissectors",
    areSeparate: true,
    from: named(bpf, /^BPF_FLOW_DISSECTOR_F_/),
  },
  bpf_devcg_type: {
    about: "Device types, in the low half of `access_type` of cgroup/dev programs",
    areSeparate: true,
    from: named(bpf, /^BPF_DEVCG_DEV_/),
  },
  bpf_devcg_access: {
    about: "Access kinds, in the high half of `access_type` of cgroup/dev programs",
    areSeparate: true,
    from: named(bpf, /^BPF_DEVCG_ACC_/),
  },

  // Sockets.
  address_family: {
    about: "Address families of sockets",
    from: named(kernelSocket, /^AF_(?!MAX$|LOCAL$|ROUTE$)/),
  },
  sock_type: {
    about: "Types of sockets",
    from: named("kernel:linux/net.h", /^SOCK_(STREAM|DGRAM|RAW|RDM|SEQPACKET|DCCP|PACKET)$/),
  },
  ip_protocol: {
    about:
      "IP protocols: the field `protocol` of IPv4, `nexthdr` of IPv6, and the protocol of sockets",
    from: [
      { header: "linux/in.h", names: /^IPPROTO_(?!MAX$)/ },
      {
        header: "linux/in6.h",
        names: /^IPPROTO_(HOPOPTS|ROUTING|FRAGMENT|ICMPV6|NONE|DSTOPTS|MH)$/,
      },
    ],
  },
  socket_level: {
    about: "Levels of socket options",
    from: [
      { header: socket, names: /^SOL_SOCKET$/ },
      { header: kernelSocket, names: /^SOL_(IP|TCP|UDP|IPV6|TLS|XDP|MPTCP)$/ },
    ],
  },
  socket_option: {
    about: "Socket options of the level `SOL_SOCKET`; the same on x86-64 and arm64",
    from: named(socket, /^SO_(?!GET_FILTER$|DETACH_BPF$|\w+_OLD$)/),
  },
  tcp_option: {
    about: "Socket options of the level `SOL_TCP`",
    from: named(
      "linux/tcp.h",
      /^TCP_(NODELAY|MAXSEG|CORK|KEEP\w+|SYNCNT|LINGER2|DEFER_ACCEPT|WINDOW_CLAMP|INFO|QUICKACK|CONGESTION|THIN_\w+|USER_TIMEOUT|FASTOPEN|FASTOPEN_CONNECT|NOTSENT_LOWAT|SAVE_SYN|SAVED_SYN|ULP|TX_DELAY|RTO_M\w+|DELACK_MAX_US)$/,
    ),
  },

  // TCP.
  tcp_state: {
    about: "States of TCP sockets: the field `skc_state` of `struct sock_common`",
    from: named("kernel:net/tcp_states.h", /^TCP_(?!STATE_MASK|ACTION_FIN|MAX_STATES)/),
  },
  tcp_ca_state: {
    about: "States of TCP's congestion control: the field `icsk_ca_state`",
    from: ofEnum("linux/tcp.h", "tcp_ca_state"),
  },
  tcp_flags: {
    about: "Flags in byte 13 of a TCP header",
    areSeparate: true,
    from: named("kernel:net/tcp.h", /^TCPHDR_(FIN|SYN|RST|PSH|ACK|URG|ECE|CWR)$/),
  },

  // Packets.
  ether_type: {
    about:
      "Types of Ethernet frames. In the frame, and in `skb->protocol`, they are in network byte order",
    from: named("linux/if_ether.h", /^ETH_P_/),
  },
  ether_sizes: {
    about: "Sizes of Ethernet frames, in bytes",
    areSeparate: true,
    from: named(
      "linux/if_ether.h",
      /^ETH_(ALEN|TLEN|HLEN|ZLEN|DATA_LEN|FRAME_LEN|FCS_LEN|MIN_MTU|MAX_MTU)$/,
    ),
  },
  vlan: {
    about: "Size and masks of VLAN tags, in host byte order",
    areSeparate: true,
    from: named("kernel:linux/if_vlan.h", /^VLAN_(HLEN|PRIO_MASK|PRIO_SHIFT|CFI_MASK|VID_MASK)$/),
  },
  arp_operation: {
    about: "Operations of ARP, in host byte order",
    from: named("linux/if_arp.h", /^ARPOP_/),
  },
  ip_fragment: {
    about: "Bits of the field `frag_off` of IPv4, in host byte order",
    areSeparate: true,
    from: named("kernel:net/ip.h", /^IP_(CE|DF|MF|OFFSET)$/),
  },
  icmp_type: {
    about: "Types of ICMP messages",
    from: named(
      "linux/icmp.h",
      /^ICMP_(ECHOREPLY|DEST_UNREACH|SOURCE_QUENCH|REDIRECT|ECHO|TIME_EXCEEDED|PARAMETERPROB|TIMESTAMP|TIMESTAMPREPLY|INFO_REQUEST|INFO_REPLY|ADDRESS|ADDRESSREPLY)$/,
    ),
  },
  icmpv6_type: {
    about: "Types of ICMPv6 messages",
    from: named(
      "linux/icmpv6.h",
      /^ICMPV6_(DEST_UNREACH|PKT_TOOBIG|TIME_EXCEED|PARAMPROB|ECHO_REQUEST|ECHO_REPLY|MGM_\w+|MLD2_REPORT|EXT_ECHO_\w+)$/,
    ),
  },

  // Netfilter.
  nf_protocol_family: {
    about: "Protocol families of netfilter",
    from: named("linux/netfilter.h", /^NFPROTO_(?!NUMPROTO)/),
  },
  nf_inet_hooks: {
    about: "Hooks of netfilter",
    from: named("linux/netfilter.h", /^NF_INET_(?!NUMHOOKS)/),
  },
  nf_ip_hook_priorities: {
    about: "Priorities of netfilter's own hooks: a program with a lower number runs before them",
    from: named("linux/netfilter_ipv4.h", /^NF_IP_PRI_/),
  },

  // Perf events.
  perf_type_id: {
    about: "Types of perf events",
    from: named(perf, /^PERF_TYPE_(?!MAX$)/),
  },
  perf_hw_id: {
    about: "Events of the type `PERF_TYPE_HARDWARE`",
    from: named(
      perf,
      /^PERF_COUNT_HW_(CPU_CYCLES|INSTRUCTIONS|CACHE_REFERENCES|CACHE_MISSES|BRANCH_INSTRUCTIONS|BRANCH_MISSES|BUS_CYCLES|STALLED_CYCLES_\w+|REF_CPU_CYCLES)$/,
    ),
  },
  perf_sw_ids: {
    about: "Events of the type `PERF_TYPE_SOFTWARE`",
    from: named(perf, /^PERF_COUNT_SW_(?!MAX$)/),
  },

  // Processes and files.
  errno: {
    about: "Error numbers; the same on x86-64 and arm64. Programs return them negative: `-EPERM`",
    from: [
      ...named("asm-generic/errno-base.h", /^E[A-Z0-9]+$/),
      ...named("asm-generic/errno.h", /^E[A-Z0-9]+$/),
      ...named("kernel:linux/errno.h", /^ENOTSUPP$/),
    ],
  },
  signal_number: {
    about: "Signals; the same on x86-64 and arm64",
    from: named("asm-generic/signal.h", /^SIG(?!RTM|UNUSED|STKSZ|LOST)[A-Z0-9]+$/),
  },
  capability: {
    about: "Capabilities: the argument of `cap_capable`, and bits of `struct kernel_cap_t`",
    from: named("linux/capability.h", /^CAP_(?!LAST_CAP$|TO_|VALID|OPT)/),
  },
  clone_flags: {
    about: "Flags of clone(2), unshare(2) and setns(2)",
    areSeparate: true,
    from: named("linux/sched.h", /^CLONE_(?!ARGS_)/),
  },
  task_flags: {
    about:
      "Bits of the field `flags` of `struct task_struct`. They are internal to the kernel; these are the same from Linux 5.10 to 7.2",
    areSeparate: true,
    from: named(
      "kernel:linux/sched.h",
      /^PF_(IDLE|EXITING|WQ_WORKER|FORKNOEXEC|SUPERPRIV|DUMPCORE|SIGNALED|KTHREAD)$/,
    ),
  },
  sched_policy: {
    about: "Scheduling policies: the field `policy` of `struct task_struct`",
    from: named("linux/sched.h", /^SCHED_(NORMAL|FIFO|RR|BATCH|IDLE|DEADLINE|EXT)$/),
  },
  memory_flags: {
    about: "Flags of mmap(2) and mprotect(2); the same on x86-64 and arm64",
    areSeparate: true,
    from: [
      {
        header: "asm-generic/mman-common.h",
        names: /^(PROT_(NONE|READ|WRITE|EXEC)|MAP_(FIXED|ANONYMOUS))$/,
      },
      { header: "linux/mman.h", names: /^MAP_(SHARED|PRIVATE)$/ },
    ],
  },
  access_mask: {
    about: "Access masks of security hooks, such as `inode_permission`",
    areSeparate: true,
    from: named("kernel:linux/fs.h", /^MAY_(EXEC|WRITE|READ|APPEND|ACCESS|OPEN|CHDIR)$/),
  },
  at_flags: {
    about: "Arguments of openat(2), unlinkat(2) and similar calls",
    areSeparate: true,
    from: named(
      "linux/fcntl.h",
      /^AT_(FDCWD|SYMLINK_NOFOLLOW|REMOVEDIR|SYMLINK_FOLLOW|EMPTY_PATH)$/,
    ),
  },
  open_flags: {
    about: "Flags of openat(2), as far as they are the same on x86-64 and arm64",
    areSeparate: true,
    from: named(
      "asm-generic/fcntl.h",
      /^O_(ACCMODE|RDONLY|WRONLY|RDWR|CREAT|EXCL|NOCTTY|TRUNC|APPEND|NONBLOCK|DSYNC|SYNC|CLOEXEC|PATH|NOATIME)$/,
    ),
  },
  file_type: {
    about: "Types of files: the bits `S_IFMT` of a mode",
    from: named("linux/stat.h", /^S_IF(MT|SOCK|LNK|REG|BLK|DIR|CHR|IFO)$/),
  },
};

/** The documentation of single constants. */
export const meanings: Readonly<Record<string, string>> = {
  XDP_ABORTED: "Drops the packet as after an error: the tracepoint `xdp:xdp_exception` fires.",
  XDP_DROP: "Drops the packet.",
  XDP_PASS: "Hands the packet to the network stack.",
  XDP_TX: "Sends the packet out of the interface that it came from.",
  XDP_REDIRECT:
    "Sends the packet to the target of the helper `redirect` or `redirect_map`: an interface, a CPU, or an AF_XDP socket.",
  TC_ACT_UNSPEC: "Uses the default action of the filter.",
  TC_ACT_OK: "Accepts the packet and ends the classification.",
  TC_ACT_RECLASSIFY: "Starts the classification again.",
  TC_ACT_SHOT: "Drops the packet.",
  TC_ACT_PIPE: "Continues with the next action.",
  TC_ACT_STOLEN: "Ends the processing of the packet, whose ownership was taken over.",
  TC_ACT_QUEUED: "Ends the processing of the packet, as `TC_ACT_STOLEN` does.",
  TC_ACT_REPEAT: "Starts the classification again.",
  TC_ACT_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  TC_ACT_TRAP:
    "Hands the packet from hardware to the kernel; in the kernel it acts as `TC_ACT_STOLEN`.",
  TCX_NEXT: "Continues with the next program.",
  TCX_PASS: "Accepts the packet, without the programs after this one.",
  TCX_DROP: "Drops the packet.",
  TCX_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  NETKIT_NEXT: "Continues with the next program.",
  NETKIT_PASS: "Accepts the packet, without the programs after this one.",
  NETKIT_DROP: "Drops the packet.",
  NETKIT_REDIRECT: "Sends the packet to the target of the helper `redirect` or `redirect_peer`.",
  SK_DROP: "Drops the packet or message; in sk_lookup, refuses the connection.",
  SK_PASS: "Lets the packet or message pass: to the socket that was chosen, if one was.",
  NF_DROP: "Drops the packet.",
  NF_ACCEPT: "Lets the packet pass to the next hook.",
  NF_STOLEN: "Ends the processing of the packet, whose ownership was taken over.",
  NF_QUEUE: "Hands the packet to user space.",
  NF_REPEAT: "Calls the hook again.",
  NF_STOP: "Accepts the packet without the hooks after this one; deprecated.",
  BPF_OK: "Lets the packet pass.",
  BPF_DROP: "Drops the packet.",
  BPF_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  BPF_LWT_REROUTE: "Routes the packet again, by its changed header.",
  BPF_FLOW_DISSECTOR_CONTINUE: "Leaves the packet to the kernel's dissector. Requires Linux 6.1.",
  BPF_ANY: "Stores whether the key exists or not.",
  BPF_NOEXIST: "Stores only if the key does not exist: EEXIST otherwise.",
  BPF_EXIST: "Stores only if the key exists: ENOENT otherwise.",
  BPF_F_LOCK: "Reads or stores under the spin lock of the value. Requires Linux 5.1.",
  BPF_F_USER_STACK:
    "Collects the stack of user space, not the kernel's: for `get_stackid` and `get_stack`.",
  BPF_F_SKIP_FIELD_MASK:
    "Mask of the number of innermost frames to skip: for `get_stackid` and `get_stack`.",
  BPF_F_FAST_STACK_CMP: "Compares stacks by their hash alone: for `get_stackid`.",
  BPF_F_REUSE_STACKID: "Replaces another stack of the same hash: for `get_stackid`.",
  BPF_F_USER_BUILD_ID:
    "Collects build ids and offsets in files instead of addresses: for `get_stack`.",
  BPF_F_CURRENT_CPU:
    "The CPU that the program runs on: for `perf_event_output` and similar helpers. `asm.mov32` loads it.",
  BPF_F_INDEX_MASK: "Mask of the index of the CPU: for `perf_event_output` and similar helpers.",
  BPF_F_CTXLEN_MASK:
    "Mask of the number of bytes of the packet to append: for `perf_event_output`.",
  BPF_F_CURRENT_NETNS:
    "The network namespace of the context: for `sk_lookup_tcp` and similar helpers. Its value is -1, in 32 bits.",
  BPF_RB_NO_WAKEUP:
    "Wakes no consumer: for `ringbuf_output`, `ringbuf_submit` and `ringbuf_discard`.",
  BPF_RB_FORCE_WAKEUP:
    "Wakes the consumer in any case: for `ringbuf_output`, `ringbuf_submit` and `ringbuf_discard`.",
  BPF_RB_AVAIL_DATA: "Bytes that the consumer has not read: for `ringbuf_query`.",
  BPF_RB_RING_SIZE: "Bytes of the ring: for `ringbuf_query`.",
  BPF_RB_CONS_POS: "Position of the consumer: for `ringbuf_query`.",
  BPF_RB_PROD_POS: "Position of the producers: for `ringbuf_query`.",
  BPF_F_INGRESS:
    "Redirects to the ingress path, not the egress path: for `redirect`, `clone_redirect`, `msg_redirect_map` and similar helpers.",
  BPF_F_BROADCAST:
    "Redirects to all interfaces of the map: for `redirect_map`. Requires Linux 5.14.",
  BPF_F_EXCLUDE_INGRESS:
    "Leaves out the interface that the packet came from: with `BPF_F_BROADCAST`. Requires Linux 5.14.",
  BPF_F_RECOMPUTE_CSUM: "Updates the checksum of the packet: for `skb_store_bytes`.",
  BPF_F_INVALIDATE_HASH: "Clears the hash of the packet: for `skb_store_bytes`.",
  BPF_F_HDR_FIELD_MASK:
    "Mask of the size of the field, in bytes: for `l3_csum_replace` and `l4_csum_replace`.",
  BPF_F_PSEUDO_HDR: "The changed field is part of the pseudo header: for `l4_csum_replace`.",
  BPF_F_MARK_MANGLED_0:
    "Leaves a checksum of 0 unchanged, which in UDP means no checksum: for `l4_csum_replace`.",
  BPF_LOCAL_STORAGE_GET_F_CREATE: "Creates the value where there is none.",
  BPF_SK_STORAGE_GET_F_CREATE: "The older name of `BPF_LOCAL_STORAGE_GET_F_CREATE`.",
  BPF_ADJ_ROOM_NET: "Adjusts the room after the network header.",
  BPF_ADJ_ROOM_MAC: "Adjusts the room after the link-layer header.",
  BPF_HDR_START_MAC: "Counts from the link-layer header.",
  BPF_HDR_START_NET: "Counts from the network header.",
  BPF_SK_LOOKUP_F_REPLACE: "Replaces a socket that was chosen before.",
  BPF_SK_LOOKUP_F_NO_REUSEPORT:
    "Takes the socket itself, without a choice among its reuseport group.",
  TCP_ESTABLISHED: "The connection is open.",
  TCP_SYN_SENT: "A SYN was sent; the answer is pending.",
  TCP_SYN_RECV: "A SYN was received and answered.",
  TCP_FIN_WAIT1: "This end has closed; its FIN is not acknowledged yet.",
  TCP_FIN_WAIT2: "This end has closed, and waits for the FIN of the other end.",
  TCP_TIME_WAIT: "Both ends have closed; the socket waits for late packets.",
  TCP_CLOSE: "The socket is not connected.",
  TCP_CLOSE_WAIT: "The other end has closed.",
  TCP_LAST_ACK: "Both ends have closed; the acknowledgement of the FIN is pending.",
  TCP_LISTEN: "The socket listens.",
  TCP_CLOSING: "Both ends have closed at the same time.",
  TCP_NEW_SYN_RECV: "A connection request that has no full socket yet.",
  TCP_BOUND_INACTIVE: "A pseudo state of inet_diag: bound, and not in any other state.",
  PF_KTHREAD: "The task is a kernel thread.",
  PF_IDLE: "The task is an idle thread.",
  PF_EXITING: "The task is exiting.",
  PF_WQ_WORKER: "The task is a worker of a workqueue.",
  PF_FORKNOEXEC: "The task was forked and has not executed anything since.",
  PF_SUPERPRIV: "The task has used privileges of root.",
  PF_DUMPCORE: "The task has dumped core.",
  PF_SIGNALED: "The task was ended by a signal.",
  // Creation of maps.
  BPF_F_NO_PREALLOC: "Allocates entries when they are stored, not at creation.",
  BPF_F_NO_COMMON_LRU: "Keeps an LRU list for each CPU instead of a common one.",
  BPF_F_NUMA_NODE: "Allocates the map on the NUMA node `numa_node`.",
  BPF_F_RDONLY: "Allows user space only to read through this descriptor.",
  BPF_F_WRONLY: "Allows user space only to write through this descriptor.",
  BPF_F_STACK_BUILD_ID: "Records build ids and file offsets in stack traces instead of addresses.",
  BPF_F_ZERO_SEED: "Uses 0 as the seed of the hash function: for tests.",
  BPF_F_RDONLY_PROG: "Allows programs only to read the map.",
  BPF_F_WRONLY_PROG: "Allows programs only to write to the map.",
  BPF_F_CLONE: "Copies the storage of a listening socket to the sockets that it accepts.",
  BPF_F_MMAPABLE: "Allows mmap(2) of the map.",
  BPF_F_PRESERVE_ELEMS:
    "Keeps perf events in the map after the descriptor by which they were stored is closed.",
  BPF_F_INNER_MAP: "Allows arrays of other lengths as inner maps in the place of this one.",
  BPF_F_LINK: "Registers the `struct_ops` map by a link.",
  BPF_F_PATH_FD: "Resolves the path of a pin relative to `path_fd`.",
  BPF_F_VTYPE_BTF_OBJ_FD: "Takes the BTF of the value's type from `value_type_btf_obj_fd`.",
  BPF_F_TOKEN_FD: "Passes a BPF token in the command's field `token_fd`.",
  BPF_F_SEGV_ON_FAULT:
    "Raises SIGSEGV when user space touches a missing page of an arena, instead of allocating it.",
  BPF_F_NO_USER_CONV:
    "Stores kernel pointers in an arena without converting them to user pointers.",
  BPF_F_RB_OVERWRITE: "Overwrites the oldest records of a full ring buffer.",
  // Access to elements.
  BPF_F_CPU: "Accesses the value of one CPU, whose number is in the upper 32 bits of the flags.",
  BPF_F_ALL_CPUS: "Updates the values of all CPUs.",
  BPF_STACK_BUILD_ID_VALID: "The entry has a build id and an offset.",
  BPF_RB_OVERWRITE_POS:
    "The position of the oldest record that is not overwritten: for `ringbuf_query`.",
  BPF_RINGBUF_BUSY_BIT: "The bit in a record's length that is set until the record is submitted.",
  BPF_RINGBUF_DISCARD_BIT: "The bit in a record's length that marks a discarded record.",
  BPF_RINGBUF_HDR_SZ: "The size of a record's header, in bytes.",
  // Attaching.
  BPF_F_KPROBE_MULTI_RETURN: "Attaches to the returns of the functions: for kprobe.multi links.",
  BPF_F_UPROBE_MULTI_RETURN: "Attaches to the returns of the functions: for uprobe.multi links.",
  BPF_F_UPROBE_MULTI_PATH_FD: "Names the file by its descriptor: for uprobe.multi links.",
  BPF_F_ALLOW_OVERRIDE: "Allows a program of a descendant cgroup to run instead of this one.",
  BPF_F_ALLOW_MULTI: "Allows programs of descendant cgroups to run in addition to this one.",
  BPF_F_REPLACE: "Replaces the attached program `replace_bpf_fd`.",
  BPF_F_BEFORE: "Attaches before `relative_fd` or `relative_id`; without one before all others.",
  BPF_F_AFTER: "Attaches after `relative_fd` or `relative_id`; without one after all others.",
  BPF_F_ID: "Takes the id `relative_id` instead of the descriptor `relative_fd`.",
  BPF_F_PREORDER: "Runs the program before those of descendant cgroups.",
  BPF_F_QUERY_EFFECTIVE:
    "Queries all programs that run for a cgroup, those of its ancestors included.",
  BPF_F_NETFILTER_IP_DEFRAG: "Reassembles fragments before the netfilter program runs.",
  // Loading and test runs.
  BPF_F_STRICT_ALIGNMENT:
    "Makes the verifier check alignment as for machines that need aligned access.",
  BPF_F_ANY_ALIGNMENT: "Makes the verifier accept any alignment: for tests.",
  BPF_F_TEST_RND_HI32: "Fills the unused upper halves of registers with random bits: for tests.",
  BPF_F_TEST_STATE_FREQ: "Makes the verifier save its state more often: for tests.",
  BPF_F_TEST_REG_INVARIANTS: "Makes the verifier fail for inconsistent register bounds: for tests.",
  BPF_F_SLEEPABLE: "Allows the program to sleep.",
  BPF_F_XDP_HAS_FRAGS: "Declares that the XDP program supports packets in several buffers.",
  BPF_F_XDP_DEV_BOUND_ONLY: "Binds the program to a network device without offloading it.",
  BPF_F_TEST_RUN_ON_CPU: "Runs the test run of a raw tracepoint program on a given CPU.",
  BPF_F_TEST_XDP_LIVE_FRAMES:
    "Sends the packets of the test run where the XDP program directs them.",
  BPF_F_TEST_SKB_CHECKSUM_COMPLETE: "Gives the packet of the test run a complete checksum.",
  BPF_OBJ_NAME_LEN: "The size of an object's name with its NUL, in bytes.",
  BPF_TAG_SIZE: "The size of a program's tag, in bytes.",
  // Helpers.
  BPF_F_MARK_ENFORCE:
    "Updates a checksum of 0 too, with `BPF_F_MARK_MANGLED_0`: for `l4_csum_replace`.",
  BPF_F_IPV6: "The packet is IPv6: for `l4_csum_replace`.",
  BPF_F_TUNINFO_IPV6:
    "The tunnel's addresses are IPv6: for `skb_set_tunnel_key` and `skb_get_tunnel_key`.",
  BPF_F_TUNINFO_FLAGS: "Returns the tunnel's flags in `tunnel_flags`: for `skb_get_tunnel_key`.",
  BPF_F_ZERO_CSUM_TX: "Sends IPv4 packets with a checksum of 0: for `skb_set_tunnel_key`.",
  BPF_F_DONT_FRAGMENT: "Forbids the fragmentation of the packet: for `skb_set_tunnel_key`.",
  BPF_F_SEQ_NUMBER: "Adds a sequence number to the tunnel header: for `skb_set_tunnel_key`.",
  BPF_F_NO_TUNNEL_KEY: "Leaves out the key of the tunnel header: for `skb_set_tunnel_key`.",
  BPF_F_ADJ_ROOM_FIXED_GSO: "Leaves the GSO size unchanged: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV4:
    "Reserves the room for an outer IPv4 header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV6:
    "Reserves the room for an outer IPv6 header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L4_GRE: "Reserves room for a GRE header too: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L4_UDP: "Reserves room for a UDP header too: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L2_ETH: "The inner header of layer 2 is Ethernet: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_NO_CSUM_RESET: "Keeps the state of the packet's checksum: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_DECAP_L3_IPV4:
    "The packet is IPv4 after the outer header is removed: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_DECAP_L3_IPV6:
    "The packet is IPv6 after the outer header is removed: for `skb_adjust_room`.",
  BPF_F_SYSCTL_BASE_NAME: "Copies only the last part of the name: for `sysctl_get_name`.",
  BPF_F_GET_BRANCH_RECORDS_SIZE: "Returns the size of all records: for `read_branch_records`.",
  BPF_F_BPRM_SECUREEXEC: "Sets AT_SECURE of the process that is executed: for `bprm_opts_set`.",
  BPF_F_TIMER_ABS: "The time is absolute: for `timer_start`.",
  BPF_F_TIMER_CPU_PIN: "Runs the timer on the CPU of the caller: for `timer_start`.",
  BPF_F_PAD_ZEROS: "Fills the rest of the destination with zeros: for `copy_from_user_str`.",
  BPF_F_REDIRECT_FLAGS: "All flags of the helpers that redirect packets.",
  // System calls.
  ETH_HLEN: "The size of an Ethernet header, in bytes.",
  CLONE_NEWCGROUP: "Creates or enters a cgroup namespace.",
  CLONE_NEWNET: "Creates or enters a network namespace.",
  PROT_READ: "Allows reads of the pages.",
  PROT_WRITE: "Allows writes to the pages.",
  PROT_NONE: "Allows no access to the pages.",
  MAP_FIXED: "Maps at exactly the given address.",
  MAP_ANONYMOUS: "Maps memory without a file.",
  MAP_SHARED: "Shares changes with other mappings of the file.",
  MAP_PRIVATE: "Keeps changes private to the mapping.",
  O_PATH: "Opens a location in the file system, without access to the file's contents.",
  O_ACCMODE: "The mask of the access mode.",
  O_RDONLY: "Opens for reading.",
  O_WRONLY: "Opens for writing.",
  ETH_P_IP: "IPv4.",
  ETH_P_IPV6: "IPv6.",
  ETH_P_ARP: "ARP.",
  ETH_P_8021Q: "A VLAN tag (802.1Q).",
  ETH_P_8021AD: "A VLAN service tag (802.1ad).",
  ETH_P_ALL: "Every frame: for sockets, not in frames.",
};
