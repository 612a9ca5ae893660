/** @module The parts of the kernel's headers that each file of src/uapi contains. */

/** Constants of a header: an `export const` for each, or the properties of one object. */
export interface Constants {
  /** The path below the headers for user space. The prefix `kernel:` marks a header that is internal to the kernel. */
  readonly header: string;
  /** Selects names of macros and of members of enums. By default an object has all names with its prefix. */
  readonly names?: RegExp;
  /** Selects only the members of this enum, each as a constant. */
  readonly enum?: string;
  /** A list of the names by their numbers, as one string. */
  readonly list?: {
    readonly name: string;
    /** The prefix that is removed from the names. */
    readonly prefix?: string;
  };
  /** An object of the names and numbers. */
  readonly object?: {
    readonly name: string;
    /** The prefix that is removed from the names. */
    readonly prefix: string;
    /** Selects only the members of this enum. */
    readonly enum?: string;
  };
}

/** A file of constants. */
export interface ConstantFile {
  readonly about: string;
  readonly groups: readonly { readonly about?: string; readonly from: readonly Constants[] }[];
}

/** A struct or union, or a part of a union. */
export interface Layout {
  readonly type: string;
  /** A part of the union: an anonymous struct by two of its members, or a member by its name. */
  readonly part?: readonly [string, string?];
  /** Bit-fields to include: each as the number of its first bit, counted from the start of the struct. */
  readonly bits?: readonly string[];
}

const enumOf = (name: string, prefix: string, type: string): Constants => ({
  header: "linux/bpf.h",
  object: { name, prefix, enum: type },
});

const anywhere = "the same on x86-64 and arm64";

