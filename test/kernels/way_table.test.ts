import { expect, test } from "bun:test";
import { attachKinds } from "../../src/link/attach_kinds.ts";
import { readTable } from "./table.ts";
import { begin, wayPage, wayResults } from "./way_table.ts";

const [header = [], ...rows] = readTable(wayPage, begin);

test("the table of ways to attach has a row for each way, with its first version", () => {
  const expected = Object.entries(attachKinds).map(([way, { since }]) => [`\`${way}\``, since]);
  expect(rows.map(([way, since]) => [way, since])).toEqual(expected as string[][]);
});

test("each way in the table has a result on each kernel", () => {
  expect(header.length).toBeGreaterThan(5);
  for (const [way, , ...cells] of rows) {
    expect(cells.length, way).toBe(header.length - 2);
    for (const cell of cells) expect(["proved", "absent", "refused"], way).toContain(cell);
  }
});

test("results of tests become results of ways", () => {
  const result = (name: string, outcome: "pass" | "fail" | "skip", details = "") => ({
    ...{ file: "test/link/x.test.ts", name, outcome, details, duration: 0 },
  });
  const title = (way: string) => `way ${way}: runs the program for its event until it is detached`;
  const tests = [
    result(title("xdp"), "pass"),
    result(`a group > ${title("kprobe.multi")}`, "fail", "error"),
    result(title("fentry"), "skip", "refused: way to attach fentry: lockdown"),
    result(title("cgroup/connect4"), "skip", "way to attach cgroup/connect4: it needs Linux 4.17"),
    result("another test about the way xdp: it ends", "fail"),
  ];
  expect([...wayResults(tests)]).toEqual([
    ["xdp", "proved"],
    ["kprobe.multi", "failed"],
    ["fentry", "refused"],
    ["cgroup/connect4", "absent"],
  ]);
});
