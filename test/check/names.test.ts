import { expect, test } from "bun:test";
import { keyword, keywordOf, keywordsByNumber } from "../../src/check/names.ts";

test("keyword returns the kernel's name in lower case", () => {
  const names = ["HASH", "LRU_HASH", "CGROUP_INET4_GETPEERNAME"] as const;
  expect(names.map((name) => keyword(name))).toEqual([
    "hash",
    "lru_hash",
    "cgroup_inet4_getpeername",
  ]);
});

test("keywordOf returns the last name of a number, or its number", () => {
  const keywords = keywordsByNumber({ UNSPEC: 0, OLD_NAME: 1, NEW_NAME: 1 });
  expect(keywordOf(keywords, 0)).toBe("unspec");
  expect(keywordOf(keywords, 1)).toBe("new_name");
  expect(keywordOf(keywords, 99) as string).toBe("type_99");
});
