import { monotonicMilliseconds, suspendedMilliseconds } from "../ffi/clock.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import {
  enablePerfEvent,
  onlineCpus,
  openOutputEvent,
  pausePerfEvent,
  PerfPages,
} from "../ffi/perf_event.ts";
import { throwUncaught } from "../loop/bridge.ts";
import type { Watch } from "../loop/event_loop.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import type { BpfMap } from "../maps/bpf_map.ts";
import { u32 } from "../types/integer.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import { MergedWatch, type PerfLayout, type WatchedSource } from "./perf_cpus.ts";
import { type CpuReader, PerfReader, type SharedPerfBuffer } from "./perf_reader.ts";
import { SnapshotPerf } from "./perf_snapshot.ts";

/** The CPUs and the clock of this machine, or those of a test. */
export interface Machine {
  /** Returns the time in milliseconds. */
  now(): number;
  /** Opens the event of a CPU; `undefined` where that is offline. */
  openOutputEvent(cpu: number, layout: PerfLayout, what: string): number | undefined;
  /** Returns the ids of the CPUs that are online. */
  onlineCpus(): readonly number[];
  /** Returns the time that the machine was suspended so far. */
  suspendedMilliseconds(): number;
}

const thisMachine: Machine = {
  now: monotonicMilliseconds,
  openOutputEvent,
  onlineCpus,
  suspendedMilliseconds,
};

/** The maps that have the perf events of an object of this thread, by the kernel's id. */
const taken = new Set<number>();

/** The interval of checks for online CPUs. */
const checkMilliseconds = 1000;
/** The difference that two clocks can show when read one after the other, without a suspend. */
const suspendedAtLeast = 500;

/** The perf event of a CPU, and what reads its buffer. */
interface CpuEvent {
  readonly cpu: number;
  /** The index of its pages. */
  readonly place: number;
  readonly event: Descriptor;
  readonly memory: SharedPerfBuffer;
  readonly reader: CpuReader;
  readonly source: WatchedSource;
  /** False once the CPU was offline: the kernel has ended the event, which is kept for its remaining records. */
  isLive: boolean;
}

/**
 * The perf events of a map, one for each CPU that is online, and their reader.
 *
 * The kernel ends the event of a CPU that goes offline, and does not report one that comes online. The online CPUs are therefore
 * checked before buffers are read and, while a consumer waits, once a second.
 */
export class PerfEvents {
  readonly reader: PerfReader;
  readonly #map: BpfMap;
  readonly #layout: PerfLayout;
  readonly #machine: Machine;
  /** The CPUs that the map has a place for. */
  readonly #cpus: readonly number[];
  readonly #events = new Set<CpuEvent>();
  readonly #pages: PerfPages;
  /** The indices of unused pages. */
  readonly #freePages: number[];
  readonly #resources: DisposableStack;
  readonly #watches = new Set<MergedWatch>();
  /** CPUs whose event could not be opened when they came online: reported once. */
  readonly #refused = new Set<number>();
  /** True while records are dropped. */
  isPaused: boolean;
  #checkedAt: number;
  #suspended: number;
  /** The timer of the next look, while somebody waits. */
  #timer: Timer | undefined;

