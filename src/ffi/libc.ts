import {
  dlopen,
  type FFIFunction,
  FFIType,
  type Library,
  linkSymbols,
  type Pointer,
} from "bun:ffi";
import { architecture, platformObstacle } from "./platform.ts";

/** The names of the C library, glibc's before musl's; on musl a file of glibc's name does not exist or is a link to musl. */
const libraryNames = [
  "libc.so.6",
  architecture === "arm64" ? "libc.musl-aarch64.so.1" : "libc.musl-x86_64.so.1",
];

const functions = {
  /** int *__errno_location(void): its own address for each thread. */
  __errno_location: { args: [], returns: "ptr" },
  // A mapping's address fits a double; MAP_FAILED (-1) comes back as what is not a positive safe integer.
  mmap: {
    args: [
      "ptr", // void *addr
      "u64", // size_t length
      "i32", // int prot
      "i32", // int flags
      "i32", // int fd
      "i64", // off_t offset
    ],
    returns: FFIType.i64_fast,
  },
  munmap: { args: ["ptr", "u64"], returns: "i32" },
  mremap: {
    args: [
      "u64", // void *old_address
      "u64", // size_t old_size
      "u64", // size_t new_size
      "i32", // int flags
      "u64", // void *new_address
    ],
    returns: FFIType.i64_fast,
  },
  close: { args: ["i32"], returns: "i32" },
  fcntl: {
    args: [
      "i32", // int fd
      "i32", // int cmd
      "i64", // long arg
    ],
    returns: "i32",
  },
  ioctl: {
    args: [
      "i32", // int fd
      "u64", // unsigned long request
      "i64", // long arg
    ],
    returns: "i32",
  },
  socketpair: {
    args: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
      "ptr", // int fds[2]
    ],
    returns: "i32",
  },
  socket: {
    args: [
      "i32", // int domain
      "i32", // int type
      "i32", // int protocol
    ],
    returns: "i32",
  },
  setsockopt: {
    args: [
      "i32", // int fd
      "i32", // int level
      "i32", // int optname
      "ptr", // const void *optval
      "u32", // socklen_t optlen
    ],
    returns: "i32",
  },
  /** ssize_t send(int fd, const void *buf, size_t len, int flags), as recv: of messages that fit 32 bits by far */
  send: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
  eventfd: {
    args: [
      "u32", // unsigned int initval
      "i32", // int flags
    ],
    returns: "i32",
  },
  poll: {
    args: [
      "ptr", // struct pollfd *fds
      "u64", // nfds_t nfds
      "i32", // int timeout
    ],
    returns: "i32",
  },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: {
    args: [
      "i32", // int epfd
      "i32", // int op
      "i32", // int fd
      "ptr", // struct epoll_event *event
    ],
    returns: "i32",
  },
  epoll_wait: {
    args: [
      "i32", // int epfd
      "ptr", // struct epoll_event *events
      "i32", // int maxevents
      "i32", // int timeout
    ],
    returns: "i32",
  },
  memfd_create: {
    args: [
      "ptr", // const char *name
      "u32", // unsigned int flags
    ],
    returns: "i32",
  },
  /** int unshare(int flags): of the calling thread alone, as setns */
  unshare: { args: ["i32"], returns: "i32" },
  setns: {
    args: [
      "i32", // int fd
      "i32", // int nstype
    ],
    returns: "i32",
  },
  /** int getrlimit(int resource, struct rlimit *rlim), as setrlimit: two u64, what counts and how far it can be raised */
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
  getpagesize: { args: [], returns: "i32" },
  /** int uname(struct utsname *buf) */
  uname: { args: ["ptr"], returns: "i32" },
  /** unsigned int if_nametoindex(const char *ifname) */
  if_nametoindex: { args: ["ptr"], returns: "u32" },
  /** char *if_indextoname(unsigned int ifindex, char ifname[IF_NAMESIZE]) */
  if_indextoname: { args: ["u32", "ptr"], returns: "ptr" },
  clock_gettime: {
    args: [
      "i32", // clockid_t clock
      "ptr", // struct timespec *
    ],
    returns: "i32",
  },
} as const satisfies Record<string, FFIFunction>;

