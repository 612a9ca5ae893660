import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached } from "./cached.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cached-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a result is made again if its files are missing or old, and earlier ones are removed", async () => {
  const path = join(folder, "deep/made.json");
  let made = 0;
  const ask = (isThere = true) =>
    cached(
      path,
      () => isThere,
      () => Promise.resolve(++made),
    );
  expect(await ask()).toBe(1);
  expect(await ask()).toBe(1);
  expect(await ask(false)).toBe(2);
  expect(await ask()).toBe(2);
  utimesSync(path, 0, 0);
  expect(await ask()).toBe(3);
  expect(readdirSync(join(folder, "deep"))).toEqual(["made.json"]);
});
