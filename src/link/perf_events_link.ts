import type { BpfCallContext } from "../ffi/bpf.ts";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { objectId } from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import {
  disablePerfEvent,
  enablePerfEvent,
  type EventPlace,
  openSampledEvent,
  type SampledEvent,
  setPerfEventProgram,
} from "../ffi/perf_event.ts";
import { throwUncaught } from "../loop/bridge.ts";
import { checkMilliseconds, CpuCheck, type CpuSource, thisMachine } from "../loop/online_cpus.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import { EINVAL, EOPNOTSUPP } from "../uapi/errno.ts";
import { Link, type LinkedProgram } from "./link.ts";
import type { PerfEventLinkInfo } from "./link_info.ts";

/** The arguments of {@link attachToPlaces} and {@link attachToCpus}. */
export interface PerfEventsRequest {
  readonly program: LinkedProgram;
  readonly event: SampledEvent;
  /** Describes the link in messages. */
  readonly what: string;
  readonly cookie: bigint | undefined;
  /** True for links of the kernel, false for none; by default links where the kernel has them. */
  readonly link: boolean | undefined;
  readonly context: BpfCallContext;
}

/** A perf event that the program is attached to. */
interface AttachedEvent {
  readonly cpu: number | undefined;
  readonly event: Descriptor;
  /** The kernel's link; `undefined` if the program is attached by an ioctl. */
  readonly link: Descriptor | undefined;
}

/**
 * A link of a `perf_event` program. It has a perf event for each CPU or thread, and a link of the kernel for each event (Linux
 * 5.15).
 *
 * If it was attached to all CPUs, CPUs that come online later are attached within a second, while this process runs. A CPU that
 * goes offline and online again within that second is not noticed, and stays without the program.
 *
 * `info()` and `id` are those of the first event. `detach()` disables the events. `update()` is not possible: attach the new
 * program and dispose of this link. `pin()` is possible for a single event: with the option `tid` or `cpu`.
 *
 * @example
 * ```ts
 * import { asm, BpfError, PerCpuArrayMap, type PerfEventsLink, Program, t } from "bun-bpf";
 * const { r0, r1, r2, r10 } = asm;
 * try {
 *   using samples = new PerCpuArrayMap({ value: t.u64Number, length: 1 });
 *   using program = new Program({
 *     section: "perf_event",
 *     license: "GPL",
 *     maps: { samples },
 *     code: [
 *       asm.stw(r10, -4, 0),
 *       asm.mov(r2, r10),
 *       asm.add(r2, -4),
 *       asm.ldMap(r1, "samples"),
 *       asm.call("map_lookup_elem"),
 *       asm.jeq(r0, 0, "out"),
 *       asm.mov(r1, 1),
 *       asm.atomicAdd(r0, 0, r1),
 *       asm.label("out"),
 *       asm.mov(r0, 0),
 *       asm.exit(),
 *     ],
 *   });
 *   using link: PerfEventsLink = program.attach({ event: "cpu-clock", frequency: 100 });
 *   await Bun.sleep(100);
 *   console.log(`CPUs ${link.cpus} had ${samples.at(0)} samples`);
 * } catch (error) {
 *   if (!(error instanceof BpfError)) throw error;
 *   console.error(error.message); // without privileges
 * }
 * ```
 *
 * Requires Linux 4.9.
 */
export class PerfEventsLink extends Link {
  readonly #request: PerfEventsRequest;
  /** A copy of the program's descriptor, for CPUs that come online and for `info()` without links of the kernel. */
  readonly #program: Descriptor | undefined;
  readonly #events: Set<AttachedEvent>;
  readonly #hasLinks: boolean;
  /** Watches the online CPUs; `undefined` if only some are attached. */
  readonly #cpuCheck: CpuCheck | undefined;
  /** CPUs whose event could not be opened when they came online. The error is reported once per CPU. */
  readonly #failed = new Set<number>();
  #timer: Timer | undefined;

