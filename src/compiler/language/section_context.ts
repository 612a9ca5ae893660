/** @module Members of the context, and results, of each section. */

import { Btf } from "../../btf/btf.ts";
import { tracepointType } from "../../link/tracepoint_type.ts";
import type { AnyType } from "../../maps/map_options.ts";
import type { Section } from "../../program/sections.ts";
import type { FieldPlace } from "../../types/type.ts";
import {
  TC_ACT_OK,
  TC_ACT_PIPE,
  TC_ACT_REDIRECT,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
} from "../../uapi/constants.ts";
import type { SectionResults } from "./translate.ts";
import type { SectionMembers } from "./context.ts";
import type { Node } from "../ir/ir.ts";
import { type Access, pointerTo, PointerValue, readType } from "./kernel_memory.ts";
import { placeAt, stablePlace } from "./memory_place.ts";
import { loadValue } from "./memory.ts";
import { PacketValue } from "./packet.ts";
import { BigintValue, FixedValue, type Syntax, type Value, type Lowering } from "./value.ts";

/** Members and results of a section. */
export interface SectionContext {
  readonly members: SectionMembers;
  readonly results: SectionResults;
}

/** The arguments of a program, by name: `ctx.args`. */
class ArgumentsValue extends FixedValue {
  readonly #names: readonly string[];
  readonly #read: (l: Lowering, name: string, at: Syntax) => Value | undefined;

  constructor(
    names: readonly string[],
    read: (l: Lowering, name: string, at: Syntax) => Value | undefined,
  ) {
    super();
    this.#names = names;
    this.#read = read;
  }

  override describe(): string {
    return "the arguments";
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const value = this.#read(l, name, at);
    if (value !== undefined) return value;
    return l.refuse(
      at,
      `there is no argument ${JSON.stringify(name)}`,
      `The arguments are ${this.#names.join(", ") || "none"}`,
    );
  }
}

const anyResult: SectionResults = { none: 0 };

/** Members of sections that have only those of every context. */
const noMembers: SectionMembers = { names: [], property: () => undefined };

/** Returns what is known of a section. @throws {BpfError} if this kernel does not have its target. */
export function sectionContext({ row, name, target = "" }: Section): SectionContext {
  const { programType } = row;
  switch (programType) {
    case "tracepoint":
      return { members: tracepointMembers(target), results: anyResult };
    case "tracing":
    case "lsm":
      if (row.loadTarget?.kind === "typedef") {
        return { members: protoMembers(tracepointProto(target), 1), results: anyResult };
      }
      return { members: functionMembers(row.loadTarget?.prefix ?? "", target), results: anyResult };
    case "kprobe":
      return { members: probeMembers(name, target), results: anyResult };
    case "raw_tracepoint":
    case "raw_tracepoint_writable":
      return { members: rawMembers(target), results: anyResult };
    case "xdp":
      return {
        members: packetMembers("xdp_md"),
        results: {
          names: {
            aborted: XDP_ABORTED,
            drop: XDP_DROP,
            pass: XDP_PASS,
            tx: XDP_TX,
            redirect: XDP_REDIRECT,
          },
          none: undefined,
        },
      };
    case "sched_cls":
    case "sched_act":
      return {
        members: packetMembers("__sk_buff"),
        results: {
          names: {
            ok: TC_ACT_OK,
            shot: TC_ACT_SHOT,
            pipe: TC_ACT_PIPE,
            next: TC_ACT_UNSPEC,
            redirect: TC_ACT_REDIRECT,
          },
          none: undefined,
        },
      };
    case "sk_lookup":
      return { members: noMembers, results: { names: { drop: 0, pass: 1 }, none: undefined } };
    default:
      return {
        members: noMembers,
        results: name.startsWith("cgroup") ? { none: undefined } : anyResult,
      };
  }
}

/** The packet of a program for packets, and the fields of its context. */
function packetMembers(struct: "xdp_md" | "__sk_buff"): SectionMembers {
  const fields = structMembers(struct);
  return {
    names: ["packet", ...fields.names],
    property: (l, context, name, at) => {
      if (name !== "packet") return fields.property(l, context, name, at);
      const btf = Btf.kernel();
      return new PacketValue(context, {
        data: btf.field(struct, "data").offset,
        dataEnd: btf.field(struct, "data_end").offset,
        length: struct === "__sk_buff" ? btf.field(struct, "len").offset : undefined,
      });
    },
  };
}

