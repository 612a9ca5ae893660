/** @module The place of a program among the programs of the same target. */

import { describe } from "../check/describe.ts";
import { BPF_F_AFTER, BPF_F_BEFORE, BPF_F_LINK } from "../uapi/bpf.ts";
import type { LinkedProgram } from "./attach_method.ts";
import { Attachment } from "./attachment.ts";
import { Link } from "./link.ts";

/**
 * The place to which another program is attached: its link, the program itself if it is attached without a link, or `"all"`
 * programs of the target.
 */
export type Anchor = Link | LinkedProgram | "all";

/** Options of ways to attach several programs to one target in an order. At most one of them can be given. */
export interface OrderOptions {
  /** The program that is to run directly after this one, or `"all"`. @default none: the program runs after all others */
  readonly before?: Anchor;
  /** The program that is to run directly before this one, or `"all"`. @default "all" */
  readonly after?: Anchor;
}

/** The names of {@link OrderOptions}. */
export const orderOptions: readonly string[] = ["before", "after"];

/** The fields of a system call for {@link OrderOptions}. */
export interface Order {
  /** Bits `BPF_F_*`. */
  readonly flags: number;
  /** The descriptor of the link or the program to attach before or after; 0 for none. */
  readonly fd: number;
  /** The kind of object that `fd` refers to; `undefined` for none. */
  readonly anchor: "link" | "program" | undefined;
}

/** Checks {@link OrderOptions} and returns the fields of the system call. @throws {TypeError} if an option is wrong. */
export function orderOf({ before, after }: OrderOptions): Order {
  if (before === undefined && after === undefined) return { flags: 0, fd: 0, anchor: undefined };
  if (before !== undefined && after !== undefined) {
    throw new TypeError("attach: expected one of the options before and after, got both");
  }
  const name = before === undefined ? "after" : "before";
  const flags = before === undefined ? BPF_F_AFTER : BPF_F_BEFORE;
  const anchor = before ?? after;
  if (anchor === "all") return { flags, fd: 0, anchor: undefined };
  if (anchor instanceof Attachment) {
    throw new TypeError(
      `attach: ${name}: expected a link of the kernel or a program, got the ${anchor}, which is no link: pass its program`,
    );
  }
  if (anchor instanceof Link) return { flags: flags | BPF_F_LINK, fd: anchor.fd, anchor: "link" };
  if (typeof anchor === "object" && anchor !== null && typeof anchor.fd === "number") {
    return { flags, fd: anchor.fd, anchor: "program" };
  }
  throw new TypeError(
    `attach: ${name}: expected a link, a program or "all", got ${describe(anchor)}`,
  );
}
