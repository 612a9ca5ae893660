import { BPF_F_KPROBE_MULTI_RETURN, BPF_F_UPROBE_MULTI_RETURN } from "../uapi/bpf.ts";
import { bpfAttachTypes } from "../uapi/enumerations.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/netfilter.ts";
import { BpfAttr, type BpfCallContext } from "./bpf.ts";

/** What a link is made to, and so which part of BPF_LINK_CREATE is filled in. */
export type LinkTarget =
  /** A cgroup, a network namespace or a map of sockets, open (kernel 5.7, 5.8, 6.10). */
  | { readonly kind: "descriptor"; readonly fd: number }
  /** A network interface of this thread's namespace (kernel 5.9). */
  | { readonly kind: "interface"; readonly index: number }
  /** A perf event, open (kernel 5.15). */
  | { readonly kind: "perf event"; readonly fd: number; readonly cookie?: bigint }
  /** What the program was loaded for: an iterator (kernel 5.8), a function or a tracepoint by BTF (kernel 5.19). */
  | { readonly kind: "loaded for"; readonly cookie?: bigint }
  /** Functions of the kernel by name (kernel 5.18): their starts or, with `isReturn`, their returns. */
  | {
      readonly kind: "kernel functions";
      readonly names: readonly string[];
      readonly isReturn?: boolean;
      /** One for each name. */
      readonly cookies?: readonly bigint[];
    }
  /** Places in a file, in bytes (kernel 6.6). */
  | {
      readonly kind: "file places";
      readonly path: string;
      readonly offsets: readonly number[];
      readonly isReturn?: boolean;
      /** One for each place. */
      readonly cookies?: readonly bigint[];
    }
  /** Functions of the kernel by their ids in its BTF (kernel 7.2). */
  | {
      readonly kind: "typed functions";
      readonly ids: readonly number[];
      /** One for each id. */
      readonly cookies?: readonly bigint[];
    }
  /** A hook of netfilter, in this thread's namespace (kernel 6.4). */
  | {
      readonly kind: "netfilter";
      readonly family: keyof typeof netfilterFamilies;
      readonly hook: keyof typeof netfilterHooks;
      /** Lower ones come first. */
      readonly priority: number;
    };

/** What a link is made of. */
export interface LinkParts {
  /** A program, or the map that is a struct of functions. */
  readonly fd: number;
  readonly attachType: keyof typeof bpfAttachTypes;
  /** None for a struct of functions. */
  readonly target?: LinkTarget;
}

/** Makes a link (kernel 5.7; what it can be made to came later, one by one). @returns its descriptor */
export function createLink({ fd, attachType, target }: LinkParts, context: BpfCallContext): number {
  using attr = new BpfAttr(LINK_CREATE.sizeof);
  attr.u32(LINK_CREATE.prog_fd, fd).u32(LINK_CREATE.attach_type, bpfAttachTypes[attachType]);
  if (target !== undefined) fillTarget(attr, target);
  return attr.call("BPF_LINK_CREATE", context);
}

function fillTarget(attr: BpfAttr, target: LinkTarget): void {
  switch (target.kind) {
    case "descriptor":
      attr.u32(LINK_CREATE.target_fd, target.fd);
      break;
    case "interface":
      attr.u32(LINK_CREATE.target_ifindex, target.index);
      break;
    case "perf event":
      attr.u32(LINK_CREATE.target_fd, target.fd);
      attr.u64(LINK_CREATE.perf_event_bpf_cookie, target.cookie ?? 0);
      break;
    case "loaded for":
      attr.u64(LINK_CREATE.tracing_cookie, target.cookie ?? 0);
      break;
    case "kernel functions":
      attr
        .u32(LINK_CREATE.kprobe_multi_flags, target.isReturn ? BPF_F_KPROBE_MULTI_RETURN : 0)
        .u32(LINK_CREATE.kprobe_multi_cnt, target.names.length);
      pointToTexts(attr, LINK_CREATE.kprobe_multi_syms, target.names);
      pointToNumbers(attr, LINK_CREATE.kprobe_multi_cookies, target.cookies);
      break;
    case "file places":
      attr
        .string(LINK_CREATE.uprobe_multi_path, target.path)
        .u32(LINK_CREATE.uprobe_multi_cnt, target.offsets.length)
        .u32(LINK_CREATE.uprobe_multi_flags, target.isReturn ? BPF_F_UPROBE_MULTI_RETURN : 0);
      pointToNumbers(attr, LINK_CREATE.uprobe_multi_offsets, target.offsets.map(BigInt));
      pointToNumbers(attr, LINK_CREATE.uprobe_multi_cookies, target.cookies);
      break;
    case "typed functions":
      attr.u32(LINK_CREATE.tracing_multi_cnt, target.ids.length);
      attr.memory(
        LINK_CREATE.tracing_multi_ids,
        new Uint8Array(Uint32Array.from(target.ids).buffer),
      );
      pointToNumbers(attr, LINK_CREATE.tracing_multi_cookies, target.cookies);
      break;
    case "netfilter":
      attr
        .u32(LINK_CREATE.netfilter_pf, netfilterFamilies[target.family])
        .u32(LINK_CREATE.netfilter_hooknum, netfilterHooks[target.hook])
        .u32(LINK_CREATE.netfilter_priority, target.priority >>> 0);
      break;
  }
}

/** Points to an array of numbers of 64 bits; to nothing where there is none. */
function pointToNumbers(
  attr: BpfAttr,
  offset: number,
  numbers: readonly bigint[] | undefined,
): void {
  if (numbers === undefined) return;
  attr.memory(offset, new Uint8Array(BigUint64Array.from(numbers).buffer));
}

/** Points to an array of pointers to texts, which stand behind it in the same memory. */
function pointToTexts(attr: BpfAttr, offset: number, texts: readonly string[]): void {
  const encoded = texts.map((text) => Buffer.from(`${text}\0`));
  const pointersSize = texts.length * 8;
  const textsSize = encoded.reduce((size, { length }) => size + length, 0);
  const { address, bytes, view } = attr.memory(offset, pointersSize + textsSize);
  let place = pointersSize;
  for (const [index, text] of encoded.entries()) {
    view.setBigUint64(index * 8, BigInt(address + place), true);
    bytes.set(text, place);
    place += text.length;
  }
}