/** System calls without a wrapper in libc, each with its own signature over syscall(2); the first argument is the number. */
const systemCalls = {
  bpf: {
    args: [
      "i64", // long number
      "i32", // int cmd
      "ptr", // union bpf_attr *attr
      "u32", // unsigned int size
    ],
    returns: "i32",
  },
  perf_event_open: {
    args: [
      "i64", // long number
      "ptr", // struct perf_event_attr *attr
      "i32", // pid_t pid
      "i32", // int cpu
      "i32", // int group_fd
      "u64", // unsigned long flags
    ],
    returns: "i32",
  },
  io_uring_setup: {
    args: [
      "i64", // long number
      "u32", // u32 entries
      "ptr", // struct io_uring_params *p
    ],
    returns: "i32",
  },
  io_uring_enter: {
    args: [
      "i64", // long number
      "i32", // unsigned int fd
      "u32", // u32 to_submit
      "u32", // u32 min_complete
      "u32", // u32 flags
      "ptr", // sigset_t *sig
      "u64", // size_t sigsetsize
    ],
    returns: "i32",
  },
  io_setup: {
    args: [
      "i64", // long number
      "u32", // unsigned nr_events
      "ptr", // aio_context_t *ctx
    ],
    returns: "i32",
  },
  io_destroy: {
    args: [
      "i64", // long number
      "ptr", // aio_context_t ctx
    ],
    returns: "i32",
  },
  io_submit: {
    args: [
      "i64", // long number
      "ptr", // aio_context_t ctx
      "i64", // long nr
      "ptr", // struct iocb **iocbpp
    ],
    returns: "i32",
  },
  io_cancel: {
    args: [
      "i64", // long number
      "ptr", // aio_context_t ctx
      "ptr", // struct iocb *iocb
      "ptr", // struct io_event *result
    ],
    returns: "i32",
  },
  io_getevents: {
    args: [
      "i64", // long number
      "ptr", // aio_context_t ctx
      "i64", // long min_nr
      "i64", // long nr
      "ptr", // struct io_event *events
      "ptr", // struct timespec *timeout
    ],
    returns: "i32",
  },
  fsopen: {
    args: [
      "i64", // long number
      "ptr", // const char *fs_name
      "u32", // unsigned int flags
    ],
    returns: "i32",
  },
  fsconfig: {
    args: [
      "i64", // long number
      "i32", // int fs_fd
      "u32", // unsigned int cmd
      "ptr", // const char *key
      "ptr", // const void *value
      "i32", // int aux
    ],
    returns: "i32",
  },
  fsmount: {
    args: [
      "i64", // long number
      "i32", // int fs_fd
      "u32", // unsigned int flags
      "u32", // unsigned int attr_flags
    ],
    returns: "i32",
  },
  pidfd_open: {
    args: [
      "i64", // long number
      "i32", // pid_t pid
      "u32", // unsigned int flags
    ],
    returns: "i32",
  },
  lsm_list_modules: {
    args: [
      "i64", // long number
      "ptr", // u64 *ids
      "ptr", // u32 *size
      "u32", // u32 flags
    ],
    returns: "i32",
  },
} as const satisfies Record<string, FFIFunction>;

/** Addresses of functions of libc, to hand to the engine or the kernel. */
interface Addresses {
  readonly munmap: Pointer;
}

interface LibC {
  readonly functions: Library<typeof functions>["symbols"];
  readonly systemCalls: Library<typeof systemCalls>["symbols"];
  readonly addresses: Addresses;
}

function openLibrary<Symbols extends Record<string, FFIFunction>>(
  symbols: Symbols,
): Library<Symbols> {
  let failure: unknown;
  for (const name of libraryNames) {
    try {
      return dlopen(name, symbols);
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`cannot open the C library, neither as ${libraryNames.join(" nor as ")}`, {
    cause: failure,
  });
}

/** The address of an opened function: the engine has it as `ptr`, which the type declarations lack. */
function addressOf(symbol: unknown): Pointer {
  return (symbol as { readonly ptr: Pointer }).ptr;
}

/** A table in whose place nothing works: so that types and specs can be imported and built where BPF cannot run. */
function refusingTable<Table extends object>(reason: string): Table {
  const refuse = () => {
    throw new Error(reason);
  };
  return new Proxy({} as Table, { get: () => refuse });
}

function open(): LibC {
  if (platformObstacle !== undefined) {
    return {
      functions: refusingTable(platformObstacle),
      systemCalls: refusingTable(platformObstacle),
      addresses: { munmap: 0 as Pointer },
    };
  }
  const opened = openLibrary(functions).symbols;
  const { syscall } = openLibrary({ syscall: { args: ["i64"], returns: "i64" } }).symbols;
  const address = addressOf(syscall);
  const linked = Object.fromEntries(
    Object.entries(systemCalls).map(([name, signature]) => [name, { ...signature, ptr: address }]),
  ) as unknown as typeof systemCalls;
  return {
    functions: opened,
    systemCalls: linkSymbols(linked).symbols,
    addresses: { munmap: addressOf(opened.munmap) },
  };
}

/** libc through one typed table. The library is in the process already: opening it only finds the symbols. */
export const { functions: libc, systemCalls: syscalls, addresses: libcAddresses } = open();
