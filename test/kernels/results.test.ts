import { expect, test } from "bun:test";
import { partition } from "./partition.ts";
import { countResults, parseResults } from "./results.ts";

const output = `@@ features
{"settings":{}}
@@ tests
bun test v1.4.5

test/maps/array_map.test.ts:
(pass) an array > holds what is stored [1.50ms]
something printed
error: expect(received).toBe(expected)
      at somewhere
(fail) an array > is large [1250.00ms]
(skip) an arena > is shared (skipped: map type arena: it needs Linux 6.9, and this is 5.10)

test/types/u8.test.ts:
(pass) a number [0.25ms]
(todo) another

2 tests failed:
(fail) an array > is large [1250.00ms]

 2 pass
@@ exit 1
@@ end
`.replaceAll("\n", "\r\n");

test("the output of a guest is parsed into tests with files, durations and reasons", () => {
  const { tests, features, exitCode } = parseResults(output);
  expect({ features, exitCode }).toEqual({ features: '{"settings":{}}', exitCode: 1 });
  const common = { details: "", duration: 0 };
  expect(tests).toEqual([
    {
      ...common,
      file: "test/maps/array_map.test.ts",
      name: "an array > holds what is stored",
      outcome: "pass",
      duration: 0.0015,
    },
    {
      file: "test/maps/array_map.test.ts",
      name: "an array > is large",
      outcome: "fail",
      duration: 1.25,
      details: "something printed\nerror: expect(received).toBe(expected)\n      at somewhere",
    },
    {
      ...common,
      file: "test/maps/array_map.test.ts",
      name: "an arena > is shared",
      outcome: "skip",
      details: "map type arena: it needs Linux 6.9, and this is 5.10",
    },
    {
      ...common,
      file: "test/types/u8.test.ts",
      name: "a number",
      outcome: "pass",
      duration: 0.00025,
    },
    { ...common, file: "test/types/u8.test.ts", name: "another", outcome: "todo" },
  ]);
});

test("a guest that ended early has no exit code", () => {
  expect(parseResults("@@ tests\r\n").exitCode).toBeUndefined();
});

test("files are divided into parts of about the same duration", () => {
  const durations = { a: 10, b: 6, c: 5, d: 1 };
  expect(partition(["a", "b", "c", "d"], 2, durations)).toEqual([
    ["a", "d"],
    ["b", "c"],
  ]);
  expect(partition(["a"], 2, durations)).toEqual([["a"]]);
  expect(partition(["new", "a"], 1, durations)).toEqual([["a", "new"]]);
});

test("errors between tests are separated from those of tests", () => {
  const { tests, errors } = parseResults(`@@ tests
test/maps/spec.test.ts:

# Unhandled error between tests
-------------------------------
error: cannot open the C library
      at open (/project/src/ffi/libc.ts:338:18)
-------------------------------

warning
(fail) a map > is there [1.00ms]

 0 pass
 1 fail
 1 error
@@ exit 1
`);
  expect(errors).toEqual([
    {
      file: "test/maps/spec.test.ts",
      details: "error: cannot open the C library\n      at open (/project/src/ffi/libc.ts:338:18)",
    },
  ]);
  expect(tests.map(({ name, details }) => ({ name, details }))).toEqual([
    { name: "a map > is there", details: "warning" },
  ]);
});

test("results are counted in incomplete output", () => {
  expect(countResults(output.slice(0, output.indexOf("test/types")))).toBe(3);
});
