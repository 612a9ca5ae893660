// Pins a map, and starts this script again as a user without capabilities: share_map.ts USER PATH
// The second process reads the map. It prints the value, and the errors of opening the map for writing and of creating one.
import { chmodSync } from "node:fs";
import { BpfError, HashMap, t } from "../../../src/index.ts";

const [user = "", path = ""] = process.argv.slice(2);
const types = { key: t.ipv4, value: t.u64 };

function codeOf(action: () => Disposable): string {
  try {
    using _opened = action();
    return "none";
  } catch (error) {
    if (error instanceof BpfError) return error.code;
    throw error;
  }
}

if (process.getuid?.() === Number(user)) {
  using reader = HashMap.open(path, { ...types, flags: ["rdonly"] });
  const opening = codeOf(() => HashMap.open(path, types));
  const creating = codeOf(() => new HashMap({ ...types, maxEntries: 1 }));
  console.log(reader.get("192.0.2.1"), opening, creating);
} else {
  using map = new HashMap({ ...types, maxEntries: 1 });
  map.set("192.0.2.1", 7n).pin(path);
  chmodSync(path, 0o644);
  const ids = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const again = [process.execPath, import.meta.path, user, path];
  Bun.spawnSync(["setpriv", ...ids, ...again], { stdio: ["ignore", "inherit", "inherit"] });
}
