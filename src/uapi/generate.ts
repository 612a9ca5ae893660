/**
 * Writes the other files of this folder: the kernel's numbers, from its user-space headers and its own type information.
 *
 *   bun src/uapi/generate.ts [--headers DIR]
 *
 * DIR is the root of an unpacked Debian package linux-libc-dev (6.15 or later, for the newest instructions):
 *   apt-get download linux-libc-dev && dpkg -x linux-libc-dev_*.deb DIR
 * Values come from a C compiler (cc) that reads those headers; struct layouts from the BTF of the running kernel.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Btf } from "../btf/btf.ts";

const { values: options } = parseArgs({
  options: { headers: { type: "string", default: "/" }, help: { type: "boolean" } },
});
if (options.help) {
  console.log("usage: bun src/uapi/generate.ts [--headers DIR]   DIR: an unpacked linux-libc-dev");
  process.exit(0);
}

const include = join(options.headers, "usr/include");
const temporary = mkdtempSync(join(tmpdir(), "uapi-"));
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));

interface ConstantFile {
  readonly file: string;
  readonly headers: readonly string[];
  /** Which identifiers of the headers are taken. */
  readonly names: RegExp;
  /** Where given, an object of this name instead of a constant each; its keys are the names without the prefix. */
  readonly objects?: readonly {
    readonly name: string;
    readonly prefix: string;
    readonly enum?: string;
  }[];
  readonly about: string;
}

