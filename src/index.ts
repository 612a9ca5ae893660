/**
 * A BPF toolkit native to Bun: maps, ring buffers, programs and links, in TypeScript down to bpf(2).
 *
 * @module
 */
import "./types/web.ts";

export { Btf } from "./btf/btf.ts";
export type { BtfDecodeOptions, BtfRecord, BtfValue } from "./btf/decode.ts";
export type { BtfKind, BtfLinkage } from "./btf/format.ts";
export type {
  BtfEnumerator,
  BtfField,
  BtfInteger,
  BtfMember,
  BtfParameter,
  BtfTag,
  BtfType,
  BtfVariable,
} from "./btf/graph.ts";
export type { Feature, FeatureGroup, FeatureStatus } from "./features/feature.ts";
export { type Features, features, type Fix } from "./features/features.ts";
export type { AttachKind } from "./link/attach_kinds.ts";
export type { InstructionSet } from "./features/instruction_sets.ts";
export type { MapOperation, MapTypeName } from "./maps/map_types.ts";
export type { KernelSettings } from "./features/settings.ts";
export { monotonicNanoseconds, monotonicToDate } from "./ffi/clock.ts";
export { constantName } from "./check/names.ts";
export { BpfError, type BpfErrorOptions, DisposedError } from "./ffi/error.ts";
export { type OpenHandle, openHandles } from "./ffi/handle_registry.ts";
export { type Lockdown, possibleCpus } from "./ffi/kernel.ts";
export type { ObjectsByKind } from "./inspect/objects.ts";
export { type ObjectOwner, type ObjectOwners, objectOwners } from "./inspect/owners.ts";
export { type ObjectPins, objectPins } from "./inspect/pins.ts";
export { Arena, type ArenaOptions, type ArenaAddressOptions } from "./maps/arena.ts";
export type {
  AnyType,
  CheckedArguments,
  CpuArrayOptions,
  DescriptorArrayOptions,
  DescriptorHashOptions,
  IndexedMapOptions,
  KeyedMapOptions,
  KeyedMapTypes,
  MapClass,
  MapClasses,
  MapKind,
  MapOf,
  OpenArguments,
  OptionsOf,
  StorageOptions,
  TypesOf,
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
  BatchesOptions,
  KeyedMap,
  PerCpuAssociativeMap,
  SingleTakeMap,
} from "./maps/keyed_map.ts";
export { BatchError, DecodeError, type RawEntry } from "./maps/walk.ts";
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
export { keepAcrossReloads, type Reloadable } from "./handle/reload.ts";
export { BpfMap, type Duplicate } from "./maps/bpf_map.ts";
export { checkMapTypes } from "./maps/compare_types.ts";
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
export type { ElementOptions } from "./maps/elements.ts";
export type { BunSocket, FdLike } from "./handle/fd_like.ts";
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
export type { CommonMapOptions, MapSpec, OpenMapOptions, SpecTypes } from "./maps/map_spec.ts";
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
  AttachmentType,
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
  SocketAttachmentInfo,
  SockmapLinkInfo,
  StructOpsLinkInfo,
  TcDirection,
  TcLinkInfo,
  TcxLinkInfo,
  TracingLinkInfo,
  UprobeMultiLinkInfo,
  XdpLinkInfo,
  XdpMode,
} from "./link/link_info.ts";
export type { CgroupOrder, IteratorOptions } from "./link/iterator.ts";
export { IterLink, type IterOutput } from "./link/iterator_link.ts";
export type {
  BreakpointEvent,
  CacheEvent,
  NumberedEvent,
  PerfEventName,
  PerfEventSpec,
  RawEvent,
} from "./link/perf_counters.ts";
export type { PerfEventOptions } from "./link/perf_event_program.ts";
export { PerfEventsLink } from "./link/perf_events_link.ts";
export {
  Link,
  type LinkedProgram,
  listLinks,
  type OpenLinkOptions,
  type UpdateLinkOptions,
} from "./link/link.ts";
export type { CookieOptions, CookiesOptions } from "./link/attach_method.ts";
export type { FunctionPatterns } from "./link/function_patterns.ts";
export type { KprobeOptions, KprobeTarget, KsyscallTarget } from "./link/kprobe.ts";
export { KprobeMultiLink, type KprobeMultiTarget } from "./link/kprobe_multi.ts";
export type { ReplacementOptions } from "./link/trampoline.ts";
export { type TracedFunctions, TracingMultiLink } from "./link/trampoline_multi.ts";
export type {
  UprobeMultiOptions,
  UprobeMultiTarget,
  UprobeOptions,
  UprobeProcessOptions,
  UprobeTarget,
} from "./link/uprobe.ts";
export {
  type AttachedProgram,
  attachedPrograms,
  type AttachedPrograms,
  type AttachedFilter,
  type AttachedTarget,
  type AttachedToCgroup,
  type AttachedToNetns,
  type AttachedToSocketMap,
} from "./link/attached.ts";
export type { CgroupMode, CgroupOptions, CgroupSkbOptions } from "./link/cgroup.ts";
export type { FlowDissectorOptions } from "./link/netns.ts";
export type { SkSkbAttachType, SkSkbOptions, SocketMapOptions } from "./link/socket_map.ts";
export type { SocketOptions } from "./link/sockets.ts";
export type { Netns } from "./ffi/namespace.ts";
export type { Anchor, LinkIdAnchor, OrderOptions, ProgramIdAnchor } from "./link/anchor.ts";
export type { InterfaceOptions, NetnsOptions } from "./link/network_target.ts";
export type { XdpOptions } from "./link/xdp.ts";
export type { DirectedTcOptions, TcOptions } from "./link/tc.ts";
export type { NetkitOptions } from "./link/netkit.ts";
export type { NetfilterOptions } from "./link/netfilter.ts";
export {
  type DataLocation,
  tracepointType,
  type TracepointType,
  type TracepointValue,
} from "./link/tracepoint_type.ts";
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
  CoreRelocation,
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
export { type Attached, type Bpf, bpf } from "./compiler/bpf.ts";
export { CompileError } from "./compiler/source/compile_error.ts";
export type {
  Address,
  AttachablePlace,
  AttachEntry,
  CommonContext,
  Context,
  Entry,
  KernelFunction,
  KernelFunctions,
  KernelObject,
  KernelPointer,
  KernelText,
  KernelTypes,
  Packet,
  Place,
  Pointer,
  Programs,
  RawTracepoints,
  Result,
  TcAction,
  TcContext,
  Tracepoints,
  XdpAction,
  XdpContext,
  XdpPacket,
} from "./compiler/kernel_types.ts";
export type {
  AtomicVariable,
  Copy,
  KernelArray,
  KernelBloomFilter,
  KernelCgroups,
  KernelStackMap,
  KernelLibrary,
  KernelMap,
  KernelQueue,
  KernelRing,
  KernelVariable,
  LibraryFunctions,
  MemoryMap,
  MemoryMethods,
  NumberMethods,
  Scope,
  ScopeMember,
  Written,
} from "./compiler/scope_types.ts";
export { BpfFunction, BpfGlobal } from "./compiler/language/shared_values.ts";
export { BpfObject, type LoadObjectOptions, ObjectMap } from "./object/bpf_object.ts";
export type { ObjectSpec, VariablePlace, VariablesSpec } from "./object/object_spec.ts";
export type { AttachTypeName, ProgramFlag, ProgramTypeName } from "./ffi/bpf_prog.ts";
export type { MapFlag } from "./ffi/bpf_map.ts";
export type {
  MachineFunction,
  MachineLine,
  ProgramFunction,
  TranslatedFunction,
} from "./program/program_code.ts";
export {
  enableStats,
  listPrograms,
  type ProgramInfo,
  type ProgramInterface,
} from "./program/program_info.ts";
export type { ProgramBtfSpec, ProgramSpec } from "./program/program_spec.ts";
export type { VerifierLog } from "./program/load.ts";
export type { MachineOptions } from "./program/load_options.ts";
export type {
  AttachArguments,
  AttachedLink,
  AttachOptions,
  SectionName,
} from "./program/section_types.ts";
export { type OpenProgramOptions, Program, type ProgramOptions } from "./program/program.ts";
export type { TestRunOptions, TestRunResult } from "./program/test_run.ts";
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
export { type BuffersByName, type MergedEvent, MergedEvents } from "./ring/merged_events.ts";
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
export * as uapi from "./uapi/constants.ts";
