/** Compares random functions of kernel code: in the kernel and in JavaScript they do the same. */
import { expect } from "bun:test";
import { CompileError } from "../../src/compiler/source/compile_error.ts";
import { VerifierError } from "../../src/index.ts";
import { repetitions } from "../support/effort.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { RandomKernelCode } from "./random_kernel_code.ts";
import { BothSides, KernelWorld, randomInputs } from "./same_meaning.ts";

/** Number of runs of each function, with different inputs. */
const runsPerFunction = 5;

bpfTest(
  "random functions do in the kernel what they do in JavaScript",
  () => {
    const seed = anySeed();
    const count = repetitions(150, 10);
    let refused = 0;
    let tooComplex = 0;
    using world = new KernelWorld();
    for (let number = 0; number < count; number++) {
      const random = randomNumbers(seed + number);
      const text = new RandomKernelCode(random, 12).make();
      const context = () => `seed ${seed + number}:\n${text}`;
      let both: BothSides;
      try {
        both = new BothSides(world, text);
      } catch (error) {
        // The verifier gives up on some functions with very many paths, and explains it.
        if (error instanceof VerifierError && error.message.includes("The verifier gave up")) {
          tooComplex++;
          continue;
        }
        // Some mixtures of bigints are not in the language.
        if (!(error instanceof CompileError)) throw new Error(`${context()}\n${String(error)}`);
        refused++;
        continue;
      }
      using _ = both;
      for (let run = 0; run < runsPerFunction; run++) {
        const inputs = randomInputs(random);
        const expected = both.inJavaScript(inputs);
        const actual = both.inKernel(inputs);
        if (Bun.deepEquals(actual, expected)) continue;
        throw new Error(context(), { cause: expect(actual).toEqual(expected) });
      }
    }
    expect(tooComplex).toBeLessThanOrEqual(Math.ceil(count / 50));
    expect(refused).toBeLessThanOrEqual(Math.ceil(count / 20));
  },
  120_000,
);