  /**
   * @internal
   * @param program absent if the events never change, and have links of the kernel
   */
  constructor(
    descriptor: Descriptor,
    program: Descriptor | undefined,
    request: PerfEventsRequest,
    events: readonly AttachedEvent[],
    source: CpuSource | undefined,
  ) {
    super(descriptor);
    this.#request = request;
    this.#program = program;
    this.#events = new Set(events);
    this.#hasLinks = events[0]?.link !== undefined;
    this.#cpuCheck = source === undefined ? undefined : new CpuCheck(source);
    if (this.#cpuCheck !== undefined) this.#checkLater(this.#cpuCheck);
  }

  protected override shown(): readonly [className: string, properties: object] {
    const { cpus } = this;
    return ["PerfEventsLink", { description: `${this}`, ...(cpus.length > 0 && { cpus }) }];
  }

  /** The numbers of the CPUs with an event, in ascending order; empty if the events are those of threads, on any CPU. */
  get cpus(): number[] {
    return [...this.#events].flatMap(({ cpu }) => cpu ?? []).sort((a, b) => a - b);
  }

  override get id(): number {
    return this.#hasLinks ? super.id : this.#refuse("read the id of", linklessHint);
  }

  override info(): PerfEventLinkInfo {
    if (this.#hasLinks) return super.info() as PerfEventLinkInfo;
    void this.fd;
    const { type, config } = this.#request.event;
    return {
      id: 0,
      type: "perf_event",
      programId: objectId("prog", this.#program as Descriptor),
      event: { kind: "event", eventType: type, config, cookie: undefined },
    };
  }

  override detach(): this {
    void this.fd;
    this.#stop();
    for (const { event } of this.#events) disablePerfEvent(event.fd, event.what);
    return this;
  }

  override pin(path: string): this {
    if (!this.#hasLinks) return this.#refuse("pin", linklessHint);
    if (this.#events.size === 1 && this.#cpuCheck === undefined) return super.pin(path);
    return this.#refuse(
      "pin",
      "It consists of several links of the kernel, one for each CPU or thread: attach with the option cpu or tid, and pin each link",
    );
  }

  #refuse(doing: string, hint: string): never {
    // A disposed link throws DisposedError here, before any other error.
    void this.fd;
    const doingWhat = `${doing} the ${this}`;
    throw new BpfError({ errno: EOPNOTSUPP, syscall: "bpf", doing: doingWhat, hint });
  }

  #checkLater(cpuCheck: CpuCheck): void {
    this.#timer = startTimer(() => {
      this.#checkLater(cpuCheck);
      try {
        this.#checkCpus(cpuCheck);
      } catch (error) {
        throwUncaught(error);
      }
    }, checkMilliseconds);
    this.#timer.unref();
  }

  /** Attaches the program to CPUs that have come online, and closes the events of CPUs that were offline, which have ended. */
  #checkCpus(cpuCheck: CpuCheck): void {
    const state = cpuCheck.check(true);
    if (state === undefined) return;
    const { online, wasSuspended } = state;
    for (const attached of this.#events) {
      if (!wasSuspended && online.includes(attached.cpu as number)) continue;
      this.#events.delete(attached);
      close(attached);
    }
    const { cpus } = this;
    for (const cpu of this.#failed) if (!online.includes(cpu)) this.#failed.delete(cpu);
    for (const cpu of online) {
      if (cpus.includes(cpu) || this.#failed.has(cpu)) continue;
      try {
        const program = this.#program as Descriptor;
        this.#events.add(attachEvent({ ...this.#request, program }, { cpu }));
      } catch (error) {
        // The CPU can be offline again.
        if (isError(error, "ENODEV")) continue;
        this.#failed.add(cpu);
        throwUncaught(error);
      }
    }
  }

  #stop(): void {
    stopTimer(this.#timer);
    this.#timer = undefined;
  }

  override [Symbol.dispose](): void {
    this.#stop();
    using closing = new DisposableStack();
    closing.use(this.#program);
    for (const attached of this.#events) closing.adopt(attached, close);
    super[Symbol.dispose]();
  }
}

const linklessHint =
  "The program is attached to the perf event without a link of the kernel, which needs Linux 5.15, so it has neither an id nor pins";

/**
 * Attaches a program to an event on each online CPU, for all processes, and on each CPU that comes online later.
 *
 * @param source the CPUs of this machine, or of a fake in tests
 * @throws {BpfError} if the kernel refuses. Nothing is attached then.
 */
export function attachToCpus(request: PerfEventsRequest, source = thisMachine): PerfEventsLink {
  const places = source.onlineCpus().map((cpu) => ({ cpu }));
  // A CPU can go offline after the list was read.
  return attachTo(request, places, "ENODEV", source);
}

/**
 * Attaches a program to an event at each of some places. Threads that have ended are left out.
 *
 * @throws {BpfError} if the kernel refuses, or all threads have ended. Nothing is attached then.
 */
export function attachToPlaces(
  request: PerfEventsRequest,
  places: readonly EventPlace[],
): PerfEventsLink {
  return attachTo(request, places, "ESRCH", undefined);
}

/** @param goneCode the error for a place that is gone, which is left out if there are others */
function attachTo(
  request: PerfEventsRequest,
  places: readonly EventPlace[],
  goneCode: string,
  source: CpuSource | undefined,
): PerfEventsLink {
  using opened = new DisposableStack();
  const events: AttachedEvent[] = [];
  let gone: unknown;
  for (const place of places) {
    try {
      events.push(opened.adopt(attachEvent(request, place), close));
    } catch (error) {
      if (!isError(error, goneCode)) throw error;
      gone = error;
    }
  }
  const [first] = events;
  if (first === undefined) throw gone;
  const { what, program } = request;
  const copyOf = (fd: number, name: string) =>
    opened.use(new Descriptor(duplicate(fd, name), name));
  let descriptor = first.link ?? first.event;
  // The first event is closed when its CPU goes offline, so the link has its own descriptor.
  if (source !== undefined) descriptor = copyOf(descriptor.fd, what);
  // The caller can close the program before another CPU comes online.
  const copy =
    source === undefined && first.link !== undefined
      ? undefined
      : copyOf(program.fd, `program of the ${what}`);
  const link = new PerfEventsLink(descriptor, copy, request, events, source);
  opened.move();
  return link;
}

function isError(error: unknown, code: string): boolean {
  return error instanceof BpfError && error.code === code;
}

function attachEvent(request: PerfEventsRequest, place: EventPlace): AttachedEvent {
  const { event: numbers, context, what } = request;
  using opened = new DisposableStack();
  const event = opened.use(new Descriptor(openSampledEvent(numbers, place, context), what));
  const link = linkEvent(request, event);
  if (link !== undefined) opened.use(link);
  enablePerfEvent(event.fd, what);
  opened.move();
  return { cpu: place.cpu, event, link };
}

/** Attaches a program to an event: by a link, or without one, in which case it returns `undefined`. */
function linkEvent(
  { program, cookie, link, context, what }: PerfEventsRequest,
  event: Descriptor,
): Descriptor | undefined {
  const fd = link === false ? undefined : linkPerfEvent(program.fd, event.fd, cookie, context);
  if (fd !== undefined) return new Descriptor(fd, what);
  if (link === true) {
    throw new BpfError({
      errno: EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: context.doing,
      hint: "Links of perf events need Linux 5.15: leave out the option link",
    });
  }
  setPerfEventProgram(event.fd, program.fd, context);
  return undefined;
}

function close({ event, link }: AttachedEvent): void {
  using _event = event;
  link?.[Symbol.dispose]();
}
