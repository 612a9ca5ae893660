import { describe, expect } from "bun:test";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import {
  ArrayMap,
  attachedPrograms,
  features,
  type Link,
  SockHash,
  SockMap,
  t,
} from "../../src/index.ts";
import { connectedPair, receivedBy, sendOver } from "../maps/sockets.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { RunCounter } from "./counter.ts";
import { wayTest } from "./way.ts";

const pass = 1;
const messageTest = testWith(features.attachKinds.get("sk_msg"));
const linkTest = testWith(features.attachKinds.get("sockmap_link"));

/** Waits until a condition holds, for at most 10 seconds. */
async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !condition() && Date.now() < deadline;) {
    await Bun.sleep(5);
  }
}

/** Expects that a program runs for the data of sockets in the map until it is detached. */
async function expectRuns(
  counter: RunCounter,
  map: SockMap,
  stored: "sender" | "receiver",
  end: () => void,
): Promise<void> {
  const before = counter.runs;
  await exchange(map, stored);
  const during = counter.runs;
  expect(during).toBeGreaterThan(before);
  end();
  await exchange(map, stored);
  expect(counter.runs).toBe(during);
}

/** Stores a new socket in the map, and sends data over it. A socket gets the programs of the map when it is stored. */
async function exchange(map: SockMap, stored: "sender" | "receiver"): Promise<void> {
  const [sender, receiver] = connectedPair();
  using _sender = sender;
  using _receiver = receiver;
  map.set(0, stored === "sender" ? sender : receiver);
  sendOver(sender);
  await until(() => receivedBy(receiver) !== undefined);
  map.delete(0);
}

wayTest("sk_msg", async () => {
  using map = new SockMap({ length: 1 });
  using counter = new RunCounter();
  using program = counter.program("sk_msg", pass);
  using link = program.attach({ map, method: "attach" });
  expect(link.info()).toEqual({
    id: 0,
    type: "sockmap",
    programId: program.id,
    mapId: map.id,
    attachType: "sk_msg_verdict",
  });
  await expectRuns(counter, map, "sender", () => link[Symbol.dispose]());
});

wayTest("sockmap_link", async () => {
  using map = new SockMap({ length: 1 });
  using counter = new RunCounter();
  using program = counter.program("sk_msg", pass);
  using link = program.attach({ map });
  expect(link.info()).toMatchObject({ type: "sockmap", mapId: map.id, programId: program.id });
  expect(link.id).toBeGreaterThan(0);
  await expectRuns(counter, map, "sender", () => link[Symbol.dispose]());
});

wayTest("sk_skb/stream_verdict", async () => {
  using map = new SockMap({ length: 1 });
  using counter = new RunCounter();
  using program = counter.program("sk_skb/stream_verdict", pass);
  using link = program.attach({ map, method: "attach" });
  await expectRuns(counter, map, "receiver", () => link[Symbol.dispose]());
});

wayTest("sk_skb/verdict", async () => {
  using map = new SockMap({ length: 1 });
  using counter = new RunCounter();
  using program = counter.program("sk_skb/verdict", pass);
  using link = program.attach({ map, method: "attach" });
  await expectRuns(counter, map, "receiver", () => link[Symbol.dispose]());
});

wayTest("sk_skb/stream_parser", async () => {
  using map = new SockMap({ length: 1 });
  using parsed = new RunCounter();
  using decided = new RunCounter();
  // The parser returns the length of a message: the data of the test.
  using parser = parsed.program("sk_skb/stream_parser", 4);
  // The verdict drops the data: Linux 5.10.223 deadlocks if it passes data after a parser, because the kernel takes
  // sk_callback_lock for writing in sk_psock_strp_data_ready(), and again for reading in sk_psock_skb_ingress_enqueue().
  using verdict = decided.program("sk_skb/stream_verdict", 0);
  using _verdict = verdict.attach({ map, method: "attach" });
  const exchangeOne = async () => {
    const before = decided.runs;
    const [sender, receiver] = connectedPair();
    using _sender = sender;
    using _receiver = receiver;
    map.set(0, receiver);
    sendOver(sender);
    await until(() => decided.runs > before);
    expect(decided.runs).toBe(before + 1);
    map.delete(0);
  };
  using link = parser.attach({ map, method: "attach" });
  await exchangeOne();
  const during = parsed.runs;
  expect(during).toBeGreaterThan(0);
  link[Symbol.dispose]();
  await exchangeOne();
  expect(parsed.runs).toBe(during);
});

function idsOn(map: SockMap | SockHash<t.Type<number>>): number[] {
  const programs = attachedPrograms({ map, attachType: "sk_msg_verdict" })[0]?.programs ?? [];
  return programs.map(({ programId }) => programId);
}

const listTest = testWith(features.attachKinds.get("sk_msg"));
const canList = isKernelSince("5.18");

