import {
  dlopen,
  type FFIFunction,
  FFIType,
  type Library,
  linkSymbols,
  type Pointer,
} from "bun:ffi";
import { architecture, platformObstacle } from "./platform.ts";

/** The file names of the C library: glibc, then musl. On musl, glibc's name does not exist or is a link to musl. */
const libraryNames = [
  "libc.so.6",
  architecture === "arm64" ? "libc.musl-aarch64.so.1" : "libc.musl-x86_64.so.1",
];

/** The functions that every script needs. The others are in libc_others.ts, because opening each function takes time. */
const functions = {
  // int *__errno_location(void): the address differs between threads.
  __errno_location: { args: [], returns: "ptr" },
  // The address of a mapping fits in a double. MAP_FAILED (-1) is returned as a value that is not a positive safe integer.
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
  close: { args: ["i32"], returns: "i32" },
  fcntl: {
    args: [
      "i32", // int fd
      "i32", // int cmd
      "i64", // long arg
    ],
    returns: "i32",
  },
  // int getrlimit(int resource, struct rlimit *rlim), like setrlimit. The struct has two u64: the soft and the hard limit.
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
  getpagesize: { args: [], returns: "i32" },
  // int uname(struct utsname *buf)
  uname: { args: ["ptr"], returns: "i32" },
} as const satisfies Record<string, FFIFunction>;

/** System calls without a wrapper in libc, called through syscall(2): the first argument is the number of the call. */
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
} as const satisfies Record<string, FFIFunction>;

/** A table of functions by their names, with their types. */
type Symbols<Table extends Record<string, FFIFunction>> = Library<Table>["symbols"];

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

/** Returns the address of an opened function: its property `ptr`, which the type declarations lack. */
function addressOf(symbol: unknown): Pointer {
  return (symbol as { readonly ptr: Pointer }).ptr;
}

/** Returns a table whose functions throw, so that types and specs can be used on platforms where BPF cannot run. */
function refusingTable<Table extends object>(reason: string): Table {
  const refuse = () => {
    throw new Error(reason);
  };
  return new Proxy({} as Table, { get: () => refuse });
}

/** Opens functions of libc. The library is already loaded in the process, so this only looks up its symbols. */
export function openFunctions<Table extends Record<string, FFIFunction>>(
  table: Table,
): Symbols<Table> {
  if (platformObstacle !== undefined) return refusingTable(platformObstacle);
  return openLibrary(table).symbols;
}

/** Opens system calls, each with its own signature, through syscall(2): the first argument is the number of the call. */
export function openSystemCalls<Table extends Record<string, FFIFunction>>(
  table: Table,
): Symbols<Table> {
  if (platformObstacle !== undefined) return refusingTable(platformObstacle);
  const { syscall } = openLibrary({ syscall: { args: ["i64"], returns: "i64" } }).symbols;
  const ptr = addressOf(syscall);
  const linked = Object.fromEntries(
    Object.entries(table).map(([name, signature]) => [name, { ...signature, ptr }]),
  ) as unknown as Table;
  return linkSymbols(linked).symbols;
}

/** The functions of libc that every script needs. */
export const libc = openFunctions(functions);

/** The system calls that every script needs. */
export const syscalls = openSystemCalls(systemCalls);

/** The address of munmap(2), which is the deallocator of buffers over mapped memory. */
export const munmapAddress: Pointer =
  platformObstacle === undefined ? addressOf(libc.munmap) : (0 as Pointer);
