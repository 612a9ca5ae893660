/** The completions of an editor in kernel code, from TypeScript's language service. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { packageRoot } from "../support/run.ts";

/** A script with marks: completions are asked for at each, by its name. */
const script = `import { bpf, type HashMap, type KernelPointer, type RingBuf, t } from "bun-bpf";
declare module "bun-bpf" {
  interface KernelTypes {
    task_struct: { readonly tgid: number; readonly real_parent: KernelPointer<"task_struct"> };
  }
  interface RawTracepoints {
    sched_switch: { readonly preempt: boolean; readonly next: KernelPointer<"task_struct"> };
  }
}
const Value = t.struct({ count: t.u64, name: t.cstring(16) });
declare const values: HashMap<typeof t.u32, typeof Value>;
declare const counts: HashMap<typeof t.u32, typeof t.u64>;
declare const ring: RingBuf<typeof Value>;
bpf.attach({ values, counts, ring, least: 1 }, {
  "tp_btf/sched_switch"(ctx, scope) {
    ctx./*ctx*/pid;
    ctx.args./*args*/next;
    ctx.args.next.real_parent./*task*/tgid;
    ctx.args.next.as(/*type*/"task_struct");
    scope./*scope*/least;
    scope.values./*values*/get(1);
    scope.counts./*counts*/get(1);
    scope.ring./*ring*/output({ count: 1n, /*record*/name: "" });
    scope.k./*library*/log2(1);
    const value = scope.values.get(1);
    if (value) value./*copy*/count;
  },
});
bpf.load({}, {
  xdp: (ctx) => (ctx./*xdp*/packet.length > 5 ? /*action*/"drop" : "pass"),
});
`;

let folder = "";
let file = "";
let service: ts.LanguageService;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "editor-"));
  file = join(folder, "script.ts");
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ESNext,
    lib: ["lib.esnext.d.ts"],
    module: ts.ModuleKind.Preserve,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [join(packageRoot, "node_modules/bun-types")],
    paths: { "bun-bpf": [join(packageRoot, "src/index.ts")] },
  };
  const read = (path: string) => (path === file ? script : ts.sys.readFile(path));
  service = ts.createLanguageService({
    getCompilationSettings: () => options,
    getScriptFileNames: () => [file],
    getScriptVersion: () => "1",
    getScriptSnapshot: (path) => {
      const text = read(path);
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
    },
    getCurrentDirectory: () => folder,
    getDefaultLibFileName: (given) => ts.getDefaultLibFilePath(given),
    fileExists: (path) => path === file || ts.sys.fileExists(path),
    readFile: read,
    readDirectory: ts.sys.readDirectory,
    directoryExists: ts.sys.directoryExists,
    getDirectories: ts.sys.getDirectories,
  });
});

afterAll(() => {
  service.dispose();
  rmSync(folder, { recursive: true });
});

/** Returns the names that the editor offers at a mark, in alphabetical order. */
function namesAt(mark: string): string[] {
  const text = `/*${mark}*/`;
  const start = script.indexOf(text);
  if (start === -1) throw new Error(`there is no mark ${mark}`);
  const end = start + text.length;
  // In a string, the editor asks after its quote.
  const position = script[end] === '"' ? end + 1 : end;
  const found = service.getCompletionsAtPosition(file, position, {});
  return (found?.entries ?? []).map(({ name }) => name).sort();
}

test("the script has no errors", () => {
  const messages = service
    .getSemanticDiagnostics(file)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  expect(messages).toEqual([]);
});

const common = [
  ...["cgroupId", "comm", "cpu", "gid", "hostPid", "isSelf", "kernelStack", "now", "nowUs"],
  ...["signal", "task", "userStack"],
  ...["pid", "probe", "random", "tid", "uid"],
];
const pointer = [
  ...["address", "as", "containerOf", "kernelBytes", "kernelString", "offset"],
  ...["read", "readUser", "userBytes", "userString"],
];

test.each([
  ["ctx", ["args", ...common]],
  ["args", ["next", "preempt"]],
  ["task", [...pointer, "real_parent", "tgid"]],
  ["scope", ["counts", "k", "least", "ring", "values"]],
  ["values", ["add", "delete", "get", "getOrInit", "has", "ref", "replace", "set", "take"]],
  ["counts", ["add", "delete", "get", "has", "increment", "replace", "set", "take"]],
  ["ring", ["output"]],
  ["record", ["name"]],
  ["copy", ["count", "name"]],
  ["xdp", [...common, "egress_ifindex", "ingress_ifindex", "packet", "rx_queue_index"]],
])("the editor completes %s", (mark, names) => {
  expect(namesAt(mark)).toEqual([...names].sort());
});

test("the editor completes names in strings, and the kernel library", () => {
  expect(namesAt("type")).toContain("task_struct");
  expect(namesAt("action")).toEqual(["aborted", "drop", "pass", "redirect", "tx"]);
  expect(namesAt("library")).toEqual(
    expect.arrayContaining(["AF_INET", "EACCES", "Ipv4", "IPPROTO_TCP", "log2", "range", "zeroed"]),
  );
});
