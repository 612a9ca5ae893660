/** @module The constants in src/uapi/constants.ts, which scripts use as `uapi`. */

import type { Constants } from "./sources.ts";

/** Constants that belong together. */
export interface Enumeration {
  /** Summary of the documentation, without the full stop. */
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

/** Enumerations by name. The name is that of the kernel's enum, if there is one. */
export const enumerations: Readonly<Record<string, Enumeration>> = {
  // Results of programs.
  xdp_action: { about: "Results of XDP programs", from: ofEnum(bpf, "xdp_action") },
  tc_action: {
    about:
      "Results of traffic control programs (`tc`, `action`). A result that the program cannot return acts as `TC_ACT_UNSPEC`. With tcx, `tc` programs can return only the numbers of `tcx_action_base`",
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
      "Results of programs that filter packets of sockets or select sockets: sk_skb, sk_msg, sk_lookup, sk_reuseport. Cgroup programs return the same numbers to reject or allow a packet or an operation",
    from: ofEnum(bpf, "sk_action"),
  },
  cgroup_result_flags: {
    about:
      "Flags in the results of cgroup programs, shifted left by 1: bit 0 of a result allows the operation",
    areSeparate: true,
    from: named("kernel:linux/bpf.h", /^BPF_RET_(SET_CN|BIND_NO_CAP_NET_BIND_SERVICE)$/),
  },
  nf_verdict: {
    about: "Results of netfilter programs, which may return `NF_DROP` and `NF_ACCEPT`",
    from: named("linux/netfilter.h", /^NF_(DROP|ACCEPT|STOLEN|QUEUE|REPEAT|STOP)$/),
  },
  bpf_ret_code: {
    about: "Results of programs on lightweight tunnels (`lwt_*`) and of flow dissectors",
    from: ofEnum(bpf, "bpf_ret_code"),
  },

  // Numbers of bpf(2), for programs of the type syscall and for those that observe the call.
  bpf_cmd: {
    about:
      "Commands of bpf(2): the argument of the helper `sys_bpf` and of the security hook `bpf`",
    from: [{ header: bpf, enum: "bpf_cmd", names: /^(?!BPF_COMMON_ATTRS$)/ }],
  },
  bpf_map_type: {
    about: "Types of maps",
    from: ofEnum(bpf, "bpf_map_type"),
  },
  bpf_prog_type: {
    about: "Types of programs",
    from: ofEnum(bpf, "bpf_prog_type"),
  },
  bpf_attach_type: {
    about: "Types of attachments",
    from: ofEnum(bpf, "bpf_attach_type"),
  },
  bpf_link_type: {
    about: "Types of links",
    from: ofEnum(bpf, "bpf_link_type"),
  },
  bpf_cgroup_iter_order: {
    about: "Orders of iterators over cgroups",
    from: ofEnum(bpf, "bpf_cgroup_iter_order"),
  },
  bpf_stack_build_id_status: {
    about:
      "Status of a stack frame with a build id: the field `status` of `struct bpf_stack_build_id`",
    from: named(bpf, /^BPF_STACK_BUILD_ID_/),
  },

  // Arguments and results of helper functions; the flags are in bpf.ts.
  bpf_adj_room_mode: {
    about: "Modes of the helper `skb_adjust_room`",
    from: ofEnum(bpf, "bpf_adj_room_mode"),
  },
  bpf_adj_room_encap: {
    about:
      "Mask and position of the length of an inner link-layer header in the flags of the helper `skb_adjust_room`",
    areSeparate: true,
    from: named(bpf, /^BPF_ADJ_ROOM_ENCAP_L2_/),
  },
  bpf_skb_tstamp_type: {
    about:
      "Clocks of packets' timestamps: for the helper `skb_set_tstamp`, and the field `tstamp_type`",
    from: named(bpf, /^BPF_SKB_CLOCK_/),
  },
  seg6_local_action: {
    about: "Actions of the helper `lwt_seg6_action`",
    from: named("linux/seg6_local.h", /^SEG6_LOCAL_ACTION_(?!MAX$)/),
  },
  bpf_stream_id: {
    about: "Streams of a program's messages: for the kernel function `bpf_stream_vprintk`",
    from: named(bpf, /^BPF_STREAM_/),
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
      "Events for which a socket calls sock_ops programs: flags of the helper `sock_ops_cb_flags_set`",
    areSeparate: true,
    from: named(bpf, /^BPF_SOCK_OPS_\w+_FLAGS?$/),
  },
  sk_bpf_cb_flags: {
    about:
      "Events for which sockets of all kinds call sock_ops programs: values of the socket option `SK_BPF_CB_FLAGS`",
    areSeparate: true,
    from: named(bpf, /^SK_BPF_CB_(TX_TIMESTAMPING|MASK)$/),
  },
  bpf_socket_option: {
    about:
      "Socket options that only the helpers `setsockopt` and `getsockopt` have: `TCP_BPF_...` of the level `SOL_TCP`, `SK_BPF_...` of the level `SOL_SOCKET`",
    from: named(bpf, /^(TCP_BPF_\w+|SK_BPF_CB_FLAGS|SK_BPF_BYPASS_PROT_MEM)$/),
  },
  bpf_tcp_header_option_flags: {
    about: "Flags of the helpers `load_hdr_opt` and `reserve_hdr_opt`, and similar helpers",
    areSeparate: true,
    from: named(bpf, /^BPF_(LOAD_HDR_OPT_TCP_SYN|WRITE_HDR_TCP_\w+)$/),
  },
  bpf_tcp_state: {
    about:
      "States of TCP sockets, as sock_ops programs receive them: the same numbers as `tcp_state`",
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

  ip_option: {
    about: "Socket options of the level `SOL_IP`",
    from: named(
      "linux/in.h",
      /^IP_(TOS|TTL|HDRINCL|OPTIONS|RECVTTL|PKTINFO|MTU_DISCOVER|RECVERR|RECVTOS|MTU|FREEBIND|TRANSPARENT|RECVORIGDSTADDR|MINTTL|BIND_ADDRESS_NO_PORT|MULTICAST_(IF|TTL|LOOP|ALL)|UNICAST_IF|LOCAL_PORT_RANGE)$/,
    ),
  },
  ipv6_option: {
    about: "Socket options of the level `SOL_IPV6`",
    from: named(
      "linux/in6.h",
      /^IPV6_(UNICAST_HOPS|MULTICAST_(IF|HOPS|LOOP|ALL)|MTU_DISCOVER|MTU|RECVERR|V6ONLY|RECVPKTINFO|HOPLIMIT|RECVHOPLIMIT|TCLASS|RECVTCLASS|AUTOFLOWLABEL|MINHOPCOUNT|TRANSPARENT|UNICAST_IF|FREEBIND)$/,
    ),
  },
  message_flags: {
    about: "Flags of send(2), recv(2) and similar calls",
    areSeparate: true,
    from: named(
      kernelSocket,
      /^MSG_(OOB|PEEK|DONTROUTE|CTRUNC|TRUNC|DONTWAIT|EOR|WAITALL|CONFIRM|ERRQUEUE|NOSIGNAL|MORE|WAITFORONE|ZEROCOPY|FASTOPEN|CMSG_CLOEXEC)$/,
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

  packet_type: {
    about:
      "Types of packets by their destination: the field `pkt_type`, and the helper `skb_change_type`",
    from: named(
      "linux/if_packet.h",
      /^PACKET_(HOST|BROADCAST|MULTICAST|OTHERHOST|OUTGOING|LOOPBACK|USER|KERNEL)$/,
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
    about:
      "Priorities of the kernel's own netfilter hook functions. A function with a lower number runs earlier",
    from: named("linux/netfilter_ipv4.h", /^NF_IP_PRI_/),
  },

  ip_conntrack_status: {
    about: "Status bits of tracked connections: the field `status` of `struct nf_conn`",
    areSeparate: true,
    from: named(
      "linux/netfilter/nf_conntrack_common.h",
      /^IPS_(EXPECTED|SEEN_REPLY|ASSURED|CONFIRMED|SRC_NAT|DST_NAT|SEQ_ADJUST|SRC_NAT_DONE|DST_NAT_DONE|DYING|FIXED_TIMEOUT|TEMPLATE|UNTRACKED|HELPER|OFFLOAD)$/,
    ),
  },

  // Infrared receivers.
  lirc_mode2: {
    about: "Kinds of samples that lirc_mode2 programs get: the bits `LIRC_MODE2_MASK` of a sample",
    from: named("linux/lirc.h", /^LIRC_MODE2_(SPACE|PULSE|FREQUENCY|TIMEOUT|OVERFLOW)$/),
  },
  lirc_masks: {
    about: "Masks of the parts of a sample that lirc_mode2 programs get",
    areSeparate: true,
    from: named("linux/lirc.h", /^LIRC_(VALUE|MODE2)_MASK$/),
  },
  rc_proto: {
    about: "Protocols of infrared remote controls: for the helper `rc_keydown`",
    from: [{ header: "linux/lirc.h", enum: "rc_proto", names: /^RC_PROTO_(?!MAX$)/ }],
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

  perf_hw_cache_id: {
    about: "Caches of events of the type `PERF_TYPE_HW_CACHE`: bits 0 to 7 of the event",
    from: named(perf, /^PERF_COUNT_HW_CACHE_(L1D|L1I|LL|DTLB|ITLB|BPU|NODE)$/),
  },
  perf_hw_cache_op_id: {
    about: "Operations of events of the type `PERF_TYPE_HW_CACHE`: bits 8 to 15 of the event",
    from: named(perf, /^PERF_COUNT_HW_CACHE_OP_(?!MAX$)/),
  },
  perf_hw_cache_op_result_id: {
    about: "Results of events of the type `PERF_TYPE_HW_CACHE`: bits 16 to 23 of the event",
    from: named(perf, /^PERF_COUNT_HW_CACHE_RESULT_(?!MAX$)/),
  },
  hw_breakpoint_type: {
    about: "Accesses that breakpoints watch for",
    areSeparate: true,
    from: named("linux/hw_breakpoint.h", /^HW_BREAKPOINT_(R|W|RW|X)$/),
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
  task_state: {
    about:
      "Bits of the field `__state` of `struct task_struct` (before Linux 5.14 `state`), and of `prev_state` of the tracepoint `sched_switch`. They are internal to the kernel; these are the same from Linux 5.10 to 7.2",
    areSeparate: true,
    from: named(
      "kernel:linux/sched.h",
      /^(TASK_(RUNNING|INTERRUPTIBLE|UNINTERRUPTIBLE|PARKED|DEAD)|__TASK_(STOPPED|TRACED)|EXIT_(DEAD|ZOMBIE))$/,
    ),
  },
  softirq: {
    about:
      "Soft interrupts: the field `vec` of the tracepoints `irq:softirq_entry` and `irq:softirq_exit`",
    from: named(
      "kernel:linux/interrupt.h",
      /^(HI|TIMER|NET_TX|NET_RX|BLOCK|IRQ_POLL|TASKLET|SCHED|HRTIMER|RCU)_SOFTIRQ$/,
    ),
  },
  clock_id: {
    about:
      "Clocks: for the helper `timer_init` and for tracing of system calls. Timers take `CLOCK_REALTIME`, `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`",
    from: named(
      "linux/time.h",
      /^CLOCK_(REALTIME|MONOTONIC|PROCESS_CPUTIME_ID|THREAD_CPUTIME_ID|MONOTONIC_RAW|REALTIME_COARSE|MONOTONIC_COARSE|BOOTTIME|REALTIME_ALARM|BOOTTIME_ALARM|TAI)$/,
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
    about: "Flags of openat(2) that are the same on x86-64 and arm64",
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

/** Documentation of single constants. */
export const meanings: Readonly<Record<string, string>> = {
  XDP_ABORTED: "Drops the packet because of an error: the tracepoint `xdp:xdp_exception` fires.",
  XDP_DROP: "Drops the packet.",
  XDP_PASS: "Passes the packet to the network stack.",
  XDP_TX: "Sends the packet from the interface on which it arrived.",
  XDP_REDIRECT:
    "Sends the packet to the target of the helper `redirect` or `redirect_map`: an interface, a CPU, or an AF_XDP socket.",
  TC_ACT_UNSPEC:
    "Continues with the next program or filter. In `action` programs, uses the default of the action.",
  TC_ACT_OK: "Accepts the packet and ends the classification.",
  TC_ACT_RECLASSIFY: "Starts the classification again. Only `action` programs can return it.",
  TC_ACT_SHOT: "Drops the packet.",
  TC_ACT_PIPE: "Continues with the next action. Only `action` programs can return it.",
  TC_ACT_STOLEN:
    "Consumes the packet: frees it without counting it as dropped. Only `tc` programs can return it.",
  TC_ACT_QUEUED: "Consumes the packet, as `TC_ACT_STOLEN` does. Programs cannot return it.",
  TC_ACT_REPEAT: "Runs the action again. Programs cannot return it.",
  TC_ACT_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  TC_ACT_TRAP:
    "Passes the packet from hardware to the kernel. In the kernel, acts as `TC_ACT_STOLEN`. Only `tc` programs can return it.",
  TCX_NEXT: "Continues with the next program.",
  TCX_PASS: "Accepts the packet. Later programs do not run.",
  TCX_DROP: "Drops the packet.",
  TCX_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  NETKIT_NEXT: "Continues with the next program.",
  NETKIT_PASS: "Accepts the packet. Later programs do not run.",
  NETKIT_DROP: "Drops the packet.",
  NETKIT_REDIRECT: "Sends the packet to the target of the helper `redirect` or `redirect_peer`.",
  SK_DROP: "Drops the packet or message. An sk_lookup program rejects the connection.",
  SK_PASS: "Lets the packet or message pass, to the socket that the program has selected, if any.",
  NF_DROP: "Drops the packet.",
  NF_ACCEPT: "Lets the packet pass to the next hook function.",
  NF_STOLEN: "Ends the processing of the packet: the hook owns it now.",
  NF_QUEUE: "Queues the packet for user space.",
  NF_REPEAT: "Calls the hook function again.",
  NF_STOP: "Accepts the packet. Later hook functions do not run. Deprecated.",
  BPF_OK: "Lets the packet pass.",
  BPF_DROP: "Drops the packet.",
  BPF_REDIRECT: "Sends the packet to the target of the helper `redirect`.",
  BPF_LWT_REROUTE: "Looks up the route again, by the changed header. Requires Linux 5.1.",
  BPF_FLOW_DISSECTOR_CONTINUE: "Leaves the packet to the kernel's dissector. Requires Linux 6.1.",
  BPF_RET_SET_CN:
    "Signals congestion to the sender: for egress programs of the type cgroup_skb. The results are 2 and 3.",
  BPF_RET_BIND_NO_CAP_NET_BIND_SERVICE:
    "Binds to a port below 1024 without CAP_NET_BIND_SERVICE: for `bind` programs. The result is 3. Requires Linux 5.12.",
  BPF_SKB_CLOCK_REALTIME: "The time is that of `CLOCK_REALTIME`, or unknown.",
  BPF_SKB_CLOCK_MONOTONIC:
    "The time is that of `CLOCK_MONOTONIC`, at which the packet is to be sent.",
  BPF_SKB_CLOCK_TAI: "The time is that of `CLOCK_TAI`, at which the packet is to be sent.",
  BPF_STREAM_STDOUT: "The standard output of the program.",
  BPF_STREAM_STDERR: "The standard error of the program, to which the kernel reports faults, too.",
  TCP_BPF_IW: "Initial congestion window, in packets: only before the first data is sent.",
  TCP_BPF_SNDCWND_CLAMP: "Maximum of the congestion window, in packets.",
  TCP_BPF_DELACK_MAX: "Maximum delay of an acknowledgement, in microseconds. Requires Linux 5.10.",
  TCP_BPF_RTO_MIN: "Minimum of the retransmission timeout, in microseconds. Requires Linux 5.10.",
  TCP_BPF_SYN: "The TCP header of the SYN packet. Requires Linux 5.10.",
  TCP_BPF_SYN_IP: "The IP and TCP headers of the SYN packet. Requires Linux 5.10.",
  TCP_BPF_SYN_MAC: "The link-layer, IP and TCP headers of the SYN packet. Requires Linux 5.10.",
  TCP_BPF_SOCK_OPS_CB_FLAGS:
    "The events for which the socket calls sock_ops programs. Requires Linux 6.8.",
  SK_BPF_CB_FLAGS:
    "The events for which the socket calls sock_ops programs: `SK_BPF_CB_TX_TIMESTAMPING`. Requires Linux 6.15.",
  BPF_STACK_BUILD_ID_EMPTY: "The frame is beyond the end of the stack.",
  BPF_STACK_BUILD_ID_IP: "The frame has an address: its file has no build id, or was not found.",
  BPF_CGROUP_ITER_ORDER_UNSPEC: "The default order: descendants after their ancestors.",
  BPF_CGROUP_ITER_SELF_ONLY: "Only the cgroup itself.",
  BPF_CGROUP_ITER_DESCENDANTS_PRE: "The cgroup and its descendants, ancestors before descendants.",
  BPF_CGROUP_ITER_DESCENDANTS_POST: "The cgroup and its descendants, descendants before ancestors.",
  BPF_CGROUP_ITER_ANCESTORS_UP: "The cgroup and its ancestors, up to the root.",
  BPF_CGROUP_ITER_CHILDREN: "The children of the cgroup.",
  PACKET_HOST: "The packet is for this machine.",
  PACKET_BROADCAST: "The packet is for all machines.",
  PACKET_MULTICAST: "The packet is for a group of machines.",
  PACKET_OTHERHOST: "The packet is for another machine.",
  PACKET_OUTGOING: "The packet is sent by this machine.",
  BPF_ANY: "Stores whether the key exists or not.",
  BPF_NOEXIST: "Stores only if the key does not exist: EEXIST otherwise.",
  BPF_EXIST: "Stores only if the key exists: ENOENT otherwise.",
  BPF_F_LOCK: "Reads or stores under the spin lock of the value. Requires Linux 5.1.",
  BPF_F_USER_STACK:
    "Collects the stack of user space, not the kernel's: for `get_stackid` and `get_stack`.",
  BPF_F_SKIP_FIELD_MASK:
    "Mask of the number of innermost frames to skip: for `get_stackid` and `get_stack`.",
  BPF_F_FAST_STACK_CMP: "Compares stacks only by their hash: for `get_stackid`.",
  BPF_F_REUSE_STACKID: "Replaces a different stack with the same id: for `get_stackid`.",
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
    "Wakes the consumer, also if it has not caught up: for `ringbuf_output`, `ringbuf_submit` and `ringbuf_discard`.",
  BPF_RB_AVAIL_DATA: "Number of bytes that the consumer has not read yet: for `ringbuf_query`.",
  BPF_RB_RING_SIZE: "Size of the ring in bytes: for `ringbuf_query`.",
  BPF_RB_CONS_POS: "Consumer position: for `ringbuf_query`.",
  BPF_RB_PROD_POS: "Producer position: for `ringbuf_query`.",
  BPF_F_INGRESS:
    "Redirects to the ingress path, not the egress path: for `redirect`, `clone_redirect`, `msg_redirect_map` and similar helpers.",
  BPF_F_BROADCAST:
    "Redirects to all interfaces of the map: for `redirect_map`. Requires Linux 5.14.",
  BPF_F_EXCLUDE_INGRESS:
    "Excludes the interface on which the packet arrived: with `BPF_F_BROADCAST`. Requires Linux 5.14.",
  BPF_F_RECOMPUTE_CSUM: "Updates the checksum of the packet: for `skb_store_bytes`.",
  BPF_F_INVALIDATE_HASH: "Clears the hash of the packet: for `skb_store_bytes`.",
  BPF_F_HDR_FIELD_MASK:
    "Mask of the size of the field, in bytes: for `l3_csum_replace` and `l4_csum_replace`.",
  BPF_F_PSEUDO_HDR: "The changed field is part of the pseudo header: for `l4_csum_replace`.",
  BPF_F_MARK_MANGLED_0:
    "Handles the checksum of UDP, where 0 means no checksum: 0 stays unchanged, and a result of 0 is stored as 0xffff. For `l4_csum_replace`.",
  BPF_LOCAL_STORAGE_GET_F_CREATE: "Creates the value if it does not exist.",
  BPF_SK_STORAGE_GET_F_CREATE: "Older name of `BPF_LOCAL_STORAGE_GET_F_CREATE`.",
  BPF_ADJ_ROOM_NET: "Adjusts the room between the network header and the transport header.",
  BPF_ADJ_ROOM_MAC: "Adjusts the room between the link-layer header and the network header.",
  BPF_HDR_START_MAC: "Counts from the link-layer header.",
  BPF_HDR_START_NET: "Counts from the network header.",
  BPF_SK_LOOKUP_F_REPLACE:
    "Replaces a socket that was selected before, by this or an earlier program.",
  BPF_SK_LOOKUP_F_NO_REUSEPORT:
    "Selects this socket itself: the kernel does not choose another one of its reuseport group.",
  TCP_ESTABLISHED: "The connection is established.",
  TCP_SYN_SENT: "A SYN was sent, and the reply is pending.",
  TCP_SYN_RECV: "A SYN was received, a SYN-ACK was sent, and its acknowledgement is pending.",
  TCP_FIN_WAIT1: "The local end has closed, and the acknowledgement of its FIN is pending.",
  TCP_FIN_WAIT2: "The local end has closed, and waits for the FIN of the other end.",
  TCP_TIME_WAIT: "Both ends have closed; the socket waits for late packets.",
  TCP_CLOSE: "The socket is not connected.",
  TCP_CLOSE_WAIT: "The other end has closed, and this end has not.",
  TCP_LAST_ACK:
    "The other end has closed before this end, and the acknowledgement of this end's FIN is pending.",
  TCP_LISTEN: "The socket listens for connections.",
  TCP_CLOSING:
    "Both ends have closed at the same time, and the acknowledgement of this end's FIN is pending.",
  TCP_NEW_SYN_RECV: "State of a connection request, which has no full socket yet.",
  TCP_BOUND_INACTIVE:
    "Pseudo state of inet_diag: the socket is bound, but not listening or connecting.",
  PF_KTHREAD: "The task is a kernel thread.",
  PF_IDLE: "The task is an idle thread.",
  PF_EXITING: "The task is exiting.",
  PF_WQ_WORKER: "The task is a workqueue worker.",
  PF_FORKNOEXEC: "The task was forked and has not called execve(2) since.",
  PF_SUPERPRIV: "The task has used a capability.",
  PF_DUMPCORE: "The task has dumped core.",
  PF_SIGNALED: "A signal has killed the task.",
  // Creation of maps.
  BPF_F_LINK: "Registers the `struct_ops` map by a link.",
  // Attaching.
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
  BPF_STATS_RUN_TIME: "Statistics of the runs of programs: for BPF_ENABLE_STATS.",
  BPF_TAG_SIZE: "The size of a program's tag, in bytes.",
  // Helpers.
  BPF_F_IPV6: "The packet is IPv6: for `l4_csum_replace`.",
  BPF_F_PAD_ZEROS: "Fills the rest of the destination with zeros: for `copy_from_user_str`.",
  BPF_F_REDIRECT_FLAGS: "All flags of the helpers that redirect packets.",
  // System calls.
  ETH_HLEN: "The size of an Ethernet header, in bytes.",
  MSG_DONTWAIT: "Does not block.",
  MSG_NOSIGNAL: "Raises no SIGPIPE.",
  HW_BREAKPOINT_R: "Reads.",
  HW_BREAKPOINT_W: "Writes.",
  HW_BREAKPOINT_RW: "Reads and writes.",
  HW_BREAKPOINT_X: "Executions of the instruction at the address.",
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
  ETH_P_ALL: "All protocols: for packet sockets. Frames do not have this type.",
  BPF_F_KPROBE_MULTI_RETURN: "Attaches to the returns of the functions, not to their entries.",
  BPF_F_UPROBE_MULTI_RETURN: "Attaches to the returns of the functions, not to their entries.",
  BPF_F_CPU:
    "Reads or stores the value of one CPU of a per-CPU map. The upper 32 bits of the flags are the CPU. Requires Linux 7.0.",
  BPF_F_ALL_CPUS: "Stores the same value for all CPUs of a per-CPU map. Requires Linux 7.0.",
  BPF_F_NO_PREALLOC: "Map creation: allocates entries when they are stored, not all at creation.",
  BPF_F_NO_COMMON_LRU:
    "Map creation: an LRU map has a list of least recently used entries for each CPU, instead of a common one.",
  BPF_F_NUMA_NODE: "Map creation: allocates the memory on the NUMA node in the field `numa_node`.",
  BPF_F_RDONLY: "Map creation: the descriptor can only read.",
  BPF_F_WRONLY: "Map creation: the descriptor can only write.",
  BPF_F_STACK_BUILD_ID:
    "Map creation: stack traces consist of build ids and offsets in files, instead of addresses.",
  BPF_F_ZERO_SEED: "Map creation: the hash function has no random seed.",
  BPF_F_RDONLY_PROG: "Map creation: programs can only read.",
  BPF_F_WRONLY_PROG: "Map creation: programs can only write.",
  BPF_F_CLONE:
    "Map creation: the storage of a listening socket is copied to the sockets that it accepts.",
  BPF_F_MMAPABLE: "Map creation: the values can be mapped into a process.",
  BPF_F_PRESERVE_ELEMS:
    "Map creation: perf events stay in the map after the map descriptor through which they were stored is closed.",
  BPF_F_INNER_MAP:
    "Map creation: the array can be an inner map although its number of entries differs from the template's.",
  BPF_F_PATH_FD:
    "The path is relative to the directory in the field `path_fd`: for BPF_OBJ_PIN and BPF_OBJ_GET.",
  BPF_F_VTYPE_BTF_OBJ_FD:
    "Map creation: the value type of a struct_ops map is in the BTF of the field `value_type_btf_obj_fd`.",
  BPF_F_TOKEN_FD: "The call uses the BPF token in its field for one.",
  BPF_F_SEGV_ON_FAULT:
    "Map creation: an access from user space to an unallocated page of an arena raises SIGSEGV.",
  BPF_F_NO_USER_CONV:
    "Map creation: pointers into the arena are not converted to user-space addresses.",
  BPF_F_RB_OVERWRITE:
    "Map creation: new records overwrite the oldest ones when the ring buffer is full. Requires Linux 6.19.",
  BPF_STACK_BUILD_ID_VALID: "Status of a stack frame that has a build id and an offset.",
  BPF_F_MARK_ENFORCE:
    "Updates a checksum of 0 as well: for `l4_csum_replace` with `BPF_F_MARK_MANGLED_0`.",
  BPF_F_TUNINFO_IPV6:
    "The addresses of the tunnel are IPv6 addresses: for `skb_set_tunnel_key` and `skb_get_tunnel_key`.",
  BPF_F_ZERO_CSUM_TX: "Sends packets with the UDP checksum 0: for `skb_set_tunnel_key`.",
  BPF_F_DONT_FRAGMENT: "Forbids fragmentation of the outer packet: for `skb_set_tunnel_key`.",
  BPF_F_SEQ_NUMBER: "Adds a sequence number to the tunnel header: for `skb_set_tunnel_key`.",
  BPF_F_NO_TUNNEL_KEY: "Adds no tunnel key to the tunnel header: for `skb_set_tunnel_key`.",
  BPF_F_TUNINFO_FLAGS:
    "Returns the flags of the tunnel in the field `tunnel_flags`: for `skb_get_tunnel_key`.",
  BPF_F_ADJ_ROOM_FIXED_GSO: "Keeps the segment size of GSO packets: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV4: "The new room is for an outer IPv4 header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV6: "The new room is for an outer IPv6 header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L4_GRE: "The new room is also for a GRE header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L4_UDP: "The new room is also for a UDP header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_NO_CSUM_RESET: "Keeps the state of checksum offloading: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_ENCAP_L2_ETH:
    "The new room is also for an inner Ethernet header: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_DECAP_L3_IPV4:
    "After the removal of an outer header, the packet is IPv4: for `skb_adjust_room`.",
  BPF_F_ADJ_ROOM_DECAP_L3_IPV6:
    "After the removal of an outer header, the packet is IPv6: for `skb_adjust_room`.",
  BPF_F_SYSCTL_BASE_NAME: "Copies only the last part of the name: for `sysctl_get_name`.",
  BPF_F_GET_BRANCH_RECORDS_SIZE:
    "Returns the size of the records in bytes, and copies none: for `read_branch_records`.",
  BPF_RB_OVERWRITE_POS:
    "Position of the oldest record that was not overwritten: for `ringbuf_query`. Requires Linux 6.19.",
  BPF_RINGBUF_BUSY_BIT: "Bit in the header of a record that was reserved and not submitted yet.",
  BPF_RINGBUF_DISCARD_BIT: "Bit in the header of a record that was discarded.",
  BPF_RINGBUF_HDR_SZ: "Size of the header of a record, in bytes.",
  BPF_F_BPRM_SECUREEXEC:
    "Executes the file as if its privileges changed (AT_SECURE): for `bprm_opts_set`.",
  BPF_F_TIMER_ABS: "The time is absolute, not relative to now: for `timer_start`.",
  BPF_F_TIMER_CPU_PIN: "The timer fires on the CPU that started it: for `timer_start`.",
  BPF_FIB_LOOKUP_DIRECT: "Looks up the address in one routing table, without the FIB rules.",
  BPF_FIB_LOOKUP_OUTPUT:
    "Looks up the address for a packet that is sent, not for one that is received.",
  BPF_FIB_LOOKUP_SKIP_NEIGH:
    "Does not look up the neighbour: the fields `smac` and `dmac` are not set.",
  BPF_FIB_LOOKUP_TBID: "Uses the routing table in the field `tbid`: with `BPF_FIB_LOOKUP_DIRECT`.",
  BPF_FIB_LOOKUP_SRC:
    "Sets the field `ipv4_src` or `ipv6_src` to the source address for the next hop.",
  BPF_FIB_LOOKUP_MARK:
    "Applies the FIB rules for the mark in the field `mark`: not with `BPF_FIB_LOOKUP_DIRECT`.",
  BPF_FIB_LKUP_RET_SUCCESS: "A next hop was found.",
  BPF_FIB_LKUP_RET_BLACKHOLE: "The route is a blackhole: the packet can be dropped.",
  BPF_FIB_LKUP_RET_UNREACHABLE:
    "The route says that the destination is unreachable: the packet can be dropped.",
  BPF_FIB_LKUP_RET_PROHIBIT: "The route prohibits the destination: the packet can be dropped.",
  BPF_FIB_LKUP_RET_NOT_FWDED:
    "The packet is not forwarded, for example because its destination is this machine.",
  BPF_FIB_LKUP_RET_FWD_DISABLED:
    "Forwarding is disabled on the interface on which the packet arrived.",
  BPF_FIB_LKUP_RET_UNSUPP_LWT: "The route requires encapsulation (a lightweight tunnel).",
  BPF_FIB_LKUP_RET_NO_NEIGH: "The next hop has no entry in the neighbour table.",
  BPF_FIB_LKUP_RET_FRAG_NEEDED: "The packet is larger than the MTU and has to be fragmented.",
  BPF_FIB_LKUP_RET_NO_SRC_ADDR: "No source address was found: with `BPF_FIB_LOOKUP_SRC`.",
  BPF_MTU_CHK_SEGS: "Checks the segments of a GSO packet against the MTU.",
  BPF_MTU_CHK_RET_SUCCESS: "The packet does not exceed the MTU.",
  BPF_MTU_CHK_RET_FRAG_NEEDED: "The packet exceeds the MTU.",
  BPF_MTU_CHK_RET_SEGS_TOOBIG: "A segment of the GSO packet exceeds the MTU.",
  BPF_SOCK_OPS_TIMEOUT_INIT:
    "Requests the retransmission timeout of SYN packets; -1 is the kernel's default.",
  BPF_SOCK_OPS_RWND_INIT:
    "Requests the initial receive window in packets; -1 is the kernel's default.",
  BPF_SOCK_OPS_TCP_CONNECT_CB: "The socket is about to connect.",
  BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: "A connection that this socket has initiated is established.",
  BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
    "A connection that the other end has initiated is established.",
  BPF_SOCK_OPS_NEEDS_ECN: "Requests 1 if the congestion control needs ECN, otherwise 0.",
  BPF_SOCK_OPS_BASE_RTT:
    "Requests the base round-trip time, which depends on the congestion control.",
  BPF_SOCK_OPS_RTO_CB: "The retransmission timeout has expired.",
  BPF_SOCK_OPS_RETRANS_CB: "A packet was retransmitted.",
  BPF_SOCK_OPS_STATE_CB: "The TCP state changes: `args[0]` is the old one, `args[1]` the new one.",
  BPF_SOCK_OPS_TCP_LISTEN_CB: "The socket has changed to the state LISTEN.",
  BPF_SOCK_OPS_RTT_CB: "The round-trip time was measured.",
  BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
    "A packet was received whose header options the program can parse.",
  BPF_SOCK_OPS_HDR_OPT_LEN_CB:
    "The program can reserve space for header options, with the helper `reserve_hdr_opt`.",
  BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
    "The program can write header options, with the helper `store_hdr_opt`.",
};
