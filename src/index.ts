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
export type { Feature, FeatureStatus } from "./features/feature.ts";
export type { FeatureGroup } from "./features/feature_group.ts";
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
export { possibleCpus } from "./ffi/cpus.ts";
export type { ObjectsByKind } from "./inspect/by_kind.ts";
export { type ObjectOwner, type ObjectOwners, objectOwners } from "./inspect/owners.ts";
export { type ObjectPins, objectPins } from "./inspect/pins.ts";
export { Arena } from "./maps/arena.ts";
export type { ArenaOptions, ArenaPlace } from "./maps/arena_kind.ts";
export type { ArrayMapTypes, IndexedMapOptions } from "./maps/array_kind.ts";
export { ArrayMap, type ArrayMapOptions } from "./maps/array_map.ts";
export type { AssociativeMap } from "./maps/associative_map.ts";
export { BatchError } from "./maps/batch_error.ts";
export { BloomFilter, type BloomFilterOptions } from "./maps/bloom_filter.ts";
export { BpfFileSystem } from "./maps/bpf_file_system.ts";
export { BpfMap } from "./maps/bpf_map.ts";
export { CgroupArray, type CgroupArrayOptions } from "./maps/cgroup_array.ts";
export { CpuMap, type CpuMapEntry, type CpuMapOptions, type CpuMapValue } from "./maps/cpu_map.ts";
export type { CpuArrayOptions, DescriptorArrayOptions } from "./maps/descriptor_array_kind.ts";
export { DevMap, type DevMapOptions } from "./maps/dev_map.ts";
export { DevMapHash, type DevMapHashOptions } from "./maps/dev_map_hash.ts";
export type { DevMapEntry, DevMapValue, NetworkInterface } from "./maps/dev_map_value.ts";
export { CgroupStorage, type CgroupStorageOptions } from "./maps/cgroup_storage.ts";
export type { BatchedMap } from "./maps/batched_map.ts";
export type { ElementMap, ElementOptions } from "./maps/element_map.ts";
export type { FdLike } from "./maps/fd_like.ts";
export type { MapInfo, MapProperties } from "./maps/handle.ts";
export { HashMap, type HashMapOptions } from "./maps/hash_map.ts";
export { InodeStorage, type InodeStorageOptions } from "./maps/inode_storage.ts";
export type { ObjectStorage } from "./maps/object_storage.ts";
export type { IndexedMap } from "./maps/indexed_map.ts";
export type { KeyedMapOptions } from "./maps/keyed_kind.ts";
export type { BatchesOptions, KeyedMap, KeyedMapTypes } from "./maps/keyed_map.ts";
export { listMaps } from "./maps/list.ts";
export { LpmTrie, type LpmTrieOptions } from "./maps/lpm_trie.ts";
export { LruHashMap, type LruHashMapOptions } from "./maps/lru_hash_map.ts";
export { LruPerCpuHashMap, type LruPerCpuHashMapOptions } from "./maps/lru_per_cpu_hash_map.ts";
export { PerCpuArrayMap, type PerCpuArrayMapOptions } from "./maps/per_cpu_array_map.ts";
export type { PerCpuAssociativeMap } from "./maps/per_cpu_associative_map.ts";
export { PerCpuHashMap, type PerCpuHashMapOptions } from "./maps/per_cpu_hash_map.ts";
export { PerfEventArray, type PerfEventArrayOptions } from "./maps/perf_event_array.ts";
export { ProgArray, type ProgArrayOptions } from "./maps/prog_array.ts";
export type { PushOptions, PushPopMap } from "./maps/push_pop_map.ts";
export { Queue, type QueueOptions } from "./maps/queue.ts";
export { ReuseportSockArray, type ReuseportSockArrayOptions } from "./maps/reuseport_sock_array.ts";
export { SockHash, type SockHashOptions, type SockHashTypes } from "./maps/sock_hash.ts";
export { SockMap, type SockMapOptions } from "./maps/sock_map.ts";
export type { SocketArrayMap } from "./maps/socket_array_map.ts";
export type { SparseArrayMap } from "./maps/sparse_array_map.ts";
export { SkStorage, type SkStorageOptions } from "./maps/sk_storage.ts";
export type { StorageOptions, StorageTypes } from "./maps/storage_kind.ts";
export { type TaskOwner, TaskStorage, type TaskStorageOptions } from "./maps/task_storage.ts";
export { Stack, type StackOptions } from "./maps/stack.ts";
export {
  StackTraceMap,
  type StackTraceMapOptions,
  type StackTraceMapTypes,
} from "./maps/stack_trace_map.ts";
export type { BuildIdFrame, StackFrame } from "./maps/stack_layout.ts";
export type { CommonMapOptions, MapFlag, MapSpec, MapTypeName } from "./maps/spec.ts";
export type { ValueMapOptions, ValueTypes } from "./maps/value_kind.ts";
export type { WriteOnlyArrayMap } from "./maps/write_only_array_map.ts";
export { XskMap, type XskMapOptions } from "./maps/xsk_map.ts";
export {
  ArrayOfMaps,
  type ArrayOfMapsOptions,
  type ArrayOfMapsTypes,
} from "./kinds/array_of_maps.ts";
export { createMap, type CreatedMap, type CreateMapOptions } from "./kinds/create_map.ts";
export { HashOfMaps, type HashOfMapsOptions, type HashOfMapsTypes } from "./kinds/hash_of_maps.ts";
export type { InnerMap, InnerMapName, InnerMapOptions, InnerMapTypes } from "./kinds/inner_map.ts";
export type { MapOfMaps } from "./kinds/map_of_maps.ts";
export type { AttachTypeName } from "./link/attach_type.ts";
export type {
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
  RawTracepointLinkInfo,
  SockmapLinkInfo,
  StructOpsLinkInfo,
  TcxLinkInfo,
  TracingLinkInfo,
  UprobeMultiLinkInfo,
  XdpLinkInfo,
} from "./link/info.ts";
export { Link, type LinkedProgram } from "./link/link.ts";
export { listLinks } from "./link/list.ts";
export type { PerfEventTarget } from "./link/perf_event_target.ts";
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
export type { ProgramInfo, ProgramTypeName } from "./program/info.ts";
export { listPrograms } from "./program/list.ts";
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
export type { Batch } from "./ring/batch.ts";
export type {
  BatchesOfEventsOptions,
  ConsumeOptions,
  DrainOptions,
  EventsOptions,
  RawDrainOptions,
  RawSubscribeOptions,
  StreamOptions,
  SubscribeOptions,
  WakeupMode,
} from "./ring/consume_options.ts";
export type { RawRecordCallback } from "./ring/drain_code.ts";
export type { EventBuffer } from "./ring/event_buffer.ts";
export { PerfBuffer } from "./ring/perf_buffer.ts";
export type { PerfBufferOptions, PerfBufferTypes } from "./ring/perf_kind.ts";
export { RingBuf } from "./ring/ring_buf.ts";
export type { RingBufOptions, RingBufTypes } from "./ring/ring_kind.ts";
export type { ConsumerStats } from "./ring/stats.ts";
export type { Subscription } from "./ring/subscription.ts";
export type { UserRecord } from "./ring/user_record.ts";
export { UserRingBuf } from "./ring/user_ring_buf.ts";
export type { WaitForRoomOptions, WritableOptions } from "./ring/write_options.ts";
export type { WriterStats } from "./ring/writer_stats.ts";
export {
  formatKernelSymbol,
  type KernelSymbol,
  KernelSymbols,
  type SymbolizedFrame,
} from "./symbols/kernel_symbols.ts";
export * as t from "./types/t.ts";
