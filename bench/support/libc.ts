import { dlopen } from "bun:ffi";
import { readdirSync, readFileSync } from "node:fs";
import { parseCpuList } from "../../src/ffi/kernel.ts";

/** Functions of the C library that the benchmarks use and the package does not. */
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

/** The option of prctl(2) that sets the signal for the end of the parent (include/uapi/linux/prctl.h). */
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
/** The clock id bits for the processor time of a process (CPUCLOCK_SCHED in include/linux/posix-timers.h). */
const processClock = 2;

/** Returns the CPUs that this process may run on. */
export function allowedCpus(): readonly number[] {
  const status = readFileSync("/proc/self/status", "utf8");
  return parseCpuList(/^Cpus_allowed_list:\s+(.+)$/m.exec(status)?.[1] ?? "0");
}

/** Pins all threads of this process, and those that they start, to one CPU. */
export function pinProcess(cpu: number): void {
  for (const thread of readdirSync("/proc/self/task")) pin(Number(thread), cpu);
}

/** Pins the calling thread to one CPU. The threads for compilation and garbage collection are not pinned. */
export function pinThread(cpu: number): void {
  pin(0, cpu);
}

function pin(thread: number, cpu: number): void {
  const mask = new Uint8Array(Math.ceil((cpu + 1) / 64) * 8);
  mask[cpu >> 3] = 1 << (cpu & 7);
  if (libc.sched_setaffinity(thread, mask.length, mask) !== 0) {
    throw new Error(`cannot run on CPU ${cpu}: the allowed CPUs are ${allowedCpus().join(", ")}`);
  }
}

/** Makes the kernel kill this process when its parent ends for any reason. */
export function endWithParent(): void {
  libc.prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/** Returns the processor time of all threads of a process in nanoseconds, including threads that have ended. */
export function processorTime(pid: number): number {
  const time = new BigInt64Array(2);
  if (libc.clock_gettime((~pid << 3) | processClock, time) !== 0) {
    throw new Error(`cannot read the processor time of process ${pid}: it has ended`);
  }
  return Number(time[0]) * 1e9 + Number(time[1]);
}

/** Sleeps for a number of microseconds. `Bun.sleepSync()` takes whole milliseconds. */
export function sleepMicroseconds(microseconds: number): void {
  libc.usleep(microseconds);
}
