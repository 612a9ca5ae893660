/**
 * Random changes of functions: each result compiles, and then the verifier accepts it, or it is refused with a message. Anything
 * else is a mistake of the compiler.
 */
import { expect } from "bun:test";
import { tokenizer } from "acorn";
import { bpf } from "../../src/compiler/bpf.ts";
import { CompileError } from "../../src/compiler/source/compile_error.ts";
import { ScopeMaps } from "../../src/compiler/language/translate.ts";
import { compileFunction } from "../../src/compiler/pipeline.ts";
import { Sources } from "../../src/compiler/source/source.ts";
import { runningTarget } from "../../src/compiler/machine/target.ts";
import { ArrayMap, HashMap, Program, Queue, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { randomNumbers, anySeed } from "../support/random_numbers.ts";

/** Sections, and functions for them that compile. */
const functions: readonly (readonly [section: string, text: string])[] = [
  ["socket", "(ctx, { counts }) => { if (ctx.isSelf) return; counts.increment(ctx.pid); }"],
  [
    "socket",
    `(ctx, { rows, k }) => {
      let sum = 0;
      for (const i of k.range(10)) { const row = rows.get(i); if (row === undefined) continue; sum += row.small; }
      outer: for (let i = 0; i < 8; i++) { for (let j = 0; j < i; j += 2) { if ((i ^ j) === 5) continue outer; sum -= j; } }
      return sum;
    }`,
  ],
  [
    "socket",
    `function (ctx, { rows, table, options: { limit }, events }) {
      const { pid, comm } = ctx;
      const kind = table.includes(pid) ? "a" : comm === "sh" ? "b" : "c";
      switch (kind) { case "a": return 1; case "b": { events.output({ pid, comm }); break; } default: if (pid > limit) return -1; }
      const row = rows.getOrInit(pid, { small: 1, big: -5n, name: comm, list: [1, 2, 3, 4], flag: true });
      if (!row) return 0;
      row.small = (row.small + 3) >> 1; row.big *= 3n; row.list[pid & 3] ^= pid; row.flag = !row.flag;
      return Math.max(row.small, Math.trunc(pid / 7)) % 100;
    }`,
  ],
  [
    "socket",
    `(ctx, { total, queue, numbers, twice }) => {
      const add = (a, b = 2) => { if (a > 5) return b; return a & 0xff; };
      total.value += BigInt(add(ctx.cpu & 7)) << 3n;
      const old = total.add(5n);
      const object = { x: 1, y: [1, 2, { z: old }] };
      object.x += object.y[0]; object.y[1]--;
      while (object.x < 20) object.x *= 2;
      const next = queue.pop() ?? numbers.get(3) ?? 7;
      queue.push(twice(next & 0xffff)) || queue.push(next);
      var last = next ? object.x : undefined;
      return (last ?? 0) + (old > 5n && old !== 9n ? 1 : 0);
    }`,
  ],
  [
    "xdp",
    `(ctx, { counts, k }) => {
      const { packet } = ctx;
      const ethernet = packet.at(0, k.Ethernet);
      if (ethernet === undefined || ethernet.type !== k.ETH_P_IP) return "pass";
      const ip = packet.at(14, k.Ipv4);
      if (!ip) return "drop";
      const header = (ip.versionAndLength & 15) * 4;
      const udp = packet.at(14 + header, k.Udp);
      if (ip.source === "10.0.0.1" && udp && udp.destination === 53) { counts.set(udp.source, 1n); ip.ttl--; return "tx"; }
      return ip.ttl > 3 ? "pass" : "drop";
    }`,
  ],
  [
    "tp_btf/sched_switch",
    `(ctx, { events }) => {
      const { prev, next } = ctx.args;
      if (prev.pid === 0 || next.real_parent.tgid === prev.tgid) return;
      events.output({ pid: next.tgid, comm: prev.comm });
    }`,
  ],
];

const texts = functions.map(([, text]) =>
  Array.from(tokenizer(`(${text})`, { ecmaVersion: "latest" }), ({ start, end }) =>
    `(${text})`.slice(start, end),
  ),
);
/** Tokens that replace others. */
const others = [
  ...texts.flat(),
  ..."undefined null 1.5 -1 0 0n 2n ** 1e9 4294967296 `x` ... ?. ?? ??= && || ! ~ - typeof void delete in new this try await yield class var let const async function => { } ( ) [ ] = , : ; =".split(
    " ",
  ),
];

/** Returns the kind of a token. Most functions stay JavaScript if a token becomes another of its kind. */
function kindOf(token: string): string {
  if (/^[\d"'`]/.test(token)) return "literal";
  if (/^(?:let|const|var)$/.test(token)) return "declaration";
  if (/^[a-z_$]/i.test(token)) return "name";
  return /^(?:[-+*/%&|^<>]|\?\?)+=?$|^[=!]==?$/.test(token) ? "operator" : token;
}

const othersByKind = Map.groupBy(others, kindOf);

/** Changes some tokens of a function. */
function mutate(tokens: readonly string[], random: (limit: number) => number): string {
  const changed = [...tokens];
  for (let count = 1 + random(3); count > 0; count--) {
    const at = random(changed.length);
    const other = random(changed.length);
    switch (random(12)) {
      case 0:
        changed.splice(at, 1 + random(3));
        break;
      case 1:
        changed.splice(other, 0, ...changed.slice(at, at + 1 + random(6)));
        break;
      case 2:
        [changed[at], changed[other]] = [changed[other] as string, changed[at] as string];
        break;
      case 3:
        changed[at] = others[random(others.length)] as string;
        break;
      case 4:
        changed.splice(at, 0, others[random(others.length)] as string);
        break;
      default: {
        const alike = othersByKind.get(kindOf(changed[at] ?? "")) ?? others;
        changed[at] = alike[random(alike.length)] as string;
      }
    }
  }
  return changed.join(" ");
}

/** Returns the function of a text; `undefined` if it is not one, or not JavaScript. */
function parsed(text: string): ((...args: never[]) => unknown) | undefined {
  try {
    // Only the syntax is of interest: the function that returns the function must not run other code.
    if (!/^\(\s*(?:\(|function\b|async\b)/.test(text)) return undefined;
    const fn: unknown = new Function("undefined_", `"use strict"; return ${text}`)();
    return typeof fn === "function" ? (fn as () => unknown) : undefined;
  } catch {
    return undefined;
  }
}

bpfTest("changed functions load, or are refused with a message", () => {
  const seed = Number(process.env["SEED"] ?? anySeed());
  const limit = Number(process.env["MUTATIONS"] ?? 400);
  const Row = t.struct({
    small: t.u8,
    big: t.i64,
    name: t.cstring(6),
    list: t.array(t.u32, 4),
    flag: t.bool,
  });
  using counts = new HashMap({ key: t.u32, value: t.u64, maxEntries: 64 });
  using rows = new HashMap({ key: t.u32, value: Row, maxEntries: 64 });
  using numbers = new ArrayMap({ value: t.i32, length: 8 });
  using queue = new Queue({ value: t.u32, maxEntries: 8 });
  using events = new RingBuf({
    size: 1 << 16,
    event: t.struct({ pid: t.i32, comm: t.cstring(16) }),
  });
  using total = bpf.global(t.u64, 0n);
  const twice = bpf.fn(
    { factor: 2 },
    (({ factor }: { factor: number }, n: number) => n * factor) as never,
  );
  const scope = {
    counts,
    rows,
    numbers,
    queue,
    events,
    total,
    twice,
    table: [3, 1, 4],
    options: { limit: 1000 },
  };
  const load = (section: string, fn: (...args: never[]) => unknown): void => {
    const maps = new ScopeMaps();
    const spec = compileFunction({
      sources: new Sources(),
      fn,
      place: section,
      section,
      scope,
      maps,
      target: runningTarget(),
      probe: section,
    });
    using _program = new Program({ ...spec, maps: Object.fromEntries(maps.maps) as never });
  };
  for (const [section, text] of functions) load(section, parsed(`(${text})`)!);
  const results = { loaded: 0, refused: 0 };
  const random = randomNumbers(seed);
  const deadline = performance.now() + 20_000;
  for (let index = 0; index < limit && performance.now() < deadline;) {
    const which = random(functions.length);
    const text = mutate(texts[which] as string[], random);
    const fn = parsed(text);
    if (fn === undefined) continue;
    index++;
    try {
      load(functions[which]![0], fn);
      results.loaded++;
    } catch (error) {
      if (!(error instanceof CompileError)) {
        throw new Error(`SEED=${seed}, mutation ${index}: this failed:\n${text}`, {
          cause: error,
        });
      }
      results.refused++;
    }
  }
  console.log(`mutations: SEED=${seed}, ${results.loaded} loaded, ${results.refused} refused`);
  expect(results.loaded).toBeGreaterThan(0);
  expect(results.refused).toBeGreaterThan(0);
});
