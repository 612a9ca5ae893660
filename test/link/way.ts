/** @module Tests that prove a way to attach. Their results on all kernels become a table in the documentation. */

import { type AttachKind, features } from "../../src/index.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";

/** The part of the titles that all of these tests have in common. */
export const wayTitle = "runs the program for its event until it is detached";

const ending = `: ${wayTitle}`;

/**
 * Defines the test that proves a way to attach: it causes the event and sees the program run, then detaches and sees that it no
 * longer runs. The test is skipped where the kernel lacks the way or refuses it.
 */
export function wayTest(
  kind: AttachKind,
  body: () => void | Promise<void>,
  timeout?: number,
): void {
  const define = testUnless(bpfObstacle ?? obstacleTo(kind));
  define(`way ${kind}${ending}`, body, timeout);
}

/** Returns the reason why this kernel cannot attach in a way. For the table it begins with `refused: ` if the kernel forbids it. */
function obstacleTo(kind: AttachKind): string | undefined {
  const { status, name, reason } = features.attachKinds.get(kind);
  if (status === "available") return undefined;
  return `${status === "refused" ? "refused: " : ""}${name}: ${reason}`;
}

/** Returns the way of a test by its title, after the titles of its groups; `undefined` for other tests. */
export function wayOf(title: string): string | undefined {
  if (!title.endsWith(ending)) return undefined;
  return /^(?:.* > )?way (\S+)$/.exec(title.slice(0, -ending.length))?.[1];
}