const constantFiles: readonly ConstantFile[] = [
  {
    file: "bpf.ts",
    headers: ["linux/bpf.h"],
    names: /^BPF_(ANY$|NOEXIST$|EXIST$|F_|RB_|RINGBUF_|OBJ_NAME_LEN|TAG_SIZE)/,
    about: "flags and sizes of bpf(2)",
  },
  {
    file: "enumerations.ts",
    headers: ["linux/bpf.h"],
    names: /^_*(BPF_|MAX_BPF)/,
    objects: [
      { name: "bpfCommands", prefix: "", enum: "bpf_cmd" },
      { name: "bpfMapTypes", prefix: "BPF_MAP_TYPE_", enum: "bpf_map_type" },
      { name: "bpfProgTypes", prefix: "BPF_PROG_TYPE_", enum: "bpf_prog_type" },
      { name: "bpfAttachTypes", prefix: "BPF_", enum: "bpf_attach_type" },
      { name: "bpfLinkTypes", prefix: "BPF_LINK_TYPE_", enum: "bpf_link_type" },
      { name: "bpfPerfEventTypes", prefix: "BPF_PERF_EVENT_", enum: "bpf_perf_event_type" },
      { name: "bpfCoreRelocations", prefix: "BPF_CORE_", enum: "bpf_core_relo_kind" },
      { name: "bpfCgroupIterOrders", prefix: "BPF_CGROUP_ITER_", enum: "bpf_cgroup_iter_order" },
    ],
    about:
      "commands of bpf(2), and the kinds of maps, programs, attachments, links and perf events",
  },
  {
    file: "instruction.ts",
    headers: ["linux/bpf_common.h", "linux/bpf.h"],
    names:
      /^BPF_(LD|LDX|ST|STX|ALU|JMP|JMP32|ALU64|W|H|B|DW|IMM|ABS|IND|MEM|MEMSX|ATOMIC|ADD|SUB|MUL|DIV|OR|AND|LSH|RSH|NEG|MOD|XOR|MOV|ARSH|END|TO_LE|TO_BE|JA|JEQ|JGT|JGE|JSET|JNE|JLT|JLE|JSGT|JSGE|JSLT|JSLE|JCOND|CALL|EXIT|K|X|FETCH|XCHG|CMPXCHG|LOAD_ACQ|STORE_REL|PSEUDO_\w+)$/,
    about: "the instruction set: classes, sizes, modes, operations and pseudo sources",
  },
  {
    file: "helpers.ts",
    headers: ["linux/bpf.h"],
    names: /^BPF_FUNC_/,
    objects: [{ name: "bpfHelpers", prefix: "BPF_FUNC_" }],
    about: "enum bpf_func_id: helper functions that a program can call, by name",
  },
  {
    file: "btf.ts",
    headers: ["linux/btf.h"],
    names: /^BTF_(KIND_|INT_|MAGIC|VERSION|VAR_|FUNC_)/,
    about: "the BPF Type Format",
  },
  {
    file: "perf_event.ts",
    headers: ["linux/perf_event.h"],
    names:
      /^PERF_(TYPE_|COUNT_SW_|SAMPLE_RAW|RECORD_(LOST|SAMPLE)$|EVENT_IOC_(ENABLE|DISABLE|SET_BPF)|FLAG_FD_CLOEXEC)/,
    about: "perf_event_open(2)",
  },
  {
    file: "io_uring.ts",
    headers: ["linux/io_uring.h"],
    names:
      /^(IORING_OP_(POLL_ADD|POLL_REMOVE|SEND|ASYNC_CANCEL)|IORING_OFF_\w+|IORING_ENTER_GETEVENTS|IORING_FEAT_\w+|IORING_SETUP_(CQSIZE|CLAMP)|IORING_SQ_CQ_OVERFLOW|IOSQE_IO_LINK|IOSQE_CQE_SKIP_SUCCESS|IOSQE_IO_LINK_BIT|IOSQE_CQE_SKIP_SUCCESS_BIT)$/,
    about: "io_uring",
  },
  {
    file: "aio.ts",
    headers: ["linux/aio_abi.h"],
    names: /^IOCB_(CMD_POLL|FLAG_RESFD)$/,
    about: "Linux AIO",
  },
  {
    file: "mount.ts",
    headers: ["linux/mount.h"],
    names: /^(FSOPEN_CLOEXEC|FSMOUNT_CLOEXEC|FSCONFIG_CMD_CREATE|FSCONFIG_SET_STRING)$/,
    about: "the file descriptor based mount interface",
  },
  {
    file: "mman.ts",
    headers: ["asm-generic/mman-common.h", "linux/mman.h"],
    names:
      /^(PROT_(NONE|READ|WRITE)|MAP_(SHARED|PRIVATE|ANONYMOUS|FIXED|FIXED_NOREPLACE|POPULATE)|MREMAP_(MAYMOVE|FIXED))$/,
    about: "mmap(2); the same on x86-64 and arm64",
  },
  {
    file: "resource.ts",
    headers: ["asm-generic/resource.h"],
    names: /^RLIMIT_MEMLOCK$/,
    about: "limits of resources; the same on x86-64 and arm64",
  },
  {
    file: "memfd.ts",
    headers: ["linux/memfd.h"],
    names: /^MFD_(CLOEXEC|NOEXEC_SEAL)$/,
    about: "memfd_create(2)",
  },
  {
    file: "sched.ts",
    headers: ["linux/sched.h"],
    names: /^CLONE_NEW(?:CGROUP|NET)$/,
    about: "unshare(2) and setns(2)",
  },
  {
    file: "socket.ts",
    headers: ["asm-generic/socket.h"],
    names: /^(SOL_SOCKET|SO_REUSEPORT|SO_ATTACH_BPF|SO_ATTACH_REUSEPORT_EBPF)$/,
    about: "options of sockets; the same on x86-64 and arm64",
  },
  {
    file: "netlink.ts",
    headers: [
      "linux/netlink.h",
      "linux/rtnetlink.h",
      "linux/if_link.h",
      "linux/if_ether.h",
      "linux/pkt_sched.h",
      "linux/pkt_cls.h",
    ],
    names:
      /^(NETLINK_ROUTE|NLM_F_(REQUEST|ACK|EXCL|CREATE)|NLMSG_ERROR|NLA_F_NESTED|RTM_(NEWLINK|SETLINK|NEWQDISC|NEWTFILTER)|IFLA_(LINKINFO|INFO_KIND|XDP|XDP_FD|XDP_FLAGS)|XDP_FLAGS_UPDATE_IF_NOEXIST|TC_H_(CLSACT|MIN_INGRESS|MIN_EGRESS)|TCA_(KIND|OPTIONS|BPF_FD|BPF_NAME|BPF_FLAGS|BPF_FLAG_ACT_DIRECT)|ETH_P_ALL)$/,
    about: "netlink: network interfaces and traffic control",
  },
  {
    file: "fcntl.ts",
    headers: ["asm-generic/fcntl.h"],
    names: /^O_PATH$/,
    about: "open(2); the same on x86-64 and arm64",
  },
  {
    file: "pidfd.ts",
    headers: ["linux/pidfd.h"],
    names: /^PIDFD_THREAD$/,
    about: "pidfd_open(2); the same on x86-64 and arm64",
  },
  {
    file: "netfilter.ts",
    headers: ["linux/netfilter.h"],
    names: /^(NFPROTO_(?!NUMPROTO)|NF_INET_(?!NUMHOOKS))/,
    objects: [
      { name: "netfilterFamilies", prefix: "NFPROTO_" },
      { name: "netfilterHooks", prefix: "NF_INET_", enum: "nf_inet_hooks" },
    ],
    about: "families and hooks of netfilter",
  },
  {
    file: "errno.ts",
    headers: ["asm-generic/errno-base.h", "asm-generic/errno.h"],
    names: /^E[A-Z0-9]+$/,
    objects: [{ name: "errnoNumbers", prefix: "" }],
    about: "error numbers; the same on x86-64 and arm64",
  },
];

