import { type Feature, features, type MapTypeName } from "../../src/index.ts";
import { bpfObstacle } from "./privilege.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/**
 * Defines a test that needs features of the kernel. It is skipped if one is missing, with the feature and the reason in its name.
 *
 * This hides no failure, because test/features checks that each kernel has the features of its version.
 */
export function testWith(...needed: readonly Feature[]): DefineTest {
  if (bpfObstacle !== undefined) return testUnless(bpfObstacle);
  const lacking = needed.find(({ available }) => !available);
  return testUnless(lacking && `${lacking.name}: ${lacking.reason}`);
}

/** Defines a test that needs a map type. */
export function mapTest(type: MapTypeName): DefineTest {
  return testWith(features.mapTypes.get(type));
}