/** The fields of a context, as the kernel's BTF has its struct. */
function structMembers(struct: string): SectionMembers {
  const btf = Btf.kernel();
  const id = btf.find("struct", struct);
  if (id === undefined) return noMembers;
  return {
    names: btf.members(id).flatMap(({ name }) => (name === "" ? [] : [name])),
    property: (l, context, name, at) => {
      const target = new PointerValue(context, { btf, id }, "direct");
      return target.hasMember(name) ? target.property(l, name, at) : undefined;
    },
  };
}

/** Fields of a classic tracepoint, from its format. */
function tracepointMembers(target: string): SectionMembers {
  const { fields } = tracepointType(target) as {
    fields: Readonly<Record<string, FieldPlace<AnyType>>>;
  };
  // Programs cannot read the first 8 bytes.
  const names = Object.keys(fields).filter(
    (name) => (fields[name] as FieldPlace<AnyType>).offset >= 8,
  );
  return {
    names: ["args"],
    property: (_l, context, name) => {
      if (name !== "args") return undefined;
      return new ArgumentsValue(names, (l, field, at) => {
        const found = names.includes(field) ? fields[field] : undefined;
        if (found === undefined) return undefined;
        const place = placeAt(stablePlace(context, "it is the context"), found.offset);
        const value = loadValue(l, found.type, place, at);
        // Pointers and other unsigned integers of 64 bits have the same format.
        if (found.type.kind === "u64" && value instanceof BigintValue) {
          return new PointerOrNumber(value.node(l.b));
        }
        return value;
      });
    },
  };
}

/** A field of a tracepoint with 64 bits, which may be an address: it has the methods of pointers, and computes as a bigint. */
class PointerOrNumber extends BigintValue {
  constructor(node: Node) {
    super(node, false);
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return new PointerValue(this.node(l.b), undefined, "probe").property(l, name, at);
  }

  override callMethod(
    l: Lowering,
    name: string,
    args: Parameters<Value["callMethod"]>[2],
    at: Syntax,
  ): Value {
    return new PointerValue(this.node(l.b), undefined, "probe").callMethod(l, name, args, at);
  }
}

/** The prototype of a function, in the kernel's BTF. */
interface Prototype {
  readonly btf: Btf;
  readonly id: number;
}

/** Returns the prototype of a tracepoint, whose first parameter is not an argument. */
function tracepointProto(target: string): Prototype | undefined {
  const btf = Btf.kernel();
  // The typedef that programs are loaded for has no names of parameters; the function that runs them has.
  const fn = btf.find("func", `__bpf_trace_${target}`);
  if (fn !== undefined) return { btf, id: btf.type(fn).typeId };
  const id = btf.find("typedef", `btf_trace_${target}`);
  return id === undefined ? undefined : { btf, id: btf.resolve(btf.resolve(id).typeId).id };
}

function functionMembers(prefix: string, target: string): SectionMembers {
  const btf = Btf.kernel();
  const id = btf.find("func", `${prefix}${target}`);
  return protoMembers(id === undefined ? undefined : { btf, id: btf.type(id).typeId }, 0);
}

/** Arguments in the context of a tracing program: 8 bytes each. @param skipped number of parameters that are not arguments */
function protoMembers(proto: Prototype | undefined, skipped: number): SectionMembers {
  if (proto === undefined) return noMembers;
  const { btf, id } = proto;
  const parameters = btf.parameters(id).slice(skipped);
  const names = parameters.map(({ name }, index) => name || `arg${index}`);
  const result = btf.type(id).typeId;
  return {
    names: ["args", "ret"],
    property: (l, context, name, at) => {
      if (name === "ret" && result !== 0) {
        return argumentValue(l, btf, result, context, parameters.length * 8, at);
      }
      if (name !== "args") return undefined;
      return new ArgumentsValue(names, (inner, argument, where) => {
        const index = names.indexOf(argument);
        const parameter = parameters[index];
        if (parameter === undefined) return undefined;
        return argumentValue(inner, btf, parameter.typeId, context, index * 8, where);
      });
    },
  };
}

