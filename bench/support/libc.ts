import { dlopen } from "bun:ffi";
import { readdirSync, readFileSync } from "node:fs";
import { parseCpuList } from "../../src/ffi/kernel.ts";

/** What a benchmark needs of the C library and the package does not. */
const { symbols: libc } = dlopen("libc.so.6", {
  sched_setaffinity: {
    args: [
      "i32", // pid_t tid
      "u64", // size_t length of the mask
      "ptr", // const cpu_set_t *mask
    ],
    returns: "i32",
  },
  prctl: {
    args: [
      "i32", // int option
      "u64", // unsigned long argument
    ],
    returns: "i32",
  },
  clock_gettime: {
    args: [
      "i32", // clockid_t clock
      "ptr", // struct timespec *time
    ],
    returns: "i32",
  },
  usleep: { args: ["u32"], returns: "i32" },
});

/** include/uapi/linux/prctl.h */
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
/** A bit of a clock's number: the clock is a process's time (include/linux/posix-timers.h, CPUCLOCK_SCHED). */
const processClock = 2;

/** The CPUs that this process may run on. */
export function allowedCpus(): readonly number[] {
  const status = readFileSync("/proc/self/status", "utf8");
  return parseCpuList(/^Cpus_allowed_list:\s+(.+)$/m.exec(status)?.[1] ?? "0");
}

/** Keeps all threads of this process, and those that they start, on one CPU. */
export function pinProcess(cpu: number): void {
  for (const thread of readdirSync("/proc/self/task")) pin(Number(thread), cpu);
}

/** Keeps the thread that runs this on one CPU; what compiles and collects garbage beside it goes where there is room. */
export function pinThread(cpu: number): void {
  pin(0, cpu);
}

function pin(thread: number, cpu: number): void {
  const mask = new Uint8Array(Math.ceil((cpu + 1) / 64) * 8);
  mask[cpu >> 3] = 1 << (cpu & 7);
  if (libc.sched_setaffinity(thread, mask.length, mask) !== 0) {
    throw new Error(`cannot run on CPU ${cpu}: is it among ${allowedCpus().join(", ")}?`);
  }
}

/** Has the kernel end this process when the one that started it is gone, however that ended. */
export function endWithParent(): void {
  libc.prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/** Nanoseconds that all threads of a process have run, those that have ended included. */
export function processorTime(pid: number): number {
  const time = new BigInt64Array(2);
  if (libc.clock_gettime((~pid << 3) | processClock, time) !== 0) {
    throw new Error(`cannot tell how long process ${pid} has run: it has ended`);
  }
  return Number(time[0]) * 1e9 + Number(time[1]);
}

/** Bun's own takes whole milliseconds. */
export function sleepMicroseconds(microseconds: number): void {
  libc.usleep(microseconds);
}
