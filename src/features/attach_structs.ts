/** @module Ways to give the kernel a struct of functions. They are tried on one that the kernel uses for those who ask for it. */

import { Btf } from "../btf/btf.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { probeElement } from "../ffi/probe.ts";
import { BPF_F_LINK } from "../uapi/bpf.ts";
import { type AttachKinds, tryLink } from "./attach_kind.ts";
import { descriptorOf, KernelAnswer } from "./attempt.ts";
import { sinceByArchitecture } from "./by_architecture.ts";
import { mapTypes, probeMapOf } from "./map_types.ts";
import { kernelTypeId } from "./program_target.ts";
import { loadTrial } from "./smallest_program.ts";

/** An algorithm of TCP against congestion: connections ask for theirs by name, and for this one no one does. */
const struct = "tcp_congestion_ops";
/** The kernel's value of maps that are such a struct. */
const valueStruct = `bpf_struct_ops_${struct}`;
/** The functions without which the kernel does not take it. */
const functions = ["ssthresh", "undo_cwnd", "cong_avoid"] as const;

const facts = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_INET", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;

export const structKinds = {
  struct_ops: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    ...facts,
    attach: tryUpdate,
  },
  "struct_ops.link": { since: "6.4", ...facts, attach: tryStructLink },
} as const satisfies AttachKinds;

/** With the map's one value the kernel takes the struct, and with its deletion gives it back. */
function tryUpdate(): void {
  using map = makeMap(0);
  fill(map);
  const error = probeElement("BPF_MAP_DELETE_ELEM", map.fd, key, new Uint8Array(0));
  if (error !== undefined) throw new Error(`the struct of a trial cannot be taken back: ${error}`);
}

function tryStructLink(): void {
  using map = makeMap(BPF_F_LINK);
  fill(map);
  using _link = tryLink({ fd: map.fd, attachType: "STRUCT_OPS" });
}

const key = new Uint8Array(4);

function makeMap(flags: number): Descriptor {
  const facts = mapTypes.get("struct-ops");
  if (facts === undefined) throw new Error("there is no kind of map for structs of functions");
  return descriptorOf(probeMapOf({ ...facts, flags }));
}

/** Puts the smallest struct of that sort into a map. */
function fill(map: Descriptor): void {
  const btf = Btf.kernel();
  const value = new Uint8Array(btf.sizeOf(kernelTypeId("struct", valueStruct)));
  const view = new DataView(value.buffer);
  const place = (member: string) =>
    btf.field(valueStruct, "data").offset + btf.field(struct, member).offset;
  // Another process may try this at the same time.
  value.set(Buffer.from(`bunbpf${process.pid}`), place("name"));
  using programs = new DisposableStack();
  for (const member of functions) {
    const target = { kind: "struct", name: struct, member } as const;
    const program = programs.use(loadTrial({ type: "STRUCT_OPS", target }));
    view.setBigUint64(place(member), BigInt(program.fd), true);
  }
  const error = probeElement("BPF_MAP_UPDATE_ELEM", map.fd, key, value);
  if (error !== undefined) throw new KernelAnswer(error);
}
