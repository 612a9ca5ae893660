/** @module Tests that prove a way to attach. The reports of their results on all kernels become a table in the documentation. */

import { type AttachKind, features } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";

/**
 * Defines the test that proves a way to attach: it causes the event and sees the program run, then detaches and sees that it no
 * longer runs. The test is skipped where the kernel lacks the way or refuses it.
 */
export function wayTest(
  kind: AttachKind,
  body: () => void | Promise<void>,
  timeout?: number,
): void {
  const define = testWith(features.attachKinds.get(kind));
  define(`way ${kind}: runs the program for its event until it is detached`, body, timeout);
}
