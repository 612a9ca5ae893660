import { Btf } from "../btf/btf.ts";
import { objectKind } from "../ffi/bpf_object.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { KernelReference } from "../asm/assembler.ts";
import type { LiveMap, MapReference } from "../asm/instruction.ts";

/** Behind the name of a ring buffer, this names the map that its lost events are counted in. */
const lostSuffix = ".lost";

/** What finds the maps that a program names among those given, and the kernel's symbols in its type information. */
export function kernelResolver(maps: Readonly<Record<string, LiveMap>>) {
  if (typeof maps !== "object" || maps === null) {
    throw new TypeError(`maps: expected an object of maps by name, got ${describe(maps)}`);
  }
  return {
    map: (reference: MapReference): number => {
      if (typeof reference !== "string") return mapFd(reference, "the code");
      const map = ownMap(maps, reference) ?? lossCounter(maps, reference);
      if (map === undefined) {
        throw new TypeError(
          `maps: the code refers to a map ${describe(reference)} that is not given: ${suggest(reference, Object.keys(maps))}`,
        );
      }
      return mapFd(map, `maps: ${describe(reference)}`);
    },
    kernelSymbol: (name: string): KernelReference => ({ id: kernelBtfId("var", name) }),
    kernelFunction: (name: string): KernelReference => ({ id: kernelBtfId("func", name) }),
  };
}

function ownMap(maps: Readonly<Record<string, LiveMap>>, name: string): LiveMap | undefined {
  return Object.hasOwn(maps, name) ? maps[name] : undefined;
}

/** What `"events.lost"` names where no map does: the counter of the map `"events"`, if there is that one. */
function lossCounter(
  maps: Readonly<Record<string, LiveMap>>,
  reference: string,
): LiveMap | undefined {
  if (!reference.endsWith(lostSuffix)) return undefined;
  const name = reference.slice(0, -lostSuffix.length);
  const map = ownMap(maps, name);
  if (map === undefined) return undefined;
  const counter = map.lost;
  if (counter !== undefined) return counter;
  throw new TypeError(
    `maps: the code counts lost events of ${describe(name)}, but that is ${describe(map)} and has no counter for them: give a RingBuf, or a map to count in as ${describe(reference)}: a PerCpuArrayMap of one t.u64Number`,
  );
}

/** The descriptor of a map. To a wrong one the kernel's answer reads as if the program were at fault. */
function mapFd(map: LiveMap, where: string): number {
  const { fd } = map;
  if (!Number.isInteger(fd) || (objectKind(fd) ?? "map") !== "map") {
    throw new TypeError(`${where}: expected a map, but its fd ${describe(fd)} is not one's`);
  }
  return fd;
}

function kernelBtfId(kind: "var" | "func", name: string): number {
  const id = Btf.kernel().find(kind, name);
  if (id === undefined)
    throw new RangeError(`the kernel's type information has no ${kind} ${name}`);
  return id;
}
