/**
 * A BPF toolkit native to Bun: maps, ring buffers, programs and links, in TypeScript down to bpf(2).
 *
 * @module
 */
import "./types/web.ts";

export {
  Btf,
  type BtfEnumerator,
  type BtfField,
  type BtfKind,
  type BtfMember,
  type BtfType,
  type BtfVariable,
} from "./btf/btf.ts";
export type { BtfDecodeOptions, BtfRecord, BtfValue } from "./btf/value.ts";
export type { Feature, FeatureGroup, FeatureStatus } from "./features/feature.ts";
export { type Features, features } from "./features/features.ts";
export type { AttachKind } from "./features/attach_kinds.ts";
export type { Fix } from "./features/fixes.ts";
export type { InstructionSet } from "./features/instruction_sets.ts";
export type { MapOperation } from "./features/map_operations.ts";
export type { MapTypeKeyword } from "./features/map_types.ts";
export type { ProgramTypeKeyword } from "./features/program_types.ts";
export type { KernelSettings } from "./features/settings.ts";
export { monotonicNanoseconds, monotonicToDate } from "./ffi/clock.ts";
export { BpfError, DisposedError } from "./ffi/error.ts";
export { type OpenHandle, openHandles } from "./ffi/handles.ts";
export { possibleCpus } from "./ffi/kernel.ts";
export type { ObjectsByKind } from "./inspect/map_reader.ts";
export { type ObjectOwner, type ObjectOwners, objectOwners } from "./inspect/owners.ts";
export { type ObjectPins, objectPins } from "./inspect/pins.ts";
export { Arena, type ArenaOptions, type ArenaPlace } from "./maps/arena.ts";
export type {
  ArrayMapTypes,
  CpuArrayOptions,
  DescriptorArrayOptions,
  IndexedMapOptions,
  KeyedMapOptions,
  StorageOptions,
  StorageTypes,
  ValueMapOptions,
  ValueTypes,
} from "./maps/map_options.ts";
export {
  ArrayMap,
  type ArrayMapOptions,
  type IndexedMap,
  PerCpuArrayMap,
  type PerCpuArrayMapOptions,
} from "./maps/array_map.ts";
export type {
  AssociativeMap,
  BatchedMap,
  BatchesOptions,
  KeyedMap,
  KeyedMapTypes,
  PerCpuAssociativeMap,
} from "./maps/keyed_map.ts";
export { BatchError } from "./maps/walk.ts";
export {
  BloomFilter,
  type BloomFilterOptions,
  type PushOptions,
  type PushPopMap,
  Queue,
  type QueueOptions,
  Stack,
  type StackOptions,
} from "./maps/queue.ts";
export { BpfFileSystem } from "./handle/bpf_file_system.ts";
export { BpfMap } from "./maps/bpf_map.ts";
export {
  CgroupArray,
  type CgroupArrayOptions,
  PerfEventArray,
  type PerfEventArrayOptions,
  ProgArray,
  type ProgArrayOptions,
} from "./maps/prog_array.ts";
export {
  CpuMap,
  type CpuMapEntry,
  type CpuMapOptions,
  type CpuMapValue,
  DevMap,
  type DevMapEntry,
  DevMapHash,
  type DevMapHashOptions,
  type DevMapOptions,
  type DevMapValue,
  type NetworkInterface,
  XskMap,
  type XskMapOptions,
} from "./maps/dev_map.ts";
export {
  CgroupStorage,
  type CgroupStorageOptions,
  InodeStorage,
  type InodeStorageOptions,
  type ObjectStorage,
  SkStorage,
  type SkStorageOptions,
  type TaskOwner,
  TaskStorage,
  type TaskStorageOptions,
} from "./maps/object_storage.ts";
export type { ElementMap, ElementOptions } from "./maps/element_map.ts";
export type { FdLike } from "./maps/value_layout.ts";
export { listMaps, type MapInfo, type MapProperties } from "./maps/create.ts";
export {
  HashMap,
  type HashMapOptions,
  LruHashMap,
  type LruHashMapOptions,
  LruPerCpuHashMap,
  type LruPerCpuHashMapOptions,
  PerCpuHashMap,
  type PerCpuHashMapOptions,
} from "./maps/hash_map.ts";
export { LpmTrie, type LpmTrieOptions } from "./maps/lpm_trie.ts";
export {
  ReuseportSockArray,
  type ReuseportSockArrayOptions,
  type SocketArrayMap,
  SockHash,
  type SockHashOptions,
  type SockHashTypes,
  SockMap,
  type SockMapOptions,
} from "./maps/sock_map.ts";
export type { SparseArrayMap, WriteOnlyArrayMap } from "./maps/descriptor_array.ts";
export {
  type BuildIdFrame,
  type StackFrame,
  StackTraceMap,
  type StackTraceMapOptions,
  type StackTraceMapTypes,
} from "./maps/stack_trace_map.ts";
export type { CommonMapOptions, MapFlag, MapSpec, MapTypeName } from "./maps/map_spec.ts";
export {
  ArrayOfMaps,
  type ArrayOfMapsOptions,
  type ArrayOfMapsTypes,
  HashOfMaps,
  type HashOfMapsOptions,
  type HashOfMapsTypes,
  type InnerMap,
  type InnerMapName,
  type InnerMapOptions,
  type InnerMapTypes,
  type MapOfMaps,
} from "./kinds/map_of_maps.ts";
export { type CreatedMap, createMap, type CreateMapOptions } from "./kinds/create_map.ts";
export type {
  AttachTypeName,
  CgroupLinkInfo,
  CommonLinkInfo,
  IterLinkInfo,
  KprobeMultiLinkInfo,
  LinkInfo,
  LinkTypeName,
  NetfilterLinkInfo,
  NetkitLinkInfo,
  NetnsLinkInfo,
  OtherLinkInfo,
  PerfEventLinkInfo,
  PerfEventTarget,
  RawTracepointLinkInfo,
  SockmapLinkInfo,
  StructOpsLinkInfo,
  TcxLinkInfo,
  TracingLinkInfo,
  UprobeMultiLinkInfo,
  XdpLinkInfo,
} from "./link/link_info.ts";
export { Link, type LinkedProgram, listLinks } from "./link/link.ts";
export * as asm from "./asm/asm.ts";
export {
  assemble,
  type Assembled,
  type FunctionPlace,
  type KernelReference,
  type Resolver,
  type SourceLine,
} from "./asm/assembler.ts";
export { AssemblerError, type PlacedInstruction } from "./asm/layout.ts";
export { disassemble, disassembleInstruction } from "./asm/disassembler.ts";
export { decode, encode } from "./asm/encode.ts";
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
} from "./asm/instruction.ts";
export { listPrograms, type ProgramInfo, type ProgramTypeName } from "./program/program_info.ts";
export {
  Program,
  type ProgramOptions,
  type ProgramSpec,
  type TestRunOptions,
  type TestRunResult,
  type VerifierLog,
} from "./program/program.ts";
export { VerifierError } from "./program/verifier_error.ts";
export type { BridgeName } from "./loop/bridge.ts";
export { type EventLoop, eventLoop } from "./loop/event_loop.ts";
export type { Batch } from "./ring/iterators.ts";
export type {
  BatchesOfEventsOptions,
  ConsumeOptions,
  DrainOptions,
  EventsOptions,
  RawDrainOptions,
  RawSubscribeOptions,
  RingBufOptions,
  RingBufTypes,
  StreamOptions,
  SubscribeOptions,
  WaitForRoomOptions,
  WakeupMode,
  WritableOptions,
} from "./ring/ring_options.ts";
export type { RawRecordCallback } from "./ring/drain_code.ts";
export type { EventBuffer } from "./ring/event_buffer.ts";
export { PerfBuffer } from "./ring/perf_buffer.ts";
export type { PerfBufferOptions, PerfBufferTypes } from "./ring/perf_cpus.ts";
export { RingBuf } from "./ring/ring_buf.ts";
export type { ConsumerStats } from "./ring/consumer.ts";
export type { Subscription } from "./ring/subscription.ts";
export type { UserRecord, WriterStats } from "./ring/user_ring_writer.ts";
export { UserRingBuf } from "./ring/user_ring_buf.ts";
export {
  formatKernelSymbol,
  type KernelSymbol,
  KernelSymbols,
  type SymbolizedFrame,
} from "./symbols/kernel_symbols.ts";
export * as t from "./types/t.ts";