describe("a program of the section sk_skb", () => {
  testWith(features.attachKinds.get("sk_skb/stream_verdict"))(
    "is attached to a hook by name",
    async () => {
      using map = new SockMap({ length: 1 });
      using counter = new RunCounter();
      using program = counter.program("sk_skb", pass);
      using link = program.attach({ map, attachType: "sk_skb_stream_verdict" });
      await expectRuns(counter, map, "receiver", () => link[Symbol.dispose]());
      // @ts-expect-error: wrong on purpose
      expect(() => program.attach({ map })).toThrow(
        'attach: attachType: expected "sk_skb_stream_parser", "sk_skb_stream_verdict" or "sk_skb_verdict", got undefined',
      );
    },
  );
});

describe("a map of sockets", () => {
  messageTest("has the programs of its kind, by index or by key", () => {
    using counter = new RunCounter();
    using program = counter.program("sk_msg", pass);
    for (const make of [
      () => new SockMap({ length: 1 }),
      () => new SockHash({ key: t.u32, maxEntries: 1 }),
    ]) {
      using map = make();
      using link = program.attach({ map });
      if (canList) expect(idsOn(map)).toEqual([program.id]);
      link[Symbol.dispose]();
      if (canList) expect(idsOn(map)).toEqual([]);
    }
  });

  messageTest("replaces a program without a link, and each detaches only itself", () => {
    using map = new SockMap({ length: 1 });
    using counter = new RunCounter();
    using one = counter.program("sk_msg", pass);
    using two = counter.program("sk_msg", pass);
    using first = one.attach({ map, method: "attach" });
    using second = two.attach({ map, method: "attach" });
    if (canList) expect(idsOn(map)).toEqual([two.id]);
    if (canList) {
      expect(() => first.update(one)).toThrow(
        /BPF_PROG_ATTACH\): ENOENT\b.*another process has detached or replaced it/,
      );
      expect(idsOn(map)).toEqual([two.id]);
    }
    first[Symbol.dispose]();
    if (canList) expect(idsOn(map)).toEqual([two.id]);
    expect(() => second.update(one, { expected: one })).toThrow("EPERM");
    second.update(one, { expected: two });
    if (canList) expect(idsOn(map)).toEqual([one.id]);
    second[Symbol.dispose]();
    if (canList) expect(idsOn(map)).toEqual([]);
  });

  linkTest("has one link, which can be updated", () => {
    using map = new SockMap({ length: 1 });
    using counter = new RunCounter();
    using one = counter.program("sk_msg", pass);
    using two = counter.program("sk_msg", pass);
    using link: Link = one.attach({ map });
    for (const method of ["link", "attach"] as const) {
      expect(() => two.attach({ map, method })).toThrow(
        /EBUSY .*The map has a program that excludes this one/,
      );
    }
    expect(() => link.update(two, { expected: two })).toThrow("EPERM");
    link.update(two, { expected: one });
    expect(idsOn(map)).toEqual([two.id]);
  });

  messageTest("is refused with a hint if it is another object", () => {
    using counter = new RunCounter();
    using program = counter.program("sk_msg", pass);
    using array = new ArrayMap({ value: t.u32, length: 1 });
    for (const method of ["link", "attach", undefined] as const) {
      const options = method === undefined ? {} : { method };
      expect(() => program.attach({ map: array, ...options })).toThrow(
        /cannot attach to the map of sockets of descriptor .*is not a map of sockets/,
      );
      expect(() => program.attach({ map: program, ...options })).toThrow("not a map of sockets");
    }
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ map: array, method: "direct" })).toThrow('"link" or "attach"');
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach()).toThrow('expected a map of sockets as option "map"');
  });

  testUnless(bpfObstacle ?? (isKernelSince("6.10") ? "the kernel has such links" : undefined))(
    "has links since Linux 6.10",
    () => {
      using map = new SockMap({ length: 1 });
      using counter = new RunCounter();
      using program = counter.program("sk_msg", pass);
      expect(() => program.attach({ map, method: "link" })).toThrow(
        "Links to maps of sockets need Linux 6.10",
      );
      using link = program.attach({ map });
      expect(link.info().id).toBe(0);
    },
  );
});

testUnless(
  isKernelSince("5.13") ? "the kernel has the hook" : features.attachKinds.get("sk_msg").reason,
)("the hook sk_skb_verdict needs Linux 5.13", () => {
  using map = new SockMap({ length: 1 });
  using counter = new RunCounter();
  using program = counter.program("sk_skb", pass);
  expect(() => program.attach({ map, attachType: "sk_skb_verdict" })).toThrow(
    /EINVAL .*The hook sk_skb_verdict needs Linux 5\.13/,
  );
});

listTest("attachedPrograms() needs Linux 5.18 for maps of sockets", () => {
  using map = new SockMap({ length: 1 });
  if (canList) expect(idsOn(map)).toEqual([]);
  else expect(() => idsOn(map)).toThrow(/EINVAL .*needs Linux 5.18/);
});
