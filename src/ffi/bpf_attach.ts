import { bpfAttachTypes } from "../uapi/enumerations.ts";
import { PROG_ATTACH } from "../uapi/layout.ts";
import { BpfAttr, type BpfCallContext } from "./bpf.ts";

/** An attachment that is no link: it stays until it is undone, also when the process ends and the program is closed. */
export interface Attachment {
  readonly programFd: number;
  readonly attachType: keyof typeof bpfAttachTypes;
  /** A cgroup or a map of sockets; 0 for the network namespace of this thread. */
  readonly targetFd: number;
}

/** Attaches a program to what is no file and no function (kernel 4.10). */
export function attachProgram(attachment: Attachment, context: BpfCallContext): void {
  using attr = fill(attachment);
  attr.call("BPF_PROG_ATTACH", context);
}

/** Undoes {@link attachProgram}, for one program where several can be attached (kernel 4.10). */
export function detachProgram(attachment: Attachment, context: BpfCallContext): void {
  using attr = fill(attachment);
  attr.call("BPF_PROG_DETACH", context);
}

function fill({ programFd, attachType, targetFd }: Attachment): BpfAttr {
  return new BpfAttr(PROG_ATTACH.replace_bpf_fd)
    .u32(PROG_ATTACH.target_fd, targetFd)
    .u32(PROG_ATTACH.attach_bpf_fd, programFd)
    .u32(PROG_ATTACH.attach_type, bpfAttachTypes[attachType]);
}
