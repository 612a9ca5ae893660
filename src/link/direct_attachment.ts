/** @module Attaches programs to cgroups, maps of sockets and network namespaces without links, by BPF_PROG_ATTACH. */

import type { BpfCallContext } from "../ffi/bpf.ts";
import {
  attachProgram,
  type DirectAttachmentOptions,
  detachProgram,
  type QueriedPrograms,
} from "../ffi/bpf_link.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { BPF_F_REPLACE } from "../uapi/bpf.ts";
import type { LinkedProgram } from "./link.ts";
import { Attachment, type AttachmentOperations } from "./attachment.ts";
import { HeldProgram, notAttached } from "./held_program.ts";
import type { CommonLinkInfo, LinkInfo } from "./link_info.ts";

type DistributiveOmit<Union, Names extends PropertyKey> = Union extends unknown
  ? Omit<Union, Names>
  : never;

/** A program that is to be attached without a link. */
export interface DirectRequest extends DirectAttachmentOptions {
  readonly program: LinkedProgram;
  readonly attachType: AttachTypeName;
  /** The descriptor of the target. The attachment owns it; it is closed if attaching fails. */
  readonly target: Descriptor;
  /** The name of the attachment, for errors. */
  readonly what: string;
  /** The texts of errors of attaching. */
  readonly context: BpfCallContext;
  /** Describes the attachment, without its program. */
  readonly info: () => DistributiveOmit<LinkInfo, keyof CommonLinkInfo>;
  /** Calls a function where the target is that of the calls. @default calls it, with the descriptor of the target */
  readonly atTarget?: (call: (targetFd: number) => void) => void;
  /** The bits of `flags` that hold for a later replacement of the program, too. @default flags */
  readonly lastingFlags?: number;
  /** True if the target takes several programs, so that replacing has to name the old program. */
  readonly isList?: boolean;
  /**
   * Lists the programs of the target, if the kernel replaces any program. It is checked first then, because another process
   * can have replaced this one.
   */
  readonly query?: () => QueriedPrograms;
  /** True if the kernel also detaches any program. @default false */
  readonly detachesAny?: boolean;
}

/** Attaches a program without a link. @throws {BpfError} if the kernel refuses. */
export function attachDirectly(request: DirectRequest): Attachment {
  const { target, what, program } = request;
  using opened = new DisposableStack();
  opened.use(target);
  const copy = opened.use(new HeldProgram(program));
  callAt(request, (targetFd) =>
    attachProgram(
      { programFd: copy.fd, attachType: request.attachType, targetFd },
      request.context,
      request,
    ),
  );
  target.what = what;
  const attachment = new Attachment(target, new DirectOperations(request, copy));
  opened.move();
  return attachment;
}

function callAt({ target, atTarget }: DirectRequest, call: (targetFd: number) => void): void {
  if (atTarget === undefined) call(target.fd);
  else atTarget(call);
}

class DirectOperations implements AttachmentOperations {
  readonly #request: DirectRequest;
  #program: HeldProgram;

  constructor(request: DirectRequest, program: HeldProgram) {
    this.#request = request;
    this.#program = program;
  }

  info(): LinkInfo {
    const programId = this.#program.id;
    return { id: 0, programId, ...this.#request.info() } as LinkInfo;
  }

  update(program: LinkedProgram, expected: LinkedProgram | undefined): void {
    const { what, attachType, isList = false, flags = 0, lastingFlags = flags } = this.#request;
    const doing = `replace the program of the ${what}`;
    const call = { doing, syscall: "bpf(BPF_PROG_ATTACH)" };
    this.#program.requireExpected(expected, call);
    this.#program.requireSameType(program, call);
    if (!this.#isAttached()) throw notAttached(call, replacedHint);
    using opened = new DisposableStack();
    const copy = opened.use(new HeldProgram(program));
    const replacing = isList
      ? { flags: lastingFlags | BPF_F_REPLACE, replacedFd: this.#program.fd }
      : { flags: lastingFlags };
    callAt(this.#request, (targetFd) =>
      attachProgram(
        { programFd: copy.fd, attachType, targetFd },
        { ...this.#request.context, doing },
        replacing,
      ),
    );
    this.#program[Symbol.dispose]();
    this.#program = copy;
    opened.move();
  }

  /** Returns false if the kernel is known to have another program instead. */
  #isAttached(): boolean {
    const { query } = this.#request;
    if (query === undefined) return true;
    const own = this.#program.id;
    return query().programs.some(({ programId }) => programId === own);
  }

  detach(): void {
    const { what, attachType, context, detachesAny = false } = this.#request;
    try {
      if (detachesAny && !this.#isAttached()) return;
      callAt(this.#request, (targetFd) =>
        detachProgram(
          { programFd: this.#program.fd, attachType, targetFd },
          { doing: `detach the ${what}`, needs: context.needs ?? ["CAP_BPF"] },
        ),
      );
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      // The program is not attached any more, or the kernel has removed the target. If a link has taken the place, the kernel
      // returns EINVAL or EBUSY.
      if (error.code !== "ENOENT" && this.#isAttached()) throw error;
    }
  }

  close(): void {
    this.#program[Symbol.dispose]();
  }
}

const replacedHint =
  "The program is not attached any more: another process has detached or replaced it";
