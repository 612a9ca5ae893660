/** @module The context of a program: the parameter `ctx`. */

import { statSync } from "../../ffi/files.ts";
import { BPF_F_USER_STACK } from "../../uapi/bpf.ts";
import { BuiltInValue, numberArgument } from "./globals.ts";
import type { Node } from "../ir/ir.ts";
import { pointerTo } from "./kernel_memory.ts";
import { MapValue } from "./map_value.ts";
import { WrittenText } from "./text.ts";
import {
  BigintValue,
  BooleanValue,
  FixedValue,
  NumberValue,
  type Syntax,
  type Value,
  type Lowering,
  argument,
} from "./value.ts";

/** Members that a section adds to the context. */
export interface SectionMembers {
  /** Returns the value of a member; `undefined` if the section does not have it. */
  property(l: Lowering, context: Node, name: string, at: Syntax): Value | undefined;
  /** Names of the members, for messages. */
  readonly names: readonly string[];
}

/** The length of a task's name in the kernel. */
const commLength = 16;

type Member = (l: Lowering) => Value;

const u32 = { min: 0, max: 2 ** 32 - 1 };

/** Inode of the first PID namespace: PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h. */
const initialPidNamespace = 0xeffffffcn;

/** A PID namespace, as `bpf_get_ns_current_pid_tgid()` takes it. */
interface PidNamespace {
  readonly device: bigint;
  readonly inode: bigint;
}

let knownNamespace: { readonly own: PidNamespace | undefined } | undefined;

/**
 * Returns the PID namespace of this process, if it is not the first, whose ids are those of the kernel. A process never changes
 * its own: setns(2) sets that of its children.
 */
function ownPidNamespace(): PidNamespace | undefined {
  return (knownNamespace ??= { own: readPidNamespace() }).own;
}

function readPidNamespace(): PidNamespace | undefined {
  const { dev, ino } = statSync("/proc/self/ns/pid", { bigint: true });
  if (ino === initialPidNamespace) return undefined;
  // stat(2) has another encoding than the kernel, which keeps the minor number in the low 20 bits.
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xfff00n);
  const major = (dev >> 8n) & 0xfffn;
  return { device: (major << 20n) | minor, inode: ino };
}

/** The halves of `bpf_get_current_pid_tgid()`, or of the ids in the namespace of this process. */
function ids(l: Lowering): { pid: Node; tid: Node } {
  const { b } = l;
  const namespace = ownPidNamespace();
  if (namespace === undefined) return hostIds(l);
  const place = b.slot({ size: 8, align: 8, name: "ids" });
  b.store(place, 0, 8, 0);
  b.callHelper(
    "get_ns_current_pid_tgid",
    b.constant(namespace.device),
    b.constant(namespace.inode),
    place,
    8,
  );
  return { tid: b.load(place, 0, 4), pid: b.load(place, 4, 4) };
}

function hostIds(l: Lowering): { pid: Node; tid: Node } {
  const { b } = l;
  const both = b.callHelper("get_current_pid_tgid");
  return { pid: b.binary("rsh", both, 32), tid: b.extend(both, 32, false) };
}

/** Returns the function that records a stack in a map, and returns its id: a negative number if it fails. */
function stackId(name: string, flags: number): Value {
  return new BuiltInValue(name, (l, args, at) => {
    const map = argument(l, args, 0, at);
    if (!(map instanceof MapValue) || map.map.type !== "stack_trace") {
      return l.refuse(
        args[0] ?? at,
        `expected a StackTraceMap of the scope, got ${map.describe()}`,
      );
    }
    const id = l.b.callHelper("get_stackid", l.contextNode, map.node(l), flags);
    return numberValue(l, id, { min: -(2 ** 31), max: 2 ** 31 - 1 });
  });
}

const numberValue = (l: Lowering, node: Node, range = u32) =>
  new NumberValue(l.b.number(node, range));

/** Members of every context. */
const members: Readonly<Record<string, Member>> = {
  pid: (l) => numberValue(l, ids(l).pid),
  tid: (l) => numberValue(l, ids(l).tid),
  hostPid: (l) => numberValue(l, hostIds(l).pid),
  isSelf: (l) => new BooleanValue(l.b.compare("eq", ids(l).pid, process.pid)),
  uid: (l) => numberValue(l, l.b.extend(l.b.callHelper("get_current_uid_gid"), 32, false)),
  gid: (l) => numberValue(l, l.b.binary("rsh", l.b.callHelper("get_current_uid_gid"), 32)),
  comm: () =>
    new WrittenText(commLength, (l, place, capacity) => {
      l.b.callHelper("get_current_comm", l.b.address(place.pointer, place.offset), capacity);
    }),
  now: (l) => new BigintValue(l.b.callHelper("ktime_get_ns")),
  nowUs: (l) => {
    const nanoseconds = l.b.callHelper("ktime_get_ns");
    const range = { min: 0, max: Number.MAX_SAFE_INTEGER };
    return numberValue(l, l.b.binary("div", nanoseconds, 1000), range);
  },
  cpu: (l) => numberValue(l, l.b.callHelper("get_smp_processor_id")),
  random: (l) => numberValue(l, l.b.callHelper("get_prandom_u32")),
  task: (l) => {
    const btf = l.host.kernelTypes();
    const { typeId } = btf.field("task_struct", "real_parent");
    const target = btf.resolve(typeId).typeId;
    // A pointer with a type, which the verifier lets programs read through, needs Linux 5.11.
    const isTyped = l.host.hasTypedTask;
    const node = l.b.callHelper(isTyped ? "get_current_task_btf" : "get_current_task");
    return pointerTo(btf, node, target, isTyped ? "direct" : "probe");
  },
  kernelStack: () => stackId("kernelStack", 0),
  userStack: () => stackId("userStack", BPF_F_USER_STACK),
  signal: () =>
    new BuiltInValue("signal", (l, args, at) => {
      const result = l.b.callHelper("send_signal", numberArgument(l, args, 0, at).node(l.b));
      return new BooleanValue(l.b.compare("eq", result, 0));
    }),
  cgroupId: (l) => new BigintValue(l.b.callHelper("get_current_cgroup_id"), false),
};

/** The context. */
export class ContextValue extends FixedValue {
  readonly #node: Node;
  readonly #section: SectionMembers;
  readonly #probe: Value;

  constructor(node: Node, section: SectionMembers, probe: Value) {
    super();
    this.#node = node;
    this.#section = section;
    this.#probe = probe;
  }

  override describe(): string {
    return "the context";
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (name === "probe") return this.#probe;
    const own = this.#section.property(l, this.#node, name, at);
    if (own !== undefined) return own;
    if (Object.hasOwn(members, name)) return (members[name] as Member)(l);
    const names = [...this.#section.names, ...Object.keys(members), "probe"].join(", ");
    return l.refuse(at, `the context has no member ${JSON.stringify(name)}`, `It has ${names}`);
  }
}
