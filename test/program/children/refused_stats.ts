// Prints as JSON the error of enableStats().
import { BpfError, enableStats } from "../../../src/index.ts";

try {
  using _stats = enableStats();
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
