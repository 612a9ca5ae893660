import { type Keyword, keywordOf, keywordsByNumber } from "../types/keyword.ts";
import { bpfAttachTypes } from "../uapi/enumerations.ts";

/** What a program is attached to, or for: the kernel's `BPF_CGROUP_INET_INGRESS` is `"cgroup-inet-ingress"`. */
export type AttachTypeName = Keyword<keyof typeof bpfAttachTypes>;

const names = keywordsByNumber(bpfAttachTypes);

/** The name of a type of attachment, also for those that are newer than this library. */
export function attachTypeName(number: number): AttachTypeName {
  return keywordOf(names, number);
}
