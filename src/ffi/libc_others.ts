/** @module Functions of libc and system calls for rings, perf events, sockets and namespaces. Maps do not need them. */

import { type FFIFunction, FFIType } from "bun:ffi";
import { openFunctions, openSystemCalls } from "./libc.ts";

const functions = {
  // ssize_t read(int fd, void *buf, size_t count): the buffers are so short that i32 holds the result.
  read: { args: ["i32", "ptr", "u64"], returns: "i32" },
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
  // ssize_t send(int fd, const void *buf, size_t len, int flags), like recv: messages are so short that i32 holds the result.
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
  // int unshare(int flags): like setns, it affects only the calling thread.
  unshare: { args: ["i32"], returns: "i32" },
  setns: {
    args: [
      "i32", // int fd
      "i32", // int nstype
    ],
    returns: "i32",
  },
  // unsigned int if_nametoindex(const char *ifname)
  if_nametoindex: { args: ["ptr"], returns: "u32" },
  // char *if_indextoname(unsigned int ifindex, char ifname[IF_NAMESIZE])
  if_indextoname: { args: ["u32", "ptr"], returns: "ptr" },
  clock_gettime: {
    args: [
      "i32", // clockid_t clock
      "ptr", // struct timespec *
    ],
    returns: "i32",
  },
} as const satisfies Record<string, FFIFunction>;

const systemCalls = {
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
  pidfd_open: {
    args: [
      "i64", // long number
      "i32", // pid_t pid
      "u32", // unsigned int flags
    ],
    returns: "i32",
  },
} as const satisfies Record<string, FFIFunction>;

/** The functions of libc that libc.ts does not open. */
export const otherLibc = /*@__PURE__*/ openFunctions(functions);

/** The system calls that libc.ts does not open. */
export const otherSyscalls = /*@__PURE__*/ openSystemCalls(systemCalls);
