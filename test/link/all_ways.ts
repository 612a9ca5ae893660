/** @module Attaches in all ways that the running kernel has, at the places of the probes, where it disturbs nobody. */

import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { atProbePlace } from "../../src/features/attach_probes.ts";
import { type AttachKind, BpfError, type Link, Program } from "../../src/index.ts";
import { attachKinds } from "../../src/link/attach_kinds.ts";
import type { AttachKindRow } from "../../src/link/attach_method.ts";

/** A way to attach, and the row that describes it. */
export interface Way {
  readonly kind: AttachKind;
  readonly row: AttachKindRow;
}

/** All ways to attach. Operations on links are not ways. */
export const ways: readonly Way[] = Object.entries(attachKinds).flatMap(
  ([kind, row]: [string, AttachKindRow]) =>
    row.operation === undefined && row.place !== "struct_ops map"
      ? [{ kind: kind as AttachKind, row }]
      : [],
);

/** Makes the place of a way, calls a function with the options for `attach()`, and removes the place. */
export function atPlaceOf({ row: { place, options } }: Way, use: (options: object) => void): void {
  atProbePlace(place, (ofPlace) => use({ ...ofPlace, ...options }));
}

/** An attachment of a child process. */
export interface Attached {
  readonly kind: AttachKind;
  readonly programId: number;
  /** The id of the link, if the kernel has one. */
  readonly linkId?: number;
  /** The name of the cgroup to which the program is attached. */
  readonly cgroup?: string;
}

/** Attaches a program. The link stays open. */
export function attachFor({ kind }: Way, program: Program, options: object): Attached {
  const linkId = idOf(program.attach(options));
  const { cgroup } = options as { readonly cgroup?: { readonly fd: number } };
  return {
    kind,
    programId: program.id,
    ...(linkId !== undefined && { linkId }),
    ...(cgroup !== undefined && { cgroup: basename(readlinkSync(`/proc/self/fd/${cgroup.fd}`)) }),
  };
}

/** Returns the id of a link; `undefined` if the program is attached without a link of the kernel. */
function idOf(link: Link): number | undefined {
  try {
    return link.id;
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}
