import { type Feature, features, type MapTypeName } from "../../src/index.ts";
import { bpfObstacle } from "./privilege.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/**
 * A test that needs features of the kernel: skipped where it has not all of them, with what lacks and why in its name.
 *
 * That hides no failure: that a kernel has what its version has, test/features checks.
 */
export function testWith(...needed: readonly Feature[]): DefineTest {
  if (bpfObstacle !== undefined) return testUnless(bpfObstacle);
  const lacking = needed.find(({ available }) => !available);
  return testUnless(lacking && `${lacking.name}: ${lacking.reason}`);
}

/** A test that needs a kind of map. */
export function mapTest(type: MapTypeName): DefineTest {
  return testWith(features.mapTypes.get(type));
}
