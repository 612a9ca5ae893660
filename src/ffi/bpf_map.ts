import { readFileSync } from "node:fs";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { MAP_CREATE } from "../uapi/layout.ts";
import { BpfAttr } from "./bpf.ts";
import { explainPermission, hasCapability } from "./capabilities.ts";

/** The fields of BPF_MAP_CREATE that every kind of map has. */
export interface MapCreation {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly numaNode: number;
  readonly name: string;
}

/** Creates a map and returns its descriptor. `what` names it in errors. */
export function createKernelMap(map: MapCreation, what: string): number {
  using attr = new BpfAttr(MAP_CREATE.sizeof);
  attr
    .u32(MAP_CREATE.map_type, map.type)
    .u32(MAP_CREATE.key_size, map.keySize)
    .u32(MAP_CREATE.value_size, map.valueSize)
    .u32(MAP_CREATE.max_entries, map.maxEntries)
    .u32(MAP_CREATE.map_flags, map.flags)
    .u32(MAP_CREATE.numa_node, map.numaNode)
    .text(MAP_CREATE.map_name, map.name, BPF_OBJ_NAME_LEN);
  const size = `a key of ${map.keySize} and a value of ${map.valueSize} bytes, ${map.maxEntries} entries, flags 0x${map.flags.toString(16)}`;
  return attr.call("BPF_MAP_CREATE", {
    doing: `create the ${what}`,
    hints: {
      EPERM: explainCreationRefused,
      EINVAL: `The kernel does not know this kind of map, or refuses its sizes or flags: ${size}`,
      E2BIG: `The map would be too large for its kind: ${size}`,
      ENOMEM: `The kernel has no memory for it: ${size}`,
    },
  });
}

/** Makes a map read-only for user space, for good (kernel 5.2). */
export function freezeKernelMap(fd: number, what: string): void {
  using attr = new BpfAttr(MAP_CREATE.key_size);
  attr.u32(0, fd);
  attr.call("BPF_MAP_FREEZE", {
    doing: `freeze the ${what}`,
    hints: {
      EPERM: () =>
        hasCapability("CAP_BPF")
          ? "The map is frozen already, or was opened without the right to write"
          : undefined,
      EBUSY: "The map is frozen already, or its memory is mapped writable",
      EINVAL: "BPF_MAP_FREEZE needs kernel 5.2",
    },
  });
}

/** Before 5.11 the memory of maps counted towards RLIMIT_MEMLOCK, and exceeding it is reported as EPERM. */
function explainCreationRefused(): string {
  const explanation = explainPermission(["CAP_BPF"]);
  const [major = 0, minor = 0] = readFileSync("/proc/sys/kernel/osrelease", "utf8")
    .split(".")
    .map((part) => Number.parseInt(part, 10));
  if (major > 5 || (major === 5 && minor >= 11)) return explanation;
  return `${explanation}. On this kernel (before 5.11) it may also be the limit on locked memory: raise it with \`ulimit -l unlimited\``;
}
