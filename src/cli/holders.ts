import type { InspectedKind, ObjectsByKind } from "../inspect/by_kind.ts";
import { type ObjectOwner, type ObjectOwners, objectOwners } from "../inspect/owners.ts";
import { type ObjectPins, objectPins } from "../inspect/pins.ts";
import { note } from "./output.ts";
import { counted, fewOf, printable } from "./text.ts";

/** Who keeps an object alive, as far as can be seen. */
export interface Holders {
  readonly owners: readonly ObjectOwner[];
  readonly pins: readonly string[];
}

/** How many of them a cell of a table names. */
const mostInCell = 3;

/** Finds who keeps objects alive: of all of them at once. */
export class HolderIndex {
  readonly #kind: InspectedKind;
  readonly #owners: ObjectOwners;
  readonly #pins: ObjectPins;

  constructor(kind: InspectedKind) {
    this.#kind = kind;
    this.#owners = objectOwners();
    this.#pins = objectPins();
  }

  of(id: number): Holders {
    return {
      owners: tableOf(this.#owners, this.#kind).get(id) ?? [],
      pins: tableOf(this.#pins, this.#kind).get(id) ?? [],
    };
  }

  /** Says so where not all could be seen. */
  noteHidden(): void {
    const { hidden } = this.#owners;
    if (hidden > 0)
      note(`owners among ${hidden} processes of others are not shown (CAP_SYS_PTRACE)`);
    const places = this.#pins.hidden;
    if (places > 0) {
      note(
        `pins in ${counted(places, "place")} that may not be opened are not shown (CAP_DAC_OVERRIDE; on older kernels CAP_BPF)`,
      );
    }
  }
}

function tableOf<T>(
  found: ObjectsByKind<T>,
  kind: InspectedKind,
): ReadonlyMap<number, readonly T[]> {
  return { map: found.maps, prog: found.programs, link: found.links }[kind];
}

/** The cells of a table for owners and pins. */
export function holderCells({ owners, pins }: Holders): [owners: string, pins: string] {
  const processes = new Map(owners.map(({ pid, comm }) => [pid, `${printable(comm)}(${pid})`]));
  return [
    fewOf([...processes.values()], mostInCell),
    fewOf(
      pins.map((path) => printable(path)),
      mostInCell,
    ),
  ];
}

/** The lines of details for owners and pins. */
export function holderDetails({ owners, pins }: Holders) {
  return [
    ["owners", owners.map(({ pid, comm, fd }) => `${printable(comm)}(${pid}) as descriptor ${fd}`)],
    ["pins", pins.map((path) => printable(path))],
  ] as const;
}
