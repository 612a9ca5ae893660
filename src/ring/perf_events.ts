import { possibleCpus } from "../ffi/cpus.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { MapElement } from "../ffi/map_element.ts";
import { enablePerfEvent, openOutputEvent } from "../ffi/perf_event.ts";
import { PerfPages } from "../ffi/perf_memory.ts";
import type { BpfMap } from "../maps/bpf_map.ts";
import { u32 } from "../types/integer.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import { MergedReader } from "./merged_reader.ts";
import type { WatchedSource } from "./merged_watch.ts";
import { PerfReaderCommons } from "./perf_commons.ts";
import type { PerfLayout } from "./perf_kind.ts";
import { PerfReader } from "./perf_reader.ts";

/** Perf events that are in a map, one for each CPU, and what reads them. */
export interface PerfEvents {
  readonly reader: MergedReader;
  readonly sources: readonly WatchedSource[];
  readonly cpus: readonly number[];
  /** Closes the events. The kernel takes them out of the map when the descriptor that stored them is closed. */
  readonly close: () => void;
}

/** The maps that have the perf events of an object of this thread, by the kernel's id. */
const taken = new Set<number>();

/**
 * Opens a perf event for each CPU that is online, and puts it into the map at the CPU's index.
 *
 * @throws {BpfError} `EACCES` without CAP_PERFMON, `EMFILE` where descriptors run out, `EPERM` where locked memory does
 * @throws {Error} when the map has another object's events
 */
export function openPerfEvents(map: BpfMap, { size, watermark }: PerfLayout): PerfEvents {
  using opened = new DisposableStack();
  take(map, opened);
  const events: { readonly cpu: number; readonly event: Descriptor }[] = [];
  for (const cpu of possibleCpus()) {
    // A map that others made may have fewer places.
    if (cpu >= map.maxEntries) continue;
    const what = `perf event of CPU ${cpu} for ${map}`;
    const fd = openOutputEvent(cpu, watermark, what);
    if (fd !== undefined) events.push({ cpu, event: opened.use(new Descriptor(fd, what)) });
  }
  if (events.length === 0) {
    throw new Error(
      `no CPU is online that ${map}, with ${map.maxEntries} entries, has a place for`,
    );
  }
  const fds = events.map(({ event }) => event.fd);
  const pages = opened.use(new PerfPages(fds, size, `perf buffers of ${map}`));
  for (const { event } of events) enablePerfEvent(event.fd, event.what);
  // The last of it, as nothing takes them back from a map that is open elsewhere, too.
  using element = new MapElement(map.fd, u32.size, u32.size, `${map}`);
  for (const { cpu, event } of events) {
    element.setIndex(cpu);
    element.view.setUint32(element.valueOffset, event.fd, true);
    element.update(BPF_ANY, `the perf event of CPU ${cpu}`);
  }
  const commons = new PerfReaderCommons(size);
  const readers = pages.buffers.map((memory, index) => {
    const { cpu } = events[index] as (typeof events)[number];
    return new PerfReader(memory, cpu, commons, `${map}`);
  });
  const sources = readers.map((reader, index): WatchedSource => {
    const { event } = events[index] as (typeof events)[number];
    return {
      get fd() {
        return event.fd;
      },
      get isDue() {
        return reader.isDue(watermark);
      },
    };
  });
  const all = opened.move();
  return {
    reader: new MergedReader({ readers, commons, memory: pages, size }),
    sources,
    cpus: events.map(({ cpu }) => cpu),
    close: () => all.dispose(),
  };
}

/** Notes that a map has the events of an object, until that is closed. @throws {Error} when it has another's */
function take(map: BpfMap, opened: DisposableStack): void {
  const { id } = map;
  if (taken.has(id)) {
    throw new Error(
      `${map} has a PerfBuffer already, whose perf events a second one would replace: dispose of that first`,
    );
  }
  taken.add(id);
  opened.defer(() => taken.delete(id));
}