  /**
   * Opens a perf event for each CPU that is online, and puts it into the map at the CPU's index.
   *
   * @throws {BpfError} `EACCES` without CAP_PERFMON, `EMFILE` without free descriptors, `EPERM` beyond the limit on locked memory
   * @throws {Error} when the map has the events of another object
   */
  constructor(map: BpfMap, layout: PerfLayout, machine: Machine = thisMachine) {
    this.#map = map;
    this.#layout = layout;
    this.#machine = machine;
    this.isPaused = layout.paused;
    this.#checkedAt = machine.now();
    this.#suspended = machine.suspendedMilliseconds();
    // A map of another program may have fewer places.
    this.#cpus = possibleCpus().filter((cpu) => cpu < map.maxEntries);
    using resources = new DisposableStack();
    take(map, resources);
    resources.defer(() => {
      for (const { event } of this.#events) event[Symbol.dispose]();
    });
    const opened = this.#cpus.flatMap((cpu) => {
      const event = this.#open(cpu);
      return event === undefined ? [] : { cpu, event: resources.use(event) };
    });
    if (opened.length === 0) {
      throw new Error(`no online CPU has a place in ${map}, which has ${map.maxEntries} entries`);
    }
    const { size, overwrite } = layout;
    // A CPU that comes online again has two events until the remaining records of the first are read.
    const most = 2 * this.#cpus.length;
    const what = `perf buffers of ${map}`;
    this.#pages = resources.use(new PerfPages(opened.length, most, size, what, !overwrite));
    this.#freePages = Array.from({ length: this.#pages.length }, (_, place) => place).reverse();
    const memory = { [Symbol.dispose]: () => this.#unmap() };
    this.reader = new PerfReader([], memory, size, `${map}`, () => this.#check());
    for (const { cpu, event } of opened) this.#add(cpu, event);
    // The last step, as nothing removes them from a map that is also open elsewhere.
    for (const { cpu, event } of this.#events) this.#store(cpu, event);
    this.#resources = resources.move();
  }

  /** The CPUs whose records are read. */
  get cpus(): number[] {
    return Array.from(this.#events)
      .filter(({ isLive }) => isLive)
      .map(({ cpu }) => cpu)
      .sort((a, b) => a - b);
  }

  /** Waits on the event loop until one of them has something to read. */
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

  /** Pauses or resumes: while paused, records are dropped and counted as lost. */
  pause(paused: boolean): void {
    if (paused === this.isPaused) return;
    for (const { event } of this.#events) pausePerfEvent(event.fd, paused, event.what);
    this.isPaused = paused;
  }

  /** Closes the events. The kernel takes them out of the map when the descriptor that stored them is closed. */
  close(): void {
    this.#resources.dispose();
  }

  /** Opens the event of a CPU; `undefined` where that is offline. */
  #open(cpu: number): Descriptor | undefined {
    const what = `perf event of CPU ${cpu} for ${this.#map}`;
    const fd = this.#machine.openOutputEvent(cpu, this.#layout, what);
    return fd === undefined ? undefined : new Descriptor(fd, what);
  }

  /** Maps and starts an event, and adds it to the reader. */
  #add(cpu: number, event: Descriptor): CpuEvent {
    const place = this.#freePages.at(-1) as number;
    const pages = this.#pages.map(place, event.fd);
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
      place,
      event,
      memory,
      reader,
      isLive: true,
      source: {
        get fd() {
          return event.fd;
        },
        get isDue() {
          // The kernel does not wake anybody for the remaining records of an event that it has ended.
          return reader.isDue(added.isLive ? layout : {});
        },
      },
    };
    this.#freePages.pop();
    this.#events.add(added);
    for (const watch of this.#watches) watch.add(added.source);
    return added;
  }

  /** Puts an event into the map. */
  #store(cpu: number, event: Descriptor): void {
    using element = new MapElement(this.#map.fd, u32.size, u32.size, `${this.#map}`);
    element.setIndex(cpu);
    element.view.setUint32(element.valueOffset, event.fd, true);
    element.update(BPF_ANY, `the perf event of CPU ${cpu}`);
  }

  #remove(removed: CpuEvent): void {
    const { place, event, memory, reader, source } = removed;
    this.#events.delete(removed);
    this.reader.remove(reader);
    for (const watch of this.#watches) watch.remove(source);
    if (memory instanceof SnapshotPerf) memory[Symbol.dispose]();
    event[Symbol.dispose]();
    this.#pages.clear(place);
    this.#freePages.push(place);
  }

  /**
   * Adds the CPUs that came online since the last check, and removes those that went offline once their remaining records are read.
   *
   * @throws {BpfError} as the constructor, once for each CPU until it goes offline
   */
  #check(): void {
    // If the buffer of a view was transferred, its receiver owns the memory.
    if (this.#pages.isGivenAway) return;
    const now = this.#machine.now();
    if (now - this.#checkedAt < checkMilliseconds) return;
    this.#checkedAt = now;
    const online = this.#online();
    if (online === undefined) return;
    const suspended = this.#machine.suspendedMilliseconds();
    // A suspend takes all CPUs but one offline, and they are back before the next check.
    const wasSuspended = suspended - this.#suspended >= suspendedAtLeast;
    this.#suspended = suspended;
    for (const one of this.#events) {
      if (wasSuspended || !online.includes(one.cpu)) one.isLive = false;
      if (!one.isLive && one.reader.heldBytes === 0 && one.reader.backlog === 0) this.#remove(one);
    }
    const heard = this.cpus;
    for (const cpu of this.#cpus) {
      if (!online.includes(cpu)) this.#refused.delete(cpu);
      else if (!heard.includes(cpu) && !this.#refused.has(cpu)) this.#hear(cpu);
    }
  }

  /** Returns the CPUs that are online; `undefined` where the list cannot be read now. */
  #online(): readonly number[] | undefined {
    try {
      return this.#machine.onlineCpus();
    } catch (error) {
      // Reading the list takes a descriptor for a moment. If none is left, events are still read, and the next check tries again.
      if (["EMFILE", "ENFILE"].includes((error as NodeJS.ErrnoException).code ?? ""))
        return undefined;
      throw error;
    }
  }

  #hear(cpu: number): void {
    // With buffers of gigabytes there may be no place until others are read.
    if (this.#freePages.length === 0) return;
    this.#refused.add(cpu);
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
    this.#refused.delete(cpu);
  }

  #checkLater(): void {
    this.#timer = startTimer(() => {
      this.#checkLater();
      this.#checkByTimer();
    }, checkMilliseconds);
    this.#timer.unref();
  }

  #checkByTimer(): void {
    // The timer may be a little early.
    this.#checkedAt = -Infinity;
    try {
      this.#check();
    } catch (error) {
      throwUncaught(error);
    }
    for (const watch of this.#watches) watch.lookAgain();
  }

  #unmap(): void {
    this.#pages[Symbol.dispose]();
    for (const { memory } of this.#events) {
      if (memory instanceof SnapshotPerf) memory[Symbol.dispose]();
    }
  }
}

/** Notes that a map has the events of an object, until that is closed. @throws {Error} when it has those of another one */
function take(map: BpfMap, resources: DisposableStack): void {
  const { id } = map;
  if (taken.has(id)) {
    throw new Error(
      `${map} has a PerfBuffer already, whose perf events a second one would replace: dispose of that first`,
    );
  }
  taken.add(id);
  resources.defer(() => taken.delete(id));
}
