// Opens the object that the first argument names, and ends in the way that the second one names. It runs as a child or as a
// Worker.
import { closeSync, openSync } from "node:fs";
import { Descriptor } from "../../../src/ffi/descriptor.ts";
import { ArrayMap, HashMap, openHandles, t } from "../../../src/index.ts";

function openMap(): HashMap<t.Type<number>, t.Type<number>> {
  const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "counts" });
  return map;
}

function openNull(): Descriptor {
  return new Descriptor(openSync("/dev/null", "r"), "null device");
}

const openings: Record<string, () => void> = {
  map: openMap,
  mapping: () => {
    const map = new ArrayMap({ value: t.u32, length: 1, mmap: true, name: "slots" });
    map.view.setUint32(0, 1, true);
  },
  renamed: () => {
    openNull().what = "device that was named late";
  },
  derived: () => {
    class Derived extends Descriptor {}
    new Derived(openSync("/dev/null", "r"), "null device");
  },
  "disposed map": () => openMap()[Symbol.dispose](),
  "disposed mapping": () => {
    using map = new ArrayMap({ value: t.u32, length: 1, mmap: true });
    map.view.setUint32(0, 1, true);
  },
  "released descriptor": () => closeSync(openNull().release()),
  "descriptor closed by others": () => {
    const descriptor = openNull();
    closeSync(descriptor.fd);
    try {
      descriptor[Symbol.dispose]();
    } catch {
      console.log("refused");
    }
  },
  "map disposed at exit": () => {
    const map = openMap();
    process.on("exit", () => map[Symbol.dispose]());
  },
  list: () => {
    using _map = openMap();
    console.log(JSON.stringify(openHandles()));
  },
};

const endings: Record<string, () => void> = {
  end: () => {},
  exit: () => process.exit(3),
  throw: () => {
    throw new Error("an error that nobody catches");
  },
  "throw later": () => void setTimeout(endings["throw"] as () => void),
  reject: () => void Promise.reject(new Error("an error that nobody catches")),
};

const [opening = "", ending = ""] = process.argv.slice(2);
openings[opening]?.();
// Exit listeners are usually added before the tick in which the process exits.
await Bun.sleep(0);
endings[ending]?.();
