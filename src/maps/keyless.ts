import type { Type } from "../types/type.ts";

/** The key of maps that have none. */
export const noKey: Type<undefined> = {
  kind: "none",
  name: "none",
  size: 0,
  align: 1,
  read: () => undefined,
  write: () => {},
};
