/** A kind of object that is looked for. */
export type InspectedKind = "map" | "prog" | "link";

/** What was found of the objects of each kind, by their ids. */
export interface ObjectsByKind<T> {
  readonly maps: ReadonlyMap<number, readonly T[]>;
  readonly programs: ReadonlyMap<number, readonly T[]>;
  readonly links: ReadonlyMap<number, readonly T[]>;
}

/** What is being found. */
export class ByKind<T> implements ObjectsByKind<T> {
  readonly maps = new Map<number, T[]>();
  readonly programs = new Map<number, T[]>();
  readonly links = new Map<number, T[]>();

  add(kind: InspectedKind, id: number, found: T): void {
    const table = { map: this.maps, prog: this.programs, link: this.links }[kind];
    table.getOrInsertComputed(id, () => []).push(found);
  }
}
