/**
 * A BPF toolkit native to Bun: maps, ring buffers, programs and links, in TypeScript down to bpf(2).
 *
 * @module
 */
export {
  Btf,
  type BtfEnumerator,
  type BtfField,
  type BtfKind,
  type BtfMember,
  type BtfType,
} from "./btf/btf.ts";
export { monotonicNanoseconds, monotonicToDate } from "./ffi/clock.ts";
export { BpfError, DisposedError } from "./ffi/error.ts";
export { ArrayMap, type ArrayMapOptions, type ArrayMapTypes } from "./maps/array_map.ts";
export { BatchError } from "./maps/batch_error.ts";
export { BpfMap } from "./maps/bpf_map.ts";
export type { MapInfo } from "./maps/handle.ts";
export { HashMap, type HashMapOptions } from "./maps/hash_map.ts";
export { KeyedMap, type KeyedMapTypes } from "./maps/keyed_map.ts";
export type { CommonMapOptions, MapFlag, MapSpec, MapTypeName } from "./maps/spec.ts";
export { Link, type LinkedProgram, type LinkInfo, type LinkTypeName } from "./link/link.ts";
export * as asm from "./program/asm.ts";
export {
  assemble,
  type Assembled,
  AssemblerError,
  type FunctionPlace,
  type KernelReference,
  type PlacedInstruction,
  type Resolver,
  type SourceLine,
} from "./program/assembler.ts";
export { disassemble, disassembleInstruction } from "./program/disassembler.ts";
export { decode, encode } from "./program/encode.ts";
export type {
  Code,
  CodeItem,
  FunctionStart,
  Instruction,
  Label,
  LiveMap,
  MapReference,
  Reference,
  Register,
  RegisterNumber,
  SourcePosition,
  WritableRegister,
} from "./program/instruction.ts";
export {
  Program,
  type ProgramInfo,
  type ProgramOptions,
  type ProgramSpec,
  type TestRunOptions,
  type TestRunResult,
  type VerifierLog,
} from "./program/program.ts";
export { VerifierError } from "./program/verifier_error.ts";
export type { RawRecordCallback } from "./ring/reader.ts";
export {
  type DrainOptions,
  RingBuf,
  type RingBufOptions,
  type RingBufTypes,
} from "./ring/ring_buf.ts";
export * as t from "./types/t.ts";
