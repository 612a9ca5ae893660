/** Maps that allocate elements when they are stored, faster than the kernel refills its reserve. */
import { describe, expect, spyOn, test } from "bun:test";
import { refillTimeMs, retryAfterEnomem } from "../../src/ffi/bpf_map.ts";
import { PerCpuHashMap, possibleCpus, SkStorage, t } from "../../src/index.ts";
import { E2BIG, ENOMEM } from "../../src/uapi/errno.ts";
import { bpfTest } from "../support/privilege.ts";
import { descriptorOf } from "./storage_owners.ts";

const valueSize = 4096;
const cpus = possibleCpus().length;
/** Number of entries: their values take at most 64 MiB. */
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

describe("a per-CPU map without preallocation stores large values without ENOMEM", () => {
  bpfTest("in one call", () => {
    using map = makeMap();
    map.setMany(Array.from({ length: maxEntries }, (_, key) => [key, values]));
    expect(map.count()).toBe(maxEntries);
  });

  bpfTest("with one call each", () => {
    using map = makeMap();
    for (let key = 0; key < maxEntries; key++) map.set(key, values);
    expect(map.count()).toBe(maxEntries);
  });
});

bpfTest("storing does not wait when a socket has reached its memory limit", async () => {
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1" });
  using storages = new DisposableStack();
  using sleep = spyOn(Bun, "sleepSync");
  // Limit of a socket's memory of this kind (net.core.optmem_max, by default at most 128 KiB).
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

test("ENOMEM is retried for a limited time, and other errors are not retried", () => {
  using sleep = spyOn(Bun, "sleepSync").mockReturnValue(undefined);
  let waited = 0;
  while (retryAfterEnomem({}, ENOMEM, waited)) waited++;
  expect([waited, sleep.mock.calls.length]).toEqual([refillTimeMs, refillTimeMs]);
  expect(retryAfterEnomem({}, E2BIG, 0)).toBe(false);
});
