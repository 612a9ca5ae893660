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
export { type OpenHandle, openHandles } from "./ffi/handles.ts";
export { possibleCpus } from "./ffi/cpus.ts";
export type { ArrayMapTypes, IndexedMapOptions } from "./maps/array_kind.ts";
export { ArrayMap, type ArrayMapOptions } from "./maps/array_map.ts";
export type { AssociativeMap } from "./maps/associative_map.ts";
export { BatchError } from "./maps/batch_error.ts";
export { BloomFilter, type BloomFilterOptions } from "./maps/bloom_filter.ts";
export { BpfMap } from "./maps/bpf_map.ts";
export type { ElementMap, ElementOptions } from "./maps/element_map.ts";
export type { MapInfo } from "./maps/handle.ts";
export { HashMap, type HashMapOptions } from "./maps/hash_map.ts";
export type { IndexedMap } from "./maps/indexed_map.ts";
export type { KeyedMapOptions } from "./maps/keyed_kind.ts";
export type { KeyedMap, KeyedMapTypes } from "./maps/keyed_map.ts";
export { LpmTrie, type LpmTrieOptions } from "./maps/lpm_trie.ts";
export { LruHashMap, type LruHashMapOptions } from "./maps/lru_hash_map.ts";
export { LruPerCpuHashMap, type LruPerCpuHashMapOptions } from "./maps/lru_per_cpu_hash_map.ts";
export { PerCpuArrayMap, type PerCpuArrayMapOptions } from "./maps/per_cpu_array_map.ts";
export type { PerCpuAssociativeMap } from "./maps/per_cpu_associative_map.ts";
export { PerCpuHashMap, type PerCpuHashMapOptions } from "./maps/per_cpu_hash_map.ts";
export type { PushOptions, PushPopMap } from "./maps/push_pop_map.ts";
export { Queue, type QueueOptions } from "./maps/queue.ts";
export { Stack, type StackOptions } from "./maps/stack.ts";
export type { CommonMapOptions, MapFlag, MapSpec, MapTypeName } from "./maps/spec.ts";
export type { ValueMapOptions, ValueTypes } from "./maps/value_kind.ts";
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
export { type DrainOptions, RingBuf } from "./ring/ring_buf.ts";
export type { RingBufOptions, RingBufTypes } from "./ring/ring_kind.ts";
export { formatKernelSymbol, type KernelSymbol, KernelSymbols } from "./symbols/kernel_symbols.ts";
export * as t from "./types/t.ts";
