import { describe, expect } from "bun:test";
import { asm, ProgArray, Program, type SectionName } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { refusalOf } from "./refusal_of.ts";

const { r0, r2, r3, mov, exit, ldMap, call } = asm;

const packet = { data: new Uint8Array(14) };

/** Loads a program that returns a number. */
function returning(value: number, section: SectionName = "socket"): Program {
  return new Program({ section, license: "GPL", code: [mov(r0, value), exit()] });
}

/** Loads a program that makes a tail call to an index, and returns 100 if that fails. */
function caller(steps: ProgArray, index: number): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    maps: { steps },
    code: [ldMap(r2, "steps"), mov(r3, index), call("tail_call"), mov(r0, 100), exit()],
  });
}

describe("a program array", () => {
  bpfTest("is used by tail calls", () => {
    using steps = new ProgArray({ length: 3 });
    using first = caller(steps, 2);
    using seven = returning(7);
    using eight = returning(8);
    const run = () => first.testRun(packet).returnValue;
    expect(run()).toBe(100);
    expect(steps.set(2, seven)).toBe(steps);
    expect(run()).toBe(7);
    steps.set(2, eight.fd);
    expect(run()).toBe(8);
    expect(steps.delete(2)).toBe(true);
    expect(steps.delete(2)).toBe(false);
    expect(run()).toBe(100);
  });

  bpfTest("returns the ids of programs, and keeps the programs loaded", () => {
    using steps = new ProgArray({ length: 70 });
    let id: number;
    {
      using program = returning(1);
      id = program.info().id;
      steps.set(0, program).set(69, program);
    }
    expect([...steps]).toEqual([
      [0, id],
      [69, id],
    ]);
    expect(steps.get(0)).toBe(id);
    expect(steps.get(1)).toBeUndefined();
    expect(steps.get(70)).toBeUndefined();
    expect(steps.getMany([69, 5])).toEqual([id, undefined]);
    expect([steps.has(69), steps.has(68), steps.length, steps.count()]).toEqual([
      true,
      false,
      70,
      2,
    ]);
    steps.clear();
    expect(steps.count()).toBe(0);
  });

  bpfTest(
    "is emptied after its last descriptor is closed, although a program uses it",
    async () => {
      const steps = new ProgArray({ length: 1 });
      using first = caller(steps, 0);
      using seven = returning(7);
      steps.set(0, seven);
      const second = steps.dup();
      steps[Symbol.dispose]();
      expect(first.testRun(packet).returnValue).toBe(7);
      second[Symbol.dispose]();
      // The kernel empties it asynchronously.
      for (
        let attempts = 0;
        attempts < 1000 && first.testRun(packet).returnValue === 7;
        attempts++
      ) {
        await Bun.sleep(5);
      }
      expect(first.testRun(packet).returnValue).toBe(100);
    },
  );

  bpfTest("rejects programs of other types and other descriptors, with the cause", () => {
    using steps = new ProgArray({ length: 2, name: "steps" });
    using filter = returning(0);
    using classifier = returning(0, "tc");
    steps.set(0, filter);
    const refusal = refusalOf(() => steps.set(1, classifier));
    expect(refusal.message).toStartWith(
      'cannot store a value in prog_array map "steps": bpf(BPF_MAP_UPDATE_ELEM): EINVAL (invalid argument). The descriptor is not a BPF program, or the program differs',
    );
    expect(refusalOf(() => steps.set(1, steps)).code).toBe("EINVAL");
    expect(refusalOf(() => steps.set(1, 999_999)).hint).toStartWith(
      "No file is open at that descriptor; the ids",
    );
    expect(steps.count()).toBe(1);
    expect(() => steps.set(2, filter)).toThrow(
      new RangeError('index of prog_array map "steps": expected an integer from 0 to 1, got 2'),
    );
    expect(() => steps.delete(2)).toThrow(RangeError);
    expect(() => steps.set(-1, filter)).toThrow(RangeError);
    expect(() => steps.set(0.5, filter)).toThrow(RangeError);
  });
});
