/** Tests of the formatting of tables, details, JSON and values. */
import { describe, expect, test } from "bun:test";
import {
  counted,
  abbreviate,
  humanBytes,
  humanDate,
  humanNanoseconds,
  printable,
  renderDetails,
  renderTable,
  toJson,
} from "../../src/cli/output.ts";
import { entryText, valueText } from "../../src/cli/map_command.ts";
import { parseReference } from "../../src/cli/object_command.ts";

describe("tables", () => {
  const columns = [
    { title: "ID", alignment: "right" },
    { title: "NAME" },
    { title: "LAST" },
  ] as const;

  test("have columns as wide as their cells, and dashes for empty cells", () => {
    expect(
      renderTable(columns, [
        ["1", "a", "x"],
        ["200", "longer name", ""],
        ["30", "", "é🐝 日本"],
      ]),
    ).toBe(
      [
        " ID  NAME         LAST",
        "  1  a            x",
        "200  longer name  -",
        " 30  -            é🐝 日本",
        "",
      ].join("\n"),
    );
  });

  test("without rows are the heading", () => {
    expect(renderTable(columns, [])).toBe("ID  NAME  LAST\n");
  });

  test("hold long texts on one line, and thousands of rows", () => {
    const long = "word ".repeat(200).trimEnd();
    const table = renderTable(columns, [["1", long, "end"]]);
    expect(table.split("\n")[1]).toBe(` 1  ${long}  end`);
    const rows = Array.from({ length: 5000 }, (_, index) => [`${index}`, "name", "x"]);
    expect(renderTable(columns, rows).split("\n")).toHaveLength(5002);
  });
});

test("details have a line for each value of an array", () => {
  expect(
    renderDetails([
      ["id", "1"],
      ["absent", undefined],
      ["none", []],
      ["long name", ["a", "b"]],
    ]),
  ).toBe("id:         1\nlong name:  a\n            b\n");
  expect(renderDetails([])).toBe("");
});

describe("JSON", () => {
  test.each([
    [1n, "1"],
    [2n ** 53n - 1n, "9007199254740991"],
    [2n ** 53n, '"9007199254740992"'],
    [-(2n ** 63n), '"-9223372036854775808"'],
    [1.5, "1.5"],
    [Number.NaN, '"NaN"'],
    [-Infinity, '"-Infinity"'],
    [Uint8Array.of(0, 255), '"00ff"'],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'],
    [{ a: undefined, b: [1n] }, '{"b":[1]}'],
  ] as const)("of %p", (value, expected) => {
    expect(toJson(value)).toBe(expected);
  });

  test("escapes what changes a terminal, without changing the document", () => {
    const value = {
      "\u009bkey": ["\u001b\u007f\u0085\u009b31m", "\u061c\u200b\u200f\u2028\u202e", "é🐝 日本"],
    };
    expect(toJson(value)).toBe(
      '{"\\u009bkey":["\\u001b\\u007f\\u0085\\u009b31m","\\u061c\\u200b\\u200f\\u2028\\u202e","é🐝 日本"]}',
    );
    // A character beyond U+FFFF has two escapes.
    expect(toJson("\u{e0041}")).toBe('"\\udb40\\udc41"');
    const all = String.fromCharCode(...Array.from({ length: 0x1_0000 }, (_, unit) => unit));
    const json = toJson([all], 2);
    expect(json.slice(2)).not.toMatch(
      /[\0-\t\v-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/,
    );
    expect(JSON.parse(json)).toEqual([all]);
  });
});

describe("entries", () => {
  test.each([
    [5, "5"],
    [2n ** 64n, "18446744073709551616"],
    [true, "true"],
    ["a\u001b[31m\u009b\u202e", '"a\\u001b[31m\\x9b\\u{202e}"'],
    [Uint8Array.of(1, 2, 255), "01 02 ff"],
    [new Uint8Array(0), ""],
    [[], "[]"],
    [{}, "{}"],
    [{ a: [1, { b: "x" }] }, '{ a: [1, { b: "x" }] }'],
  ] as const)("show the value %p", (value, expected) => {
    expect(valueText(value as never)).toBe(expected);
  });

  test("are a key and a value, or only a value", () => {
    expect(entryText({ key: 1, value: 2 })).toBe("1 => 2");
    expect(entryText({ key: undefined, value: 2 })).toBe("2");
  });
});

describe("formatting", () => {
  test("of sizes", () => {
    expect(
      [0, 999, 1000, 1024, 102_400, 1_023_999, 2 ** 20, 5 * 2 ** 30, 2 ** 52].map(humanBytes),
    ).toEqual([
      "0 B",
      "999 B",
      "1.0 KiB",
      "1.0 KiB",
      "100 KiB",
      "1.0 MiB",
      "1.0 MiB",
      "5.0 GiB",
      "4096 TiB",
    ]);
  });

  test("of durations", () => {
    expect([7.4, 1500, 2.5e6, 3.25e9].map(humanNanoseconds)).toEqual([
      "7 ns",
      "1.5 µs",
      "2.5 ms",
      "3.3 s",
    ]);
  });

  test("of dates, counts and lists", () => {
    expect(humanDate(new Date(2026, 0, 31, 3, 5, 9))).toBe("2026-01-31 03:05:09");
    expect([counted(1, "map"), counted(2, "map")]).toEqual(["1 map", "2 maps"]);
    expect([abbreviate(["a", "b"], 2), abbreviate(["a", "b", "c"], 2), abbreviate([], 2)]).toEqual([
      "a,b",
      "a,b,+1",
      "",
    ]);
  });

  test("of untrusted text escapes what changes a terminal", () => {
    expect(printable("é 日本 \u001b]0;x\u0007\r\n\u0085\u2028\ud800")).toBe(
      "é 日本 \\x1b]0;x\\x07\\x0d\\x0a\\x85\\u{2028}\\u{d800}",
    );
  });
});

describe("references", () => {
  test.each([
    ["12", { by: "id", id: 12 }],
    ["id:12", { by: "id", id: 12 }],
    ["name:12", { by: "name", name: "12" }],
    ["counts", { by: "name", name: "counts" }],
    ["name:a/b", { by: "name", name: "a/b" }],
    ["/sys/fs/bpf/counts", { by: "path", path: "/sys/fs/bpf/counts" }],
    ["./counts", { by: "path", path: "./counts" }],
    ["path:counts", { by: "path", path: "counts" }],
    ["path:id:5", { by: "path", path: "id:5" }],
  ] as const)("name an id, a name or a path: %s", (text, expected) => {
    expect(parseReference(text)).toEqual(expected as never);
  });

  test.each(["", "0", "id:", "id:-1", "id:1.5", "4294967296", "name:", "path:", "a\0b"])(
    "%p is invalid",
    (text) => {
      expect(() => parseReference(text)).toThrow(/^Expected an id/);
    },
  );
});