/** The files of constants by name. */
export const constantFiles: Readonly<Record<string, ConstantFile>> = {
  "bpf.ts": {
    about: "flags and sizes of bpf(2)",
    groups: [
      {
        from: [
          {
            header: "linux/bpf.h",
            names:
              /^BPF_(ANY$|NOEXIST$|EXIST$|F_|RB_|RINGBUF_|OBJ_NAME_LEN|STACK_BUILD_ID_VALID|TAG_SIZE|STATS_RUN_TIME$)/,
          },
        ],
      },
    ],
  },
  "enumerations.ts": {
    about: "types of maps, programs, attachments, links and perf events",
    groups: [
      {
        from: [
          enumOf("bpfMapTypes", "BPF_MAP_TYPE_", "bpf_map_type"),
          enumOf("bpfProgTypes", "BPF_PROG_TYPE_", "bpf_prog_type"),
          enumOf("bpfAttachTypes", "BPF_", "bpf_attach_type"),
          enumOf("bpfLinkTypes", "BPF_LINK_TYPE_", "bpf_link_type"),
          enumOf("bpfPerfEventTypes", "BPF_PERF_EVENT_", "bpf_perf_event_type"),
          enumOf("bpfCoreRelocations", "BPF_CORE_", "bpf_core_relo_kind"),
          enumOf("bpfCgroupIterOrders", "BPF_CGROUP_ITER_", "bpf_cgroup_iter_order"),
        ],
      },
    ],
  },
  "commands.ts": {
    about: "commands of bpf(2)",
    groups: [
      {
        from: [
          {
            header: "linux/bpf.h",
            // BPF_COMMON_ATTRS is a flag, not a command.
            names: /^(?!BPF_COMMON_ATTRS$)/,
            enum: "bpf_cmd",
            list: { name: "bpfCommandNames", prefix: "BPF_" },
          },
        ],
      },
    ],
  },
  "instruction.ts": {
    about: "the instruction set: classes, sizes, modes, operations and pseudo sources",
    groups: [
      {
        from: [
          {
            header: "linux/bpf_common.h",
            names:
              /^BPF_(LD|LDX|ST|STX|ALU|JMP|W|H|B|IMM|ABS|IND|MEM|ADD|SUB|MUL|DIV|OR|AND|LSH|RSH|NEG|MOD|XOR|JA|JEQ|JGT|JGE|JSET|K|X)$/,
          },
          {
            header: "linux/bpf.h",
            names:
              /^BPF_(JMP32|ALU64|DW|MEMSX|ATOMIC|MOV|ARSH|END|TO_LE|TO_BE|JNE|JLT|JLE|JSGT|JSGE|JSLT|JSLE|JCOND|CALL|EXIT|FETCH|XCHG|CMPXCHG|LOAD_ACQ|STORE_REL|MAY_GOTO|ADDR_SPACE_CAST|PSEUDO_\w+)$/,
          },
          { header: "kernel:linux/filter.h", names: /^BPF_ADDR_PERCPU$/ },
        ],
      },
    ],
  },
  "helpers.ts": {
    about: "enum bpf_func_id: helper functions that a program can call, by name",
    groups: [
      { from: [{ header: "linux/bpf.h", object: { name: "bpfHelpers", prefix: "BPF_FUNC_" } }] },
    ],
  },
  "btf.ts": {
    about: "the BPF Type Format",
    groups: [
      { from: [{ header: "linux/btf.h", names: /^BTF_(KIND_|INT_|MAGIC|VERSION|VAR_|FUNC_)/ }] },
    ],
  },
  "errno.ts": {
    about: `error numbers; ${anywhere}`,
    groups: [
      {
        from: ["asm-generic/errno-base.h", "asm-generic/errno.h"].map((header) => ({
          header,
          names: /^E[A-Z0-9]+$/,
          list: { name: "errnoNames" },
        })),
      },
      {
        about: "Internal to the kernel, but bpf(2) returns it",
        from: [{ header: "kernel:linux/errno.h", names: /^ENOTSUPP$/ }],
      },
    ],
  },
  "system.ts": {
    about: "system calls and their arguments",
    groups: [
      {
        about: `fcntl(2) and open(2); ${anywhere}`,
        from: [
          { header: "asm-generic/fcntl.h", names: /^(O_(PATH|ACCMODE|RDONLY|WRONLY)|F_GETFL)$/ },
          { header: "linux/fcntl.h", names: /^F_DUPFD_CLOEXEC$/ },
        ],
      },
      {
        about: `mmap(2) and mremap(2); ${anywhere}`,
        from: [
          {
            header: "asm-generic/mman-common.h",
            names: /^(PROT_(NONE|READ|WRITE)|MAP_(ANONYMOUS|FIXED|FIXED_NOREPLACE|POPULATE))$/,
          },
          {
            header: "linux/mman.h",
            names: /^(MAP_(SHARED|PRIVATE)|MREMAP_(MAYMOVE|FIXED))$/,
          },
        ],
      },
      {
        about: "memfd_create(2)",
        from: [{ header: "linux/memfd.h", names: /^MFD_(CLOEXEC|NOEXEC_SEAL)$/ }],
      },
      {
        about: `poll(2), epoll(7) and eventfd(2); ${anywhere}`,
        from: [
          { header: "asm-generic/poll.h", names: /^POLL(IN|OUT|ERR|HUP)$/ },
          { header: "linux/eventpoll.h", names: /^EPOLL(_CLOEXEC|_CTL_ADD|ET)$/ },
          { header: "linux/eventfd.h", names: /^EFD_CLOEXEC$/ },
        ],
      },
      {
        about: "clock_gettime(2)",
        from: [{ header: "linux/time.h", names: /^CLOCK_(REALTIME|MONOTONIC|BOOTTIME)$/ }],
      },
      {
        about: `getrlimit(2); ${anywhere}`,
        from: [{ header: "asm-generic/resource.h", names: /^RLIMIT_MEMLOCK$/ }],
      },
      {
        about: `unshare(2), setns(2) and pidfd_open(2); ${anywhere}`,
        from: [
          { header: "linux/sched.h", names: /^CLONE_NEW(?:CGROUP|NET)$/ },
          { header: "linux/pidfd.h", names: /^PIDFD_THREAD$/ },
        ],
      },
      {
        about: "fsopen(2), fsconfig(2) and fsmount(2)",
        from: [
          {
            header: "linux/mount.h",
            names: /^(FSOPEN_CLOEXEC|FSMOUNT_CLOEXEC|FSCONFIG_CMD_CREATE|FSCONFIG_SET_STRING)$/,
          },
        ],
      },
      {
        about: "capabilities(7)",
        from: [
          {
            header: "linux/capability.h",
            names: /^CAP_(NET_ADMIN|SYS_ADMIN|SYS_RESOURCE|PERFMON|BPF)$/,
          },
        ],
      },
      {
        about: "lsm_list_modules(2)",
        from: [
          {
            header: "linux/lsm.h",
            names: /^LSM_ID_(?!UNDEF)/,
            object: { name: "lsmIds", prefix: "LSM_ID_" },
          },
        ],
      },
      {
        about: "perf_event_open(2)",
        from: [
          {
            header: "linux/perf_event.h",
            names:
              /^PERF_(TYPE_|COUNT_(SW|HW)_|SAMPLE_RAW|RECORD_(LOST|SAMPLE)$|EVENT_IOC_(ENABLE|DISABLE|SET_BPF|PAUSE_OUTPUT|QUERY_BPF)|FLAG_FD_CLOEXEC)/,
          },
        ],
      },
      {
        about: "Breakpoints of perf_event_open(2)",
        from: [{ header: "linux/hw_breakpoint.h", names: /^HW_BREAKPOINT_(LEN_[1248]|R|W|RW|X)$/ }],
      },
      {
        about: "io_uring(7)",
        from: [
          {
            header: "linux/io_uring.h",
            names:
              /^(IORING_OP_(POLL_ADD|POLL_REMOVE|SEND|ASYNC_CANCEL)|IORING_OFF_\w+|IORING_ENTER_GETEVENTS|IORING_FEAT_\w+|IORING_SETUP_(CQSIZE|CLAMP)|IORING_SQ_CQ_OVERFLOW|IOSQE_IO_LINK|IOSQE_CQE_SKIP_SUCCESS|IOSQE_IO_LINK_BIT|IOSQE_CQE_SKIP_SUCCESS_BIT)$/,
          },
        ],
      },
      {
        about: "Linux AIO: io_submit(2)",
        from: [{ header: "linux/aio_abi.h", names: /^IOCB_(CMD_POLL|FLAG_RESFD)$/ }],
      },
    ],
  },
  "network.ts": {
    about: "sockets, netlink and netfilter",
    groups: [
      {
        about: `socket(2) and send(2); ${anywhere}`,
        from: [
          {
            header: "kernel:linux/socket.h",
            names: /^(AF_(UNIX|INET|NETLINK|PACKET)|SOL_NETLINK|SOL_TCP|MSG_(DONTWAIT|NOSIGNAL))$/,
          },
          { header: "kernel:linux/net.h", names: /^SOCK_(STREAM|DGRAM|RAW|NONBLOCK|CLOEXEC)$/ },
        ],
      },
      {
        about: `setsockopt(2); ${anywhere}`,
        from: [
          {
            header: "asm-generic/socket.h",
            names:
              /^(SOL_SOCKET|SO_REUSEPORT|SO_ATTACH_BPF|SO_DETACH_BPF|SO_ATTACH_REUSEPORT_EBPF|SO_DETACH_REUSEPORT_BPF)$/,
          },
          { header: "linux/tcp.h", names: /^TCP_CONGESTION$/ },
        ],
      },
      {
        about: "netlink(7): network interfaces and traffic control",
        from: [
          {
            header: "linux/netlink.h",
            names:
              /^(NETLINK_ROUTE|NLM_F_(REQUEST|ACK|ACK_TLVS|ECHO|EXCL|CREATE|REPLACE|DUMP|MULTI|DUMP_INTR)|NLMSG_(ERROR|DONE)|NLMSGERR_ATTR_MSG|NLA_F_NESTED|NLA_TYPE_MASK|NETLINK_(EXT|CAP)_ACK)$/,
          },
          {
            header: "linux/rtnetlink.h",
            names:
              /^(RTM_(NEWLINK|SETLINK|GETLINK|DELLINK|NEWQDISC|GETQDISC|DELQDISC|NEWTFILTER|GETTFILTER|DELTFILTER)|TCA_(KIND|OPTIONS|CHAIN))$/,
          },
          {
            header: "linux/if_link.h",
            names:
              /^(IFLA_(LINKINFO|INFO_KIND|INFO_DATA|IFNAME|MTU|XDP|XDP_\w+|NETKIT_\w+)|XDP_(FLAGS|ATTACHED)_\w+)$/,
          },
          { header: "linux/if.h", names: /^(IFNAMSIZ|IFF_UP)$/ },
          { header: "linux/veth.h", names: /^VETH_INFO_PEER$/ },
          { header: "linux/if_ether.h", names: /^ETH_(P_ALL|P_IP|HLEN)$/ },
          {
            header: "linux/pkt_sched.h",
            names: /^TC_H_(CLSACT|MIN_INGRESS|MIN_EGRESS|ROOT|UNSPEC)$/,
          },
          {
            header: "linux/pkt_cls.h",
            names: /^TCA_BPF_(FD|NAME|FLAGS|FLAG_ACT_DIRECT|ID|TAG|UNSPEC)$/,
          },
        ],
      },
      {
        about: "Families and hooks of netfilter",
        from: [
          {
            header: "linux/netfilter.h",
            names: /^NFPROTO_(?!NUMPROTO)/,
            object: { name: "netfilterFamilies", prefix: "NFPROTO_" },
          },
          {
            header: "linux/netfilter.h",
            names: /^NF_INET_(?!NUMHOOKS)/,
            object: { name: "netfilterHooks", prefix: "NF_INET_", enum: "nf_inet_hooks" },
          },
        ],
      },
    ],
  },
};