/** Reads an argument of 8 bytes in the context. */
function argumentValue(
  l: Lowering,
  btf: Btf,
  typeId: number,
  context: Node,
  offset: number,
  at: Syntax,
): Value {
  const { b } = l;
  const type = btf.resolve(typeId);
  if (type.kind === "ptr") {
    const access: Access = "direct";
    return pointerTo(btf, b.load(context, offset, 8, { constant: true }), type.typeId, access);
  }
  // The verifier only allows loads of 8 bytes. The rest of them is not defined.
  const node = b.load(context, offset, 8, { constant: true });
  const room = b.slot({ size: 8, align: 8, name: "argument" });
  b.store(room, 0, 8, node);
  return readType(l, { btf, pointer: room, offset: 0, access: "direct" }, typeId, at);
}

/** Registers of the arguments of functions, and of the result, as `struct pt_regs` names them. */
const registers: Readonly<Record<string, { arguments: readonly string[]; result: string }>> = {
  x64: { arguments: ["di", "si", "dx", "cx", "r8", "r9"], result: "ax" },
  arm64: {
    arguments: Array.from({ length: 8 }, (_, index) => `regs.${index}`),
    result: "regs.0",
  },
};

/** Returns the offset of a register in the context of a probe. */
function registerOffset(btf: Btf, name: string): number {
  const [field = "", index] = name.split(".");
  return btf.field("pt_regs", field).offset + Number(index ?? 0) * 8;
}

/** Arguments of a probed function, in registers. The verifier does not know their types. */
function probeMembers(name: string, target: string): SectionMembers {
  const places = registers[process.arch];
  // Patterns stand for many functions, and addresses for none with a name.
  const isFunction = /^k(?:ret)?probe\//.test(name) && /^[A-Za-z_]\w*$/.test(target);
  if (places === undefined || !isFunction) return noMembers;
  const btf = Btf.kernel();
  const id = btf.find("func", target);
  if (id === undefined) return noMembers;
  const proto = btf.type(id).typeId;
  const isReturn = name.startsWith("kret");
  const parameters = isReturn ? [] : btf.parameters(proto).slice(0, places.arguments.length);
  const names = parameters.map(({ name: own }, index) => own || `arg${index}`);
  const result = btf.type(proto).typeId;
  const read = (l: Lowering, typeId: number, context: Node, register: string, at: Syntax) => {
    const value = argumentValue(l, btf, typeId, context, registerOffset(btf, register), at);
    return value instanceof PointerValue
      ? new PointerValue(value.node, value.target, "probe")
      : value;
  };
  return {
    names: isReturn ? ["ret"] : ["args"],
    property: (l, context, member, at) => {
      if (member === "ret" && isReturn && result !== 0)
        return read(l, result, context, places.result, at);
      if (member !== "args" || isReturn) return undefined;
      return new ArgumentsValue(names, (inner, argument, where) => {
        const index = names.indexOf(argument);
        const parameter = parameters[index];
        return (
          parameter &&
          read(inner, parameter.typeId, context, places.arguments[index] as string, where)
        );
      });
    },
  };
}

/** Arguments of a raw tracepoint: the kernel does not check their types. */
function rawMembers(target: string): SectionMembers {
  const proto = tracepointProto(target);
  if (proto === undefined) return noMembers;
  const { btf, id } = proto;
  const parameters = btf.parameters(id).slice(1);
  const names = parameters.map(({ name }, index) => name || `arg${index}`);
  return {
    names: ["args"],
    property: (_l, context, name) => {
      if (name !== "args") return undefined;
      return new ArgumentsValue(names, (l, argument, at) => {
        const index = names.indexOf(argument);
        const parameter = parameters[index];
        if (parameter === undefined) return undefined;
        const value = argumentValue(l, btf, parameter.typeId, context, index * 8, at);
        return value instanceof PointerValue
          ? new PointerValue(value.node, value.target, "probe")
          : value;
      });
    },
  };
}
