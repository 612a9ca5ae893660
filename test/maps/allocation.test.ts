/** Maps whose elements are allocated when they are stored, faster than the kernel refills what it takes them from. */
import { describe, expect, spyOn, test } from "bun:test";
import { refillTimeMs, retryAfterEnomem } from "../../src/ffi/bpf_map.ts";
import { PerCpuHashMap, possibleCpus, SkStorage, t } from "../../src/index.ts";
import { E2BIG, ENOMEM } from "../../src/uapi/errno.ts";
import { bpfTest } from "../support/privilege.ts";
import { descriptorOf } from "./storage_owners.ts";

const valueSize = 4096;
const cpus = possibleCpus().length;
/** 64 MiB at most. */
const maxEntries = Math.min(4000, Math.floor(2 ** 26 / valueSize / cpus));
const values = Array.from({ length: cpus }, () => new Uint8Array(valueSize));

function makeMap() {
  return new PerCpuHashMap({
    key: t.u32,
    value: t.bytes(valueSize),
    maxEntries,
    flags: ["no_prealloc"],
  });
}

describe("a per-CPU map without preallocation takes large values without a pause", () => {
  bpfTest("many at once", () => {
    using map = makeMap();
    map.setMany(Array.from({ length: maxEntries }, (_, key) => [key, values]));
    expect(map.count()).toBe(maxEntries);
  });

  bpfTest("one by one", () => {
    using map = makeMap();
    for (let key = 0; key < maxEntries; key++) map.set(key, values);
    expect(map.count()).toBe(maxEntries);
  });
});

bpfTest("a socket's allowance that is used up is waited for by nobody", async () => {
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1" });
  using storages = new DisposableStack();
  using sleep = spyOn(Bun, "sleepSync");
  // A socket may have so much memory of such kinds (net.core.optmem_max, 128 KiB at most by default).
  const fillUp = () => {
    for (let count = 0; count < 100; count++) {
      const storage = storages.use(new SkStorage({ value: t.bytes(16384) }));
      storage.set(descriptorOf(socket), new Uint8Array(16384));
    }
  };
  try {
    expect(fillUp).toThrow(/: bpf\(BPF_MAP_UPDATE_ELEM\): ENOMEM .*net.core.optmem_max/);
    expect(sleep).not.toHaveBeenCalled();
  } finally {
    socket.close();
  }
});

test("a lack of memory that lasts is waited for a while, and another error is not", () => {
  using sleep = spyOn(Bun, "sleepSync").mockReturnValue(undefined);
  let waited = 0;
  while (retryAfterEnomem({}, ENOMEM, waited)) waited++;
  expect([waited, sleep.mock.calls.length]).toEqual([refillTimeMs, refillTimeMs]);
  expect(retryAfterEnomem({}, E2BIG, 0)).toBe(false);
});
