// Runs without capabilities. Prints the errors of creating maps as JSON.
import { ArrayMap, BpfError, HashMap, t } from "../../../src/index.ts";
import { badConstructions, findWrongError } from "../bad_options.ts";

function refusal(construct: () => Disposable): object {
  try {
    using _map = construct();
    return { accepted: true };
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    const { name, code, errno, syscall, hint, message } = error;
    return { name, code, errno, syscall, hint, message };
  }
}

const report = {
  hash: refusal(() => new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "counts" })),
  array: refusal(() => new ArrayMap({ value: t.u32, length: 1 })),
  misjudged: badConstructions.map(findWrongError).filter((found) => found !== undefined),
};
console.log(JSON.stringify(report));
