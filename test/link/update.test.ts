import { expect } from "bun:test";
import {
  asm,
  DisposedError,
  Link,
  type LinkedProgram,
  Program,
  features,
} from "../../src/index.ts";
import { loopback } from "./attachments.ts";
import { testWith } from "../support/needs.ts";

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