/** A struct or union in the kernel's BTF, and for an anonymous one inside it two of its members. */
interface Layout {
  readonly type: string;
  readonly arm?: readonly [string, string];
  /** Whether its bit-fields are taken too: as the bit that each starts at, counted from the start of the struct. */
  readonly bits?: true;
  /** Fields of a named part of `union bpf_attr` that the running kernel may not have yet: the headers tell where they are. */
  readonly newer?: readonly string[];
}

/** Layouts by the name they get here. */
const layouts: Readonly<Record<string, Layout>> = {
  MAP_CREATE: { type: "bpf_attr", arm: ["map_type", "max_entries"] },
  MAP_ELEM: { type: "bpf_attr", arm: ["key", "value"] },
  MAP_BATCH: { type: "bpf_attr", arm: ["batch", ""] },
  PROG_LOAD: { type: "bpf_attr", arm: ["prog_type", "insns"] },
  OBJ: { type: "bpf_attr", arm: ["pathname", "bpf_fd"] },
  PROG_TEST_RUN: { type: "bpf_attr", arm: ["test", ""] },
  GET_ID: { type: "bpf_attr", arm: ["start_id", "next_id"] },
  GET_INFO_BY_FD: { type: "bpf_attr", arm: ["info", ""] },
  PROG_ATTACH: { type: "bpf_attr", arm: ["attach_bpf_fd", "attach_type"] },
  RAW_TRACEPOINT_OPEN: { type: "bpf_attr", arm: ["raw_tracepoint", ""] },
  BTF_LOAD: { type: "bpf_attr", arm: ["btf", "btf_log_buf"] },
  LINK_CREATE: {
    type: "bpf_attr",
    arm: ["link_create", ""],
    newer: ["tracing_multi.ids", "tracing_multi.cookies", "tracing_multi.cnt"],
  },
  LINK_UPDATE: { type: "bpf_attr", arm: ["link_update", ""] },
  LINK_DETACH: { type: "bpf_attr", arm: ["link_detach", ""] },
  PROG_BIND_MAP: { type: "bpf_attr", arm: ["prog_bind_map", ""] },
  MAP_INFO: { type: "bpf_map_info" },
  PROG_INFO: { type: "bpf_prog_info", bits: true },
  LINK_INFO: { type: "bpf_link_info" },
  BTF_INFO: { type: "bpf_btf_info" },
  PERF_EVENT_ATTR: { type: "perf_event_attr" },
  PERF_EVENT_HEADER: { type: "perf_event_header" },
  PERF_EVENT_MMAP_PAGE: { type: "perf_event_mmap_page" },
  IO_URING_PARAMS: { type: "io_uring_params" },
  IO_URING_SQE: { type: "io_uring_sqe" },
  IO_URING_CQE: { type: "io_uring_cqe" },
  IOCB: { type: "iocb" },
  IO_EVENT: { type: "io_event" },
};

const syscallNames = [
  "bpf",
  "perf_event_open",
  "io_uring_setup",
  "io_uring_enter",
  "io_setup",
  "io_destroy",
  "io_submit",
  "io_cancel",
  "io_getevents",
  "fsopen",
  "fsconfig",
  "fsmount",
  "pidfd_open",
  "lsm_list_modules",
];

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, " ").replace(/\/\/.*$/gm, "");
}

/** The enumerators of one named enum, without those that only mark its end or its beginning. */
function enumerators(header: string, name: string): string[] {
  const text = withoutComments(readFileSync(join(include, header), "utf8"));
  const body = new RegExp(`\\benum\\s+${name}\\s*\\{([\\s\\S]*?)\\}`).exec(text)?.[1];
  if (body === undefined) throw new Error(`${header} has no enum ${name}`);
  return body
    .split(",")
    .map((item) => /^\s*([A-Za-z_]\w*)/.exec(item)?.[1] ?? "")
    .filter((item) => item !== "" && !/^_*MAX_|^__/.test(item));
}

