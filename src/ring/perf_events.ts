import { MapElement } from "../ffi/bpf_map_element.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { enablePerfEvent, openOutputEvent, pausePerfEvent, PerfPages } from "../ffi/perf_event.ts";
import { throwUncaught } from "../loop/bridge.ts";
import type { Watch } from "../loop/event_loop.ts";
import { checkMilliseconds, CpuCheck, type CpuSource, thisMachine } from "../loop/online_cpus.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import type { BpfMap } from "../maps/bpf_map.ts";
import { u32 } from "../types/integer.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import { MergedWatch, type PerfLayout, type WatchedSource } from "./perf_cpus.ts";
import { type CpuReader, PerfReader, type SharedPerfBuffer } from "./perf_reader.ts";
import { SnapshotPerf } from "./perf_snapshot.ts";

/** The CPUs, their perf events and the clocks of a machine: this one, or a fake in tests. */
export interface Machine extends CpuSource {
  /** Opens the perf event of a CPU. Returns its descriptor, or `undefined` if the CPU is offline. */
  openOutputEvent(cpu: number, layout: PerfLayout, what: string): number | undefined;
}

/** Ids of the maps that have the perf events of an object of this thread. */
const claimedMaps = new Set<number>();

/** The perf event of a CPU, with its memory and its reader. */
interface CpuEvent {
  readonly cpu: number;
  /** The index of its pages in the {@link PerfPages}. */
  readonly pagesIndex: number;
  readonly event: Descriptor;
  readonly memory: SharedPerfBuffer;
  readonly reader: CpuReader;
  readonly source: WatchedSource;
  /** False after the CPU was offline: the kernel has ended the event, which is kept until its remaining records are read. */
  isLive: boolean;
}

/**
 * The perf events of a map, one per online CPU, and their reader.
 *
 * The kernel ends the event of a CPU that goes offline, and does not report a CPU that comes online. Therefore the online CPUs
 * are checked before buffers are read, at most once per second, and once per second while a consumer waits.
 */
export class PerfEvents {
  readonly reader: PerfReader;
  readonly #map: BpfMap;
  readonly #layout: PerfLayout;
  readonly #machine: Machine;
  /** The possible CPUs for which the map has an entry. */
  readonly #cpus: readonly number[];
  readonly #events = new Set<CpuEvent>();
  readonly #pages: PerfPages;
  /** The indices of unused pages. */
  readonly #freePages: number[];
  readonly #resources: DisposableStack;
  readonly #watches = new Set<MergedWatch>();
  /** CPUs whose event could not be opened when they came online. The error is reported once per CPU. */
  readonly #failed = new Set<number>();
  /** True while the kernel drops new records. */
  isPaused: boolean;
  readonly #cpuCheck: CpuCheck;
  /** The timer of the next check, while a consumer waits. */
  #timer: Timer | undefined;

