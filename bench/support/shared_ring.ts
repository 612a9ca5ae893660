import { ArrayMap, RingBuf, type t } from "../../src/index.ts";
import type { Peer } from "../peer.ts";
import { Child } from "./children.ts";
import { allowedCpus } from "./libc.ts";
import { readState, sequencedEvent, type SequencerState, sequencerState } from "./ring_programs.ts";

const allowed = allowedCpus();

/** The CPU of consumers and the CPU of the producer. They differ if this process may run on at least two CPUs. */
export const cpus = {
  consumer: allowed[0] ?? 0,
  producer: allowed[1] ?? allowed[0] ?? 0,
};

/** The result of a run of the producer. */
export interface Produced extends SequencerState {
  readonly seconds: number;
}

/** Options of a run of the producer. */
export interface Production {
  readonly seconds: number;
  /** Events per second. @default full speed */
  readonly rate?: number;
  /** The CPU on which the producer runs. @default a CPU other than the consumer's, if there is one */
  readonly cpu?: number;
}

/** A ring for two other processes: the producer and the consumer. */
export class SharedRing implements Disposable {
  readonly #ring: RingBuf<t.Type<unknown>>;
  readonly #state: ArrayMap<t.Type<SequencerState>>;

  constructor(size: number) {
    this.#ring = new RingBuf({ size, event: sequencedEvent });
    this.#state = new ArrayMap({ value: sequencerState, length: 1, mmap: true });
  }

  get id(): number {
    return this.#ring.id;
  }

  get state(): SequencerState {
    return readState(this.#state);
  }

  /** The number of unread bytes. */
  get backlog(): number {
    return this.#ring.backlog;
  }

  /** Starts the producer. */
  startProducer({ seconds, rate, cpu = cpus.producer }: Production): Child {
    return startBunChild("producer", {
      ring: this.id,
      state: this.#state.id,
      cpu,
      seconds,
      ...(rate === undefined ? {} : { rate }),
    });
  }

  /** Runs the producer and waits for its end. Returns the numbers of events that it wrote and lost. */
  async produce(production: Production): Promise<Produced> {
    const before = this.state;
    await using producer = this.startProducer(production);
    const { nanoseconds } = await producer.json<{ nanoseconds: number }>();
    const { written, lost } = this.state;
    return {
      seconds: nanoseconds / 1e9,
      written: written - before.written,
      lost: lost - before.lost,
    };
  }

  [Symbol.dispose](): void {
    this.#state[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
  }
}

/** Starts `bench/children/NAME.ts` with these options. */
export function startBunChild(
  name: string,
  options: Readonly<Record<string, string | number>>,
  environment: Readonly<Record<string, string>> = {},
): Child {
  const flags = Object.entries(options).flatMap(([option, value]) => [`--${option}`, `${value}`]);
  const path = `${import.meta.dir}/../children/${name}.ts`;
  return new Child([process.execPath, path, ...flags], environment);
}

/** Starts the C program with the command `what`, and waits until it is ready. */
export async function startPeer(peer: Peer, what: string, args: readonly number[]): Promise<Child> {
  const child = new Child([peer.program, what, `${cpus.consumer}`, ...args.map(String)]);
  await child.line();
  return child;
}
