/**
 * @module Positions among the programs of one hook, which the kernel runs in order (kernel 6.6 for network interfaces, 6.17 for
 * cgroups).
 */

import { describe } from "../check/describe.ts";
import { BPF_F_AFTER, BPF_F_BEFORE, BPF_F_ID, BPF_F_LINK } from "../uapi/bpf.ts";
import { fdOf } from "../handle/fd_like.ts";
import { Attachment } from "./attachment.ts";
import { Link, type LinkedProgram } from "./link.ts";

/** The id of an attached program, as an {@link Anchor}. */
export interface ProgramIdAnchor {
  /** The id of the program. */
  readonly programId: number;
}

/** The id of a link, as an {@link Anchor}. */
export interface LinkIdAnchor {
  /** The id of the link. */
  readonly linkId: number;
}

/** An attached program, before or after which another one is attached: the program or its link, or the id of one. */
export type Anchor = Link | LinkedProgram | ProgramIdAnchor | LinkIdAnchor;

/** Options of ways to attach to a hook whose programs run in an order. */
export interface OrderOptions {
  /** The attached program or link before which the program runs; `"all"` for the first position. */
  readonly before?: Anchor | "all";
  /** The attached program or link after which the program runs; `"all"` for the last position. @default "all" */
  readonly after?: Anchor | "all";
  /**
   * The revision that the list of programs must have: {@link attachedPrograms} returns it. If the list was changed meanwhile,
   * the call fails with `ESTALE` and attaches nothing.
   *
   * @default any revision
   */
  readonly expectedRevision?: bigint;
}

/** The names of the options. */
export const orderOptions = ["before", "after", "expectedRevision"] as const;

/** A position, as the kernel takes it. */
export interface Position {
  /** Bits `BPF_F_*`. */
  readonly flags: number;
  /** The descriptor or the id of the anchor, or 0. */
  readonly relative: number;
  /** The kind of object that `relative` refers to; `undefined` for none. */
  readonly anchor: "link" | "program" | undefined;
  readonly expectedRevision: bigint;
}

/** Returns true if an option of the position is set. */
export function hasOrder({ before, after, expectedRevision }: OrderOptions): boolean {
  return before !== undefined || after !== undefined || expectedRevision !== undefined;
}

/** Converts the options of a position. @throws {TypeError} if one is wrong, or both `before` and `after` name an anchor. */
export function positionOf({ before, after, expectedRevision = 0n }: OrderOptions): Position {
  if (before !== undefined && after !== undefined) {
    throw new TypeError("attach: expected one of the options before and after, got both");
  }
  if (
    typeof expectedRevision !== "bigint" ||
    expectedRevision !== BigInt.asUintN(64, expectedRevision)
  ) {
    throw new TypeError(
      `expectedRevision: expected a bigint from 0n to 2n ** 64n - 1n, got ${describe(expectedRevision)}`,
    );
  }
  const [name, anchor] =
    before === undefined ? (["after", after] as const) : (["before", before] as const);
  const side = name === "before" ? BPF_F_BEFORE : BPF_F_AFTER;
  if (anchor === undefined) return { ...noAnchor, flags: 0, expectedRevision };
  const { flags, ...relation } =
    anchor === "all" ? { ...noAnchor, flags: 0 } : resolve(name, anchor);
  return { ...relation, flags: side | flags, expectedRevision };
}

const noAnchor = { relative: 0, anchor: undefined } as const;

function resolve(name: string, anchor: Anchor): Omit<Position, "expectedRevision"> {
  if (anchor instanceof Attachment) {
    throw new TypeError(
      `${name}: expected a link of the kernel or a program, got the ${anchor}, which is attached without a link: pass its program`,
    );
  }
  if (typeof anchor === "object" && anchor !== null) {
    if (anchor instanceof Link) {
      return { flags: BPF_F_LINK, relative: anchor.fd, anchor: "link" };
    }
    if ("fd" in anchor) {
      return { flags: 0, relative: fdOf(anchor, `${name}: a program`), anchor: "program" };
    }
    if ("programId" in anchor) {
      const relative = checkId(`${name}.programId`, anchor.programId);
      return { flags: BPF_F_ID, relative, anchor: "program" };
    }
    if ("linkId" in anchor) {
      const relative = checkId(`${name}.linkId`, anchor.linkId);
      return { flags: BPF_F_ID | BPF_F_LINK, relative, anchor: "link" };
    }
  }
  throw new TypeError(
    `${name}: expected a program, a link, { programId }, { linkId } or "all", got ${describe(anchor)}`,
  );
}

function checkId(what: string, id: number): number {
  if (Number.isInteger(id) && id > 0 && id <= 0xffff_ffff) return id;
  throw new TypeError(`${what}: expected the id of an attached object, got ${describe(id)}`);
}

/** Hints for refused positions, by errno name. */
export const orderHints = {
  ESTALE:
    "The programs of this hook have changed since expectedRevision was read: read them again with attachedPrograms()",
  ENOENT:
    "The program or link of the option before or after is not attached to this hook, or does not exist: attachedPrograms() lists those that are",
  EEXIST: "The program is attached to this hook already, and the kernel attaches it only once",
  ERANGE: "This hook has 64 programs, which is the maximum",
} as const;