  /**
   * Opens a perf event for each online CPU, and stores it in the map at the number of the CPU.
   *
   * @throws {BpfError} EACCES if CAP_PERFMON is missing.
   * @throws {BpfError} EMFILE if there are too few free descriptors.
   * @throws {BpfError} EPERM if the limit on locked memory is reached.
   * @throws {Error} if the map has the events of another object, or no entry for an online CPU.
   */
  constructor(
    map: BpfMap,
    layout: PerfLayout,
    machine: Machine = { ...thisMachine, openOutputEvent },
  ) {
    this.#map = map;
    this.#layout = layout;
    this.#machine = machine;
    this.isPaused = layout.paused;
    this.#cpuCheck = new CpuCheck(machine);
    // A map that was opened, not created, can have fewer entries.
    this.#cpus = possibleCpus().filter((cpu) => cpu < map.maxEntries);
    using resources = new DisposableStack();
    claimMap(map, resources);
    resources.defer(() => {
      for (const { event } of this.#events) event[Symbol.dispose]();
    });
    const opened = this.#cpus.flatMap((cpu) => {
      const event = this.#open(cpu);
      return event === undefined ? [] : { cpu, event: resources.use(event) };
    });
    if (opened.length === 0) {
      throw new Error(`${map} has ${map.maxEntries} entries: too few for any online CPU`);
    }
    const { size, overwrite } = layout;
    // A CPU that comes online again has two events until the remaining records of the first one are read.
    const maxEvents = 2 * this.#cpus.length;
    const what = `perf buffers of ${map}`;
    this.#pages = resources.use(new PerfPages(opened.length, maxEvents, size, what, !overwrite));
    this.#freePages = Array.from({ length: this.#pages.length }, (_, index) => index).reverse();
    const memory = { [Symbol.dispose]: () => this.#unmap() };
    this.reader = new PerfReader([], memory, size, `${map}`, () => this.#check());
    for (const { cpu, event } of opened) this.#add(cpu, event);
    // The events are stored last: if a later step failed, nothing would remove them from a map that is also open elsewhere.
    for (const { cpu, event } of this.#events) this.#store(cpu, event);
    this.#resources = resources.move();
  }

  /** The numbers of the CPUs whose records are read, in ascending order. */
  get cpus(): number[] {
    return Array.from(this.#events)
      .filter(({ isLive }) => isLive)
      .map(({ cpu }) => cpu)
      .sort((a, b) => a - b);
  }

  /** Returns a watch that calls `onReady` from the event loop when a CPU has unread records. */
  watch(onReady: () => void): Watch {
    const sources = Array.from(this.#events, ({ source }) => source);
    const merged = new MergedWatch(sources, onReady);
    this.#watches.add(merged);
    if (this.#timer === undefined) this.#checkLater();
    return {
      arm: () => merged.arm(),
      disarm: () => merged.disarm(),
      keepAlive: (alive) => merged.keepAlive(alive),
      [Symbol.dispose]: () => {
        merged[Symbol.dispose]();
        this.#watches.delete(merged);
        if (this.#watches.size > 0) return;
        stopTimer(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  /** Makes the kernel drop new records of all CPUs, or accept them again. */
  pause(paused: boolean): void {
    if (paused === this.isPaused) return;
    for (const { event } of this.#events) pausePerfEvent(event.fd, paused, event.what);
    this.isPaused = paused;
  }

  /** Closes the events. The kernel removes them from the map when the descriptor that stored them is closed. */
  close(): void {
    this.#resources.dispose();
  }

  /** Opens the event of a CPU. Returns `undefined` if the CPU is offline. */
  #open(cpu: number): Descriptor | undefined {
    const what = `perf event of CPU ${cpu} for ${this.#map}`;
    const fd = this.#machine.openOutputEvent(cpu, this.#layout, what);
    return fd === undefined ? undefined : new Descriptor(fd, what);
  }

  /** Maps and enables an event, and adds it to the reader. */
  #add(cpu: number, event: Descriptor): CpuEvent {
    const pagesIndex = this.#freePages.at(-1) as number;
    const pages = this.#pages.map(pagesIndex, event.fd);
    if (this.isPaused) pausePerfEvent(event.fd, true, event.what);
    enablePerfEvent(event.fd, event.what);
    const memory = this.#layout.overwrite
      ? new SnapshotPerf(pages, (paused) => {
          if (!this.isPaused) pausePerfEvent(event.fd, paused, event.what);
        })
      : pages;
    const layout = this.#layout;
    const reader = this.reader.add(cpu, memory);
    const added: CpuEvent = {
      cpu,
      pagesIndex,
      event,
      memory,
      reader,
      isLive: true,
      source: {
        get fd() {
          return event.fd;
        },
        get isDue() {
          // The kernel sends no wake-up for the remaining records of an event that it has ended.
          return reader.isDue(added.isLive ? layout : {});
        },
      },
    };
    this.#freePages.pop();
    this.#events.add(added);
    for (const watch of this.#watches) watch.add(added.source);
    return added;
  }

  /** Stores an event in the map. */
  #store(cpu: number, event: Descriptor): void {
    using element = new MapElement(this.#map.fd, u32.size, u32.size, `${this.#map}`);
    element.setIndex(cpu);
    element.view.setUint32(element.valueOffset, event.fd, true);
    element.update(BPF_ANY, `the perf event of CPU ${cpu}`);
  }

  #remove(removed: CpuEvent): void {
    const { pagesIndex, event, memory, reader, source } = removed;
    this.#events.delete(removed);
    this.reader.remove(reader);
    for (const watch of this.#watches) watch.remove(source);
    if (memory instanceof SnapshotPerf) memory[Symbol.dispose]();
    event[Symbol.dispose]();
    this.#pages.clear(pagesIndex);
    this.#freePages.push(pagesIndex);
  }

  /**
   * Adds the CPUs that came online since the last check, and removes the CPUs that went offline and whose remaining records
   * were read.
   *
   * @throws {BpfError} if an event cannot be opened, as the constructor; once per CPU until the CPU goes offline.
   */
  #check(isDue = false): void {
    // If the ArrayBuffer of a view was transferred, its receiver owns the memory.
    if (this.#pages.isTransferred) return;
    const state = this.#cpuCheck.check(isDue);
    if (state === undefined) return;
    const { online, wasSuspended } = state;
    for (const event of this.#events) {
      if (wasSuspended || !online.includes(event.cpu)) event.isLive = false;
      if (!event.isLive && event.reader.heldBytes === 0 && event.reader.backlog === 0)
        this.#remove(event);
    }
    const current = this.cpus;
    for (const cpu of this.#cpus) {
      if (!online.includes(cpu)) this.#failed.delete(cpu);
      else if (!current.includes(cpu) && !this.#failed.has(cpu)) this.#addOnline(cpu);
    }
  }

  #addOnline(cpu: number): void {
    // With buffers of gigabytes, all pages can be in use until other buffers are read.
    if (this.#freePages.length === 0) return;
    this.#failed.add(cpu);
    const event = this.#open(cpu);
    if (event !== undefined) {
      using unused = new DisposableStack();
      unused.use(event);
      const added = this.#add(cpu, event);
      unused.move();
      try {
        this.#store(cpu, event);
      } catch (error) {
        this.#remove(added);
        throw error;
      }
    }
    this.#failed.delete(cpu);
  }

  #checkLater(): void {
    this.#timer = startTimer(() => {
      this.#checkLater();
      this.#checkByTimer();
    }, checkMilliseconds);
    this.#timer.unref();
  }

  #checkByTimer(): void {
    try {
      this.#check(true);
    } catch (error) {
      throwUncaught(error);
    }
    for (const watch of this.#watches) watch.recheck();
  }

  #unmap(): void {
    this.#pages[Symbol.dispose]();
    for (const { memory } of this.#events) {
      if (memory instanceof SnapshotPerf) memory[Symbol.dispose]();
    }
  }
}

/**
 * Registers a map as one that has the perf events of an object, until `resources` are disposed of.
 *
 * @throws {Error} if the map has the perf events of another object.
 */
function claimMap(map: BpfMap, resources: DisposableStack): void {
  const { id } = map;
  if (claimedMaps.has(id)) {
    throw new Error(
      `${map} has a PerfBuffer already, and a second one would replace its perf events: dispose of the first one first`,
    );
  }
  claimedMaps.add(id);
  resources.defer(() => claimedMaps.delete(id));
}
