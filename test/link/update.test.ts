import { describe, expect } from "bun:test";
import {
  asm,
  BpfError,
  DisposedError,
  Link,
  type LinkedProgram,
  Program,
  type SectionName,
  features,
} from "../../src/index.ts";
import { loopback } from "./attachments.ts";
import { datagramSocket } from "../maps/sockets.ts";
import { TestCgroup } from "../support/cgroups.ts";
import { testWith } from "../support/needs.ts";
import { TestNetwork, vethObstacle } from "../support/network.ts";
import { testUnless } from "../support/skipping.ts";

const tcxTest = testWith(features.attachKinds.get("tcx"));

/** TCX_NEXT: continue with the next program. */
const next = -1;

function classifier(): Program<"tc"> {
  return new Program({
    section: "tc",
    license: "GPL",
    code: [asm.mov(asm.r0, next), asm.exit()],
  });
}

/** Attaches a program to the loopback interface by a tcx link, which supports all operations (kernel 6.6). */
function attachToLoopback(program: Program<"tc">): Link {
  return program.attach({ interface: loopback, direction: "ingress", method: "tcx" });
}

tcxTest("update() replaces the program, if the link type supports it", () => {
  using first = classifier();
  using second = classifier();
  using link = attachToLoopback(first);
  expect(link.info()).toMatchObject({ type: "tcx", programId: first.info().id });
  expect(link.update(second)).toBe(link);
  expect(link.info().programId).toBe(second.info().id);
});

tcxTest("detach() leaves the link open, if the link type supports it", () => {
  using program = classifier();
  using link = attachToLoopback(program);
  const { id } = link.info();
  expect(link.detach()).toBe(link);
  expect(link.disposed).toBe(false);
  expect(link.info().id).toBe(id);
  using again = attachToLoopback(program);
  expect(again.info().id).not.toBe(id);
});

tcxTest("the arguments are checked before the kernel is called", () => {
  using program = classifier();
  using link = attachToLoopback(program);
  for (const wrong of [{}, null, undefined, 5] as unknown as LinkedProgram[]) {
    expect(() => link.update(wrong)).toThrow(TypeError);
    expect(() => link.update(wrong)).toThrow("update: expected a program, got ");
  }
  for (const wrong of ["", "/a\0b", undefined] as string[]) {
    expect(() => link.pin(wrong)).toThrow(TypeError);
    expect(() => link.unpin(wrong)).toThrow(TypeError);
  }
});

tcxTest("a disposed link throws DisposedError", () => {
  using program = classifier();
  const link = attachToLoopback(program);
  link[Symbol.dispose]();
  link[Symbol.dispose]();
  expect(link.disposed).toBe(true);
  for (const use of [
    () => link.fd,
    () => link.info(),
    () => link.update(program),
    () => link.detach(),
    () => link.pin("/nowhere"),
    () => link.unpin("/nowhere"),
  ]) {
    expect(use).toThrow(DisposedError);
  }
});

describe("a link without a target cannot be updated, and says so:", () => {
  for (const [kind, section, method] of [
    ["xdp", "xdp", "link"],
    ["tcx", "tcx/ingress", "tcx"],
  ] as const) {
    for (const end of ["detached", "of a removed interface"] as const) {
      const obstacle = vethObstacle ?? features.attachKinds.get(kind).reason;
      testUnless(obstacle)(`${kind}, ${end}`, () => {
        using network = new TestNetwork();
        network.addVeth(10, "left", "right");
        using program = new Program({
          section,
          license: "GPL",
          code: [asm.mov(asm.r0, 0), asm.exit()],
        });
        using link: Link = program.attachAs(section, { interface: "left", netns: network, method });
        if (end === "detached") link.detach();
        else network.remove(10);
        expect(() => link.update(program)).toThrow(
          /ENOLINK.* The link is detached, or its target is gone: attach the program again/,
        );
      });
    }
  }
});

describe("a program that does not fit is refused with the reason:", () => {
  /** Loads a program that returns 1. */
  const load = (section: SectionName): Program =>
    new Program({ section, license: "GPL", code: [asm.mov(asm.r0, 1), asm.exit()] });
  const refusal = (link: Link, section: SectionName): BpfError => {
    using wrong = load(section);
    try {
      link.update(wrong);
    } catch (error) {
      if (error instanceof BpfError) return error;
      throw error;
    }
    throw new Error(`${link} took a program of ${section}`);
  };
  const other = "The program is of type socket_filter, and the";

  tcxTest("a tcx link", () => {
    using program = classifier();
    using link = attachToLoopback(program);
    expect(refusal(link, "socket")).toMatchObject({
      code: "EINVAL",
      hint: `${other} link needs sched_cls`,
    });
    expect(refusal(link, "xdp").hint).toBe(
      "The program is of type xdp, and the link needs sched_cls",
    );
    expect(link.info().programId).toBe(program.id);
  });

  testWith(features.attachKinds.get("xdp"))("an xdp link", () => {
    using network = new TestNetwork();
    using program = load("xdp");
    using link = program.attachAs("xdp", { interface: "lo", netns: network, method: "link" });
    expect(refusal(link, "socket").hint).toBe(`${other} link needs xdp`);
    expect(refusal(link, "xdp/devmap").hint).toMatch(/another attach type than that of the link/);
  });

  testWith(features.attachKinds.get("raw_tp"))("a link that takes no other program", () => {
    using program = load("raw_tp");
    using link = program.attachAs("raw_tp", { tracepoint: "sched_process_exec" });
    for (const section of ["socket", "raw_tp"] as const) {
      expect(refusal(link, section).hint).toMatch(
        /^Links of this type cannot change their program/,
      );
    }
  });

  for (const [kind, section, needed] of [
    ["xdp_netlink", "xdp", "xdp"],
    ["tc", "tc/ingress", "sched_cls"],
  ] as const) {
    testWith(features.attachKinds.get(kind))(`${section} by netlink`, () => {
      using network = new TestNetwork();
      using program = load(section);
      const options = { interface: "lo", netns: network, method: "netlink" } as const;
      using link = program.attachAs(section, options);
      expect(refusal(link, "socket")).toMatchObject({
        code: "EINVAL",
        syscall: "netlink",
        hint: `${other} attachment needs ${needed}`,
      });
      expect(link.info().programId).toBe(program.id);
    });
  }

  testWith(features.attachKinds.get("socket"))("a socket filter", () => {
    using socket = datagramSocket();
    using program = load("socket");
    using link = program.attachAs("socket", { socket });
    expect(refusal(link, "xdp").hint).toBe(
      "The program is of type xdp, and the attachment needs socket_filter",
    );
  });

  testWith(features.attachKinds.get("cgroup_skb/egress"))("an attachment to a cgroup", () => {
    using cgroup = new TestCgroup();
    using program = load("cgroup_skb/egress");
    using link = program.attachAs("cgroup_skb/egress", { cgroup: cgroup.path, method: "attach" });
    expect(refusal(link, "socket").hint).toBe(`${other} attachment needs cgroup_skb`);
  });
});

testUnless(features.attachKinds.get("netfilter").reason)(
  "a netfilter link takes no other program, and says so",
  () => {
    using network = new TestNetwork();
    using program = new Program({
      section: "netfilter",
      license: "GPL",
      code: [asm.mov(asm.r0, 1), asm.exit()],
    });
    using link = program.attach({ family: "ipv4", hook: "local_in", netns: network });
    expect(() => link.update(program)).toThrow(
      /(EOPNOTSUPP|EINVAL).*Links of this type cannot change their program/,
    );
  },
);
