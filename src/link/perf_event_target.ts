import type { InfoBuffer, ObjectInfo } from "../ffi/object_info.ts";
import { bpfPerfEventTypes } from "../uapi/enumerations.ts";
import { LINK_INFO } from "../uapi/layout.ts";
import { present64, presentText, textBuffer } from "./info_fields.ts";

/** What a program is attached to by a perf event. `cookie` is what it gets from `get_attach_cookie` (kernel 6.9). */
export type PerfEventTarget =
  | {
      /** A function of the kernel: its start, or its return. */
      readonly kind: "kprobe" | "kretprobe";
      /** `undefined` where it was given by its address alone. */
      readonly name: string | undefined;
      /** Bytes from the function's start. */
      readonly offset: number;
      /** Of the probe; `undefined` where the kernel hides it from this process (see {@link KernelSymbols.read}). */
      readonly address: bigint | undefined;
      /** How often the program was not run because it was running on that CPU already (kernel 6.7). */
      readonly missed: number;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A function of a file: its start, or its return. */
      readonly kind: "uprobe" | "uretprobe";
      readonly path: string | undefined;
      /** Where in the file, in bytes. */
      readonly offset: number;
      readonly cookie: bigint | undefined;
    }
  | {
      readonly kind: "tracepoint";
      /** Without its category: `"sched_switch"`. */
      readonly name: string | undefined;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A counter: what is counted is in `perf_event_open(2)`. */
      readonly kind: "event";
      /** The kernel's number, `PERF_TYPE_*`. */
      readonly eventType: number;
      /** Which one of that type. */
      readonly config: bigint;
      readonly cookie: bigint | undefined;
    };

const { UPROBE, URETPROBE, KPROBE, KRETPROBE, TRACEPOINT, EVENT } = bpfPerfEventTypes;

/** Room for the name of what a perf event is of; the event's type is known by now. */
export function perfEventBuffers(info: ObjectInfo): InfoBuffer[] {
  switch (info.u32(LINK_INFO.perf_event_type)) {
    case KPROBE:
    case KRETPROBE:
      return [
        textBuffer(LINK_INFO.perf_event_kprobe_func_name, LINK_INFO.perf_event_kprobe_name_len),
      ];
    case UPROBE:
    case URETPROBE:
      return [
        textBuffer(LINK_INFO.perf_event_uprobe_file_name, LINK_INFO.perf_event_uprobe_name_len),
      ];
    case TRACEPOINT:
      return [
        textBuffer(
          LINK_INFO.perf_event_tracepoint_tp_name,
          LINK_INFO.perf_event_tracepoint_name_len,
        ),
      ];
    default:
      return [];
  }
}

/** What a perf event is of, or `undefined` where the kernel does not say. */
export function readPerfEventTarget(info: ObjectInfo): PerfEventTarget | undefined {
  const type = info.u32(LINK_INFO.perf_event_type);
  switch (type) {
    case KPROBE:
    case KRETPROBE:
      return {
        kind: type === KPROBE ? "kprobe" : "kretprobe",
        name: presentText(info.text(LINK_INFO.perf_event_kprobe_func_name)),
        offset: info.u32(LINK_INFO.perf_event_kprobe_offset),
        address: present64(info, LINK_INFO.perf_event_kprobe_addr),
        missed: info.u64n(LINK_INFO.perf_event_kprobe_missed),
        cookie: present64(info, LINK_INFO.perf_event_kprobe_cookie),
      };
    case UPROBE:
    case URETPROBE:
      return {
        kind: type === UPROBE ? "uprobe" : "uretprobe",
        path: presentText(info.text(LINK_INFO.perf_event_uprobe_file_name)),
        offset: info.u32(LINK_INFO.perf_event_uprobe_offset),
        cookie: present64(info, LINK_INFO.perf_event_uprobe_cookie),
      };
    case TRACEPOINT:
      return {
        kind: "tracepoint",
        name: presentText(info.text(LINK_INFO.perf_event_tracepoint_tp_name)),
        cookie: present64(info, LINK_INFO.perf_event_tracepoint_cookie),
      };
    case EVENT:
      return {
        kind: "event",
        eventType: info.u32(LINK_INFO.perf_event_event_type),
        config: info.u64(LINK_INFO.perf_event_event_config),
        cookie: present64(info, LINK_INFO.perf_event_event_cookie),
      };
    default:
      return undefined;
  }
}
