// Counts the calls of bpf(2) for importing the library and listing features, and then for reading the status of one.
import { syscalls } from "../../../src/ffi/libc.ts";

const { bpf } = syscalls;
let calls = 0;
Object.defineProperty(syscalls, "bpf", {
  value: (...args: Parameters<typeof bpf>) => {
    calls++;
    return bpf(...args);
  },
});
const { features } = await import("../../../src/index.ts");
for (const { name, since, config } of features.mapTypes) [name, since, config].join();
for (const { name, since } of features.helpers("xdp")) [name, since].join();
const before = calls;
features.mapTypes.get("hash").available;
features.mapTypes.get("hash").available;
console.log(`${before} calls, then ${calls}`);
