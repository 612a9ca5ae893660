import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { runBun } from "../support/run.ts";
import { seed } from "./random.ts";

test("the first cursor compiles code that later cursors share", () => {
  const original = globalThis.Function;
  let compiled = 0;
  globalThis.Function = new Proxy(original, {
    // Bun's transpiler removes "new" before Function, which is equivalent.
    apply(target, _this, args) {
      compiled++;
      return Reflect.construct(target, args) as unknown;
    },
    construct(target, args) {
      compiled++;
      return Reflect.construct(target, args) as object;
    },
  });
  try {
    const type = t.struct({ a: t.u32, inner: t.struct({ b: t.u16 }) });
    const { cursor } = type;
    expect(compiled).toBe(0);
    cursor();
    expect(compiled).toBe(1);
    for (let i = 0; i < 3; i++) type.cursor();
    expect(compiled).toBe(1);
  } finally {
    globalThis.Function = original;
  }
});

/** Script that reads random structs through cursors, and prints a digest of the values. */
const digestScript = `
  import * as t from ${JSON.stringify(import.meta.resolve("../../src/types/t.ts"))};
  import { randomType } from ${JSON.stringify(import.meta.resolve("./random_type.ts"))};
  import { Random } from ${JSON.stringify(import.meta.resolve("./random.ts"))};
  const random = new Random(${seed});
  const hasher = new Bun.CryptoHasher("sha256");
  let forbidden = false;
  try { new Function("") } catch { forbidden = true }
  const attempt = (run) => {
    try { hasher.update(Bun.inspect(run(), { depth: 10 })) } catch (error) { hasher.update(String(error)) }
  };
  for (let i = 0; i < 60; i++) {
    const sample = randomType(random, 3);
    const address = t.struct({ port: t.be16, ["__proto__"]: t.ipv4, constructor: t.bytes(40) });
    const type = t.struct({ id: t.u64Number, sample: sample.type, address });
    const view = new DataView(new ArrayBuffer(type.size + 4));
    type.write(view, 4, {
      id: i,
      sample: sample.value(),
      address: { port: 1, ["__proto__"]: "10.0.0.1", constructor: new Uint8Array(40) },
    });
    const cursor = type.cursor();
    const look = () => {
      for (const name of Object.keys(cursor.event)) attempt(() => cursor.event[name]);
      for (const name of Object.keys(address.fields)) attempt(() => cursor.event.address[name]);
      attempt(() => cursor.event);
      attempt(() => JSON.stringify(cursor.event, (_, value) => typeof value === "bigint" ? String(value) : value));
      attempt(() => type.copy(cursor.event));
      attempt(() => type.copy({ ...cursor.event }));
      attempt(() => Object.isFrozen(cursor.event) && Object.isFrozen(cursor.event.address));
      attempt(() => { cursor.event.id = 1 });
    };
    look();
    cursor.moveTo(view, 4);
    look();
    hasher.update(String(Bun.deepEquals(type.copy(cursor.event), type.read(view, 4), true)));
    cursor.release();
    look();
    cursor.moveTo(view, view.byteLength);
    look();
    cursor.moveTo(view, 4);
    view.buffer.transfer(0);
    look();
  }
  console.log(JSON.stringify({ forbidden, digest: hasher.digest("hex") }));
`;

test("cursors behave the same if code generation from strings is disabled", async () => {
  const digest = async (...flags: string[]): Promise<unknown> => {
    const { stdout, stderr } = await runBun([...flags, "-e", digestScript]);
    expect(stderr).toBe("");
    return JSON.parse(stdout);
  };
  const free = await digest();
  const restricted = await digest("--disallow-code-generation-from-strings");
  expect({ free, restricted }, `repeat with BUN_BPF_TEST_SEED=${seed}`).toEqual({
    free: { forbidden: false, digest: expect.stringMatching(/^[0-9a-f]{64}$/) },
    restricted: { ...(free as object), forbidden: true },
  });
});

/** Script that reads a million events between two marks on stderr, where the engine logs its collections. */
const garbageScript = (read: string): string => `
  import * as t from ${JSON.stringify(import.meta.resolve("../../src/types/t.ts"))};
  const Event = t.struct({ pid: t.u32, ts: t.u64Number, inner: t.struct({ port: t.be16, delta: t.i64Number }), comm: t.cstring(16), ok: t.bool });
  const view = new DataView(new ArrayBuffer(1024 * Event.size));
  for (let i = 0; i < 1024; i++) {
    Event.write(view, i * Event.size, { pid: i, ts: 2 ** 40 + i, inner: { port: i, delta: -i }, comm: "bash", ok: true });
  }
  const cursor = Event.cursor();
  const { event } = cursor;
  let sum = 0;
  let kept;
  function run(count) {
    for (let i = 0; i < count; i++) {
      cursor.moveTo(view, (i & 1023) * Event.size);
      ${read};
      if ((i & 63) === 0) cursor.release();
    }
  }
  const mark = (text) => {
    Bun.gc(true);
    Bun.gc(true);
    process.stderr.write(text + "\\n");
  };
  run(200_000);
  mark("BEGIN");
  run(1_000_000);
  process.stderr.write("END\\n");
  if (sum === 1) console.log(kept);
`;

async function collections(read: string): Promise<number> {
  const { stderr, exitCode } = await runBun(["-e", garbageScript(read)], {
    env: { BUN_JSC_logGC: "1" },
  });
  expect({ stderr: exitCode === 0 ? "" : stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  const log = stderr.slice(stderr.indexOf("BEGIN\n"), stderr.lastIndexOf("END\n"));
  return [...log.matchAll(/: START M /g)].length;
}

describe("a million events", () => {
  const reads =
    "sum += event.pid + event.ts + event.inner.port + event.inner.delta + event.comm.length + (event.ok ? 1 : 0)";

  test("cause garbage collections if each allocates an object", async () => {
    expect(await collections("kept = Event.copy(event)")).toBeGreaterThan(0);
  });

  test("allocate nothing", async () => {
    expect(await collections(reads)).toBe(0);
  });
});
