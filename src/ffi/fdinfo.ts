import { readFileSync } from "node:fs";

/** What the kernel writes of a descriptor in /proc: `map_id`, `memlock`, ... and their values. */
export type FdInfo = ReadonlyMap<string, string>;

/**
 * Reads what /proc says of a descriptor; nothing where it is not mounted, or does not let this process see.
 *
 * @param process an id, or this process
 */
export function readFdInfo(fd: number | string, process: number | string = "self"): FdInfo {
  let text: string;
  try {
    text = readFileSync(`/proc/${process}/fdinfo/${fd}`, "utf8");
  } catch {
    return new Map();
  }
  const fields = text.split("\n").map((line) => /^(\w+):\s*(.*)$/.exec(line));
  return new Map(
    fields.flatMap((field) => (field === null ? [] : [[field[1] as string, field[2] as string]])),
  );
}

/** A number of it, or `undefined` where this kernel does not write it. */
export function fdNumber(info: FdInfo, name: string): number | undefined {
  const text = info.get(name);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}
