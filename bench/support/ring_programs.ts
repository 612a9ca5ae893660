import { type ArrayMap, asm, type Code, type LiveMap, Program, t } from "../../src/index.ts";

const { r0, r1, r2, r3, r6, r7 } = asm;

/** A packet of the minimum length for socket filters: an Ethernet header. */
const packet: Uint8Array = new Uint8Array(14);

/** The size of the header of a record in bytes. */
export const headerSize = 8;

/** The start of each record of 24 bytes or more that {@link filler} writes. */
export const filledEvent = t.struct({
  first: t.u64Number,
  second: t.u64Number,
  third: t.u32,
  rest: t.u32,
});

/** Returns a program that writes one record of `size` bytes per run. */
export function filler(ring: LiveMap, size: number): Program {
  const third: Code = size >= filledEvent.size ? [asm.stdw(r6, 16, 9)] : [];
  return new Program({
    section: "socket",
    license: "GPL",
    name: "filler",
    maps: { ring },
    code: [
      reserve(size),
      asm.stdw(r6, 0, 7),
      asm.stdw(r6, 8, 8),
      third,
      submit,
      asm.label("full"),
      asm.mov(r0, 1),
      asm.exit(),
    ],
  });
}

/** The size of the records of a {@link sequencer} in bytes. */
const sequencedSize = 64;

/** The records of a {@link sequencer}. */
export const sequencedEvent = t.struct({
  /** The sequence number: from 0, without gaps. */
  sequence: t.u64Number,
  /** The time of the write, by the monotonic clock of the kernel. */
  time: t.u64Number,
  rest: t.bytes(sequencedSize - 16),
});

/** The counts of a {@link sequencer}. */
export const sequencerState = t.struct({ written: t.u64Number, lost: t.u64Number });

export type SequencerState = t.Infer<typeof sequencerState>;

/** Returns the current counts. */
export function readState(state: ArrayMap<t.Type<SequencerState>>): SequencerState {
  const now = state.get(0);
  if (now === undefined) throw new Error("the state has no element");
  return now;
}

/** Returns a program that writes one numbered record per run, and counts in `state`. Only one thread may run it at a time. */
export function sequencer(ring: LiveMap, state: LiveMap): Program {
  const { written, lost } = sequencerState.fields;
  const { sequence, time } = sequencedEvent.fields;
  return new Program({
    section: "socket",
    license: "GPL",
    name: "sequencer",
    maps: { ring, state },
    code: [
      asm.ldMapValue(r7, "state", 0),
      reserve(sequencedSize),
      asm.ldxdw(r1, r7, written.offset),
      asm.stxdw(r6, sequence.offset, r1),
      asm.add(r1, 1),
      asm.stxdw(r7, written.offset, r1),
      asm.call("ktime_get_ns"),
      asm.stxdw(r6, time.offset, r0),
      submit,
      asm.label("full"),
      asm.ldxdw(r1, r7, lost.offset),
      asm.add(r1, 1),
      asm.stxdw(r7, lost.offset, r1),
      asm.mov(r0, 1),
      asm.exit(),
    ],
  });
}

/** Returns instructions that reserve a record and store its address in r6, or jump to the label "full". */
function reserve(size: number): Code {
  return [
    asm.ldMap(r1, "ring"),
    asm.mov(r2, size),
    asm.mov(r3, 0),
    asm.call("ringbuf_reserve"),
    asm.jeq(r0, 0, "full"),
    asm.mov(r6, r0),
  ];
}

const submit: Code = [
  asm.mov(r1, r6),
  asm.mov(r2, 0),
  asm.call("ringbuf_submit"),
  asm.mov(r0, 0),
  asm.exit(),
];

/** Runs a program `repeat` times, or more often if a signal interrupts it, for example one of the garbage collector. */
export function runMany(program: Program, repeat: number): void {
  program.testRun({ data: packet, repeat });
}