function identifiers(header: string): string[] {
  const text = withoutComments(readFileSync(join(include, header), "utf8"));
  const names: string[] = [];
  for (const [, body] of text.matchAll(/\benum\b[^{;()]*\{([\s\S]*?)\}/g)) {
    for (const item of (body as string).split(",")) {
      const name = /^\s*([A-Za-z_]\w*)/.exec(item)?.[1];
      if (name !== undefined) names.push(name);
    }
  }
  // The helpers are not spelt out as an enum but through a macro that is given each name and number.
  for (const [, name] of text.matchAll(/\bFN\((\w+),\s*\d+,/g)) names.push(`BPF_FUNC_${name}`);
  for (const [, name] of text.matchAll(/^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)(?=[ \t]+\S)/gm)) {
    names.push(name as string);
  }
  return [...new Set(names)];
}

function compileAndRun(name: string, source: string): string {
  const file = join(temporary, `${name}.c`);
  const program = join(temporary, name);
  writeFileSync(file, source);
  const searched = ["usr/include", "usr/lib/linux/uapi/x86", "usr/include/x86_64-linux-gnu"];
  const compiled = Bun.spawnSync([
    "cc",
    ...searched.flatMap((folder) => ["-isystem", join(options.headers, folder)]),
    "-w",
    file,
    "-o",
    program,
  ]);
  if (!compiled.success) throw new Error(`cc ${file}: ${compiled.stderr.toString()}`);
  const ran = Bun.spawnSync([program]);
  if (!ran.success) throw new Error(`${program} ended with ${ran.exitCode}`);
  return ran.stdout.toString();
}

function valuesOf(
  key: string,
  headers: readonly string[],
  names: readonly string[],
): [string, bigint][] {
  const output = compileAndRun(
    key,
    `#include <stdio.h>
${headers.map((header) => `#include <${header}>`).join("\n")}
#define PRINT(name) printf("%s %lld\\n", #name, (long long)(name))
int main(void) {
${names.map((name) => `PRINT(${name});`).join("\n")}
return 0; }`,
  );
  return output
    .trim()
    .split("\n")
    .map((line) => {
      const [name, value] = line.split(" ") as [string, string];
      return [name, BigInt(value)];
    });
}

function literal(value: bigint): string {
  return Number.isSafeInteger(Number(value)) ? `${value}` : `${BigInt.asUintN(64, value)}n`;
}

const headersVersion = ((): string => {
  const text = readFileSync(join(include, "linux/version.h"), "utf8");
  const code = Number(/LINUX_VERSION_CODE (\d+)/.exec(text)?.[1]);
  return `${code >> 16}.${(code >> 8) & 0xff}.${code & 0xff}`;
})();

async function write(file: string, about: string, from: string, body: string): Promise<void> {
  const path = join(import.meta.dir, file);
  const text = `// Generated by generate.ts from ${from}: do not edit.\n\n/** @module The kernel's numbers: ${about}. */\n\n${body}`;
  const formatted = Bun.spawnSync(
    [process.execPath, "fmt", "--print-width=100", `--stdin-filepath=${path}`],
    {
      stdin: Buffer.from(text),
    },
  );
  if (!formatted.success) throw new Error(`bun fmt ${file}: ${formatted.stderr.toString()}`);
  await Bun.write(path, formatted.stdout);
  console.log(`wrote ${file}`);
}

const headersAre = `the headers of Linux ${headersVersion}`;

for (const { file, headers, names, objects, about } of constantFiles) {
  const key = file.replace(/\W/g, "_");
  if (objects === undefined) {
    const wanted = new Set(headers.flatMap(identifiers).filter((name) => names.test(name)));
    const constants = valuesOf(key, headers, [...wanted]);
    const lines = constants.map(([name, value]) => `export const ${name} = ${literal(value)};`);
    await write(file, about, headersAre, lines.join("\n"));
    continue;
  }
  const bodies = objects.map(({ name: objectName, prefix, enum: enumName }) => {
    const wanted = headers
      .flatMap((header) =>
        enumName === undefined ? identifiers(header) : enumerators(header, enumName),
      )
      .filter((name) => names.test(name) && name.startsWith(prefix));
    const lines = valuesOf(key, headers, [...new Set(wanted)]).map(
      ([name, value]) => `${name.slice(prefix.length)}: ${literal(value)},`,
    );
    return `export const ${objectName} = {\n${lines.join("\n")}\n} as const;`;
  });
  await write(file, about, headersAre, bodies.join("\n\n"));
}

const btf = Btf.kernel();

function structOrUnion(name: string): number {
  const id = btf.find("union", name) ?? btf.find("struct", name);
  if (id === undefined) throw new Error(`the running kernel's BTF has no ${name}`);
  return id;
}

function armOf(typeId: number, [first, second]: readonly [string, string]): number {
  for (const member of btf.members(typeId)) {
    if (second === "" && member.name === first) return member.typeId;
    if (member.name !== "") continue;
    const names = fieldsOf(member.typeId).map(([name]) => name);
    if (names.includes(first) && names.includes(second)) return member.typeId;
  }
  throw new Error(`no arm with ${first} and ${second}`);
}

function fieldsOf(typeId: number, bits = false, base = 0, prefix = ""): [string, number][] {
  return btf.members(btf.resolve(typeId).id).flatMap((member): [string, number][] => {
    const offset = base + member.bitOffset / 8;
    const inner = btf.resolve(member.typeId);
    const isCompound = inner.kind === "struct" || inner.kind === "union";
    if (member.name === "") return isCompound ? fieldsOf(inner.id, bits, offset, prefix) : [];
    if (member.bitSize !== 0) return bits ? [[`${prefix}${member.name}_bit`, offset * 8]] : [];
    if (isCompound) return fieldsOf(inner.id, bits, offset, `${prefix}${member.name}_`);
    return [[`${prefix}${member.name}`, offset]];
  });
}

/** Where fields of a named part of `union bpf_attr` are, from the start of that part, as the headers have it. */
function fieldsInHeaders(part: string, fields: readonly string[]): [string, number][] {
  const places = fields.map(
    (field) =>
      `printf("${field} %zu\\n", offsetof(union bpf_attr, ${part}.${field}) - offsetof(union bpf_attr, ${part}));`,
  );
  const output = compileAndRun(
    part,
    `#include <stddef.h>\n#include <stdio.h>\n#include <linux/bpf.h>\nint main(void) {\n${places.join("\n")}\nreturn 0; }`,
  );
  return output
    .trim()
    .split("\n")
    .map((line) => {
      const [field, offset] = line.split(" ") as [string, string];
      return [field.replaceAll(".", "_"), Number(offset)];
    });
}

const layoutBody = Object.entries(layouts).map(([name, { type, arm, bits, newer = [] }]) => {
  const outer = structOrUnion(type);
  const id = arm === undefined ? outer : armOf(outer, arm);
  const newerFields = newer.length === 0 ? [] : fieldsInHeaders(arm?.[0] ?? type, newer);
  const fields = [...new Map([...fieldsOf(id, bits), ...newerFields])];
  // Some compilers give an arm of a union the size of the union: the end of the last field is what counts.
  const about = arm === undefined ? `struct ${type}` : `union ${type}, the part with ${arm[0]}`;
  return `/** Byte offsets in ${about}. */\nexport const ${name} = {\n${fields
    .map(([field, offset]) => `${field}: ${offset},`)
    .join("\n")}\nsizeof: ${btf.sizeOf(id)},\n} as const;\n`;
});
await write(
  "layout.ts",
  "where the fields of its structs are, in bytes",
  `the BTF of Linux ${release()} and ${headersAre}`,
  layoutBody.join("\n"),
);

function syscallsOf(architecture: "x86" | "arm64"): string {
  const header = join(options.headers, `usr/lib/linux/uapi/${architecture}/asm/unistd_64.h`);
  const text = readFileSync(header, "utf8");
  return syscallNames
    .map((name) => {
      const number = new RegExp(`^#define __NR_${name} (\\d+)$`, "m").exec(text)?.[1];
      if (number === undefined) throw new Error(`${header} has no ${name}`);
      return `${name}: ${number},`;
    })
    .join("\n");
}
await write(
  "syscalls.ts",
  "system calls that libc does not wrap",
  headersAre,
  `export const syscallNumbers = { x64: {\n${syscallsOf("x86")}\n}, arm64: {\n${syscallsOf("arm64")}\n} } as const;`,
);