/** The headers that declare the structs. */
export const layoutHeaders = [
  "linux/bpf.h",
  "linux/perf_event.h",
  "linux/io_uring.h",
  "linux/aio_abi.h",
] as const;

/** The structs, by their names in layout.ts. */
export const layouts: Readonly<Record<string, Layout>> = {
  MAP_CREATE: { type: "bpf_attr", part: ["map_type", "max_entries"] },
  MAP_ELEM: { type: "bpf_attr", part: ["key", "value"] },
  MAP_BATCH: { type: "bpf_attr", part: ["batch"] },
  PROG_LOAD: { type: "bpf_attr", part: ["prog_type", "insns"] },
  OBJ: { type: "bpf_attr", part: ["pathname", "bpf_fd"] },
  PROG_TEST_RUN: { type: "bpf_attr", part: ["test"] },
  GET_ID: { type: "bpf_attr", part: ["start_id", "next_id"] },
  GET_INFO_BY_FD: { type: "bpf_attr", part: ["info"] },
  PROG_ATTACH: { type: "bpf_attr", part: ["attach_bpf_fd", "attach_type"] },
  RAW_TRACEPOINT_OPEN: { type: "bpf_attr", part: ["raw_tracepoint"] },
  BTF_LOAD: { type: "bpf_attr", part: ["btf", "btf_log_buf"] },
  LINK_CREATE: { type: "bpf_attr", part: ["link_create"] },
  LINK_UPDATE: { type: "bpf_attr", part: ["link_update"] },
  LINK_DETACH: { type: "bpf_attr", part: ["link_detach"] },
  PROG_BIND_MAP: { type: "bpf_attr", part: ["prog_bind_map"] },
  PROG_QUERY: { type: "bpf_attr", part: ["query"] },
  ENABLE_STATS: { type: "bpf_attr", part: ["enable_stats"] },
  ITER_CREATE: { type: "bpf_attr", part: ["iter_create"] },
  ITER_LINK_INFO: { type: "bpf_iter_link_info" },
  MAP_INFO: { type: "bpf_map_info" },
  PROG_INFO: { type: "bpf_prog_info", bits: ["gpl_compatible"] },
  LINK_INFO: { type: "bpf_link_info" },
  BTF_INFO: { type: "bpf_btf_info" },
  PERF_EVENT_ATTR: {
    type: "perf_event_attr",
    bits: [
      "disabled",
      "inherit",
      "exclude_user",
      "exclude_kernel",
      "freq",
      "watermark",
      "write_backward",
    ],
  },
  PERF_EVENT_HEADER: { type: "perf_event_header" },
  PERF_EVENT_MMAP_PAGE: { type: "perf_event_mmap_page" },
  IO_URING_PARAMS: { type: "io_uring_params" },
  IO_URING_SQE: { type: "io_uring_sqe" },
  IO_URING_CQE: { type: "io_uring_cqe" },
  IOCB: { type: "iocb" },
  IO_EVENT: { type: "io_event" },
};

/** System calls that libc does not wrap. */
export const syscallNames = [
  "bpf",
  "perf_event_open",
  "io_uring_setup",
  "io_uring_enter",
  "io_setup",
  "io_destroy",
  "io_submit",
  "io_cancel",
  "io_getevents",
  "fsopen",
  "fsconfig",
  "fsmount",
  "pidfd_open",
  "lsm_list_modules",
] as const;
