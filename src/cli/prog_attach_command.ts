/** @module The commands `bun-bpf prog attach` and `detach`, for programs that are in the kernel already. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { CommandError, EndingSignal, forUser, groupOf, parseSeconds } from "./command_line.ts";
import {
  argumentFor,
  openLink,
  openProgram,
  openReference,
  parsePath,
  parseReference,
  type Reference,
} from "./object_command.ts";
import { abbreviate, counted, type JsonOption, note, printJson, withJson } from "./output.ts";
import { BpfError } from "../ffi/error.ts";
import { Attachment } from "../link/attachment.ts";
import { visibleObjects } from "../inspect/objects.ts";
import { detachWithoutLink } from "../link/detach.ts";
import type { Link } from "../link/link.ts";
import type { Program } from "../program/program.ts";
import type { SectionName } from "../program/section_types.ts";
import { parseSection } from "../program/sections.ts";

const sections = `
<section> is the section that the program was loaded with, by libbpf's name: tp/sched/sched_switch, raw_tp,
xdp, tcx/ingress, cgroup_skb/egress. Options are those of the section in the library (\`Program.attach()\`),
each as <name>=<value>: interface=lo, tracepoint=sched_switch, cookie=7. Numbers are decimal or hexadecimal
(0x10), lists have commas, and \`true\` and \`false\` are booleans. Values in quotes, brackets or braces are JSON:
'interface="5"' is a name. Where an option takes a map or program, name it by its id, name or pin; before= and
after= take link:<link>, prog:<program> or all.`;

const help = `${sections}

A link ends with this command, unless it is pinned: with --pin the command returns at once, and
\`bun-bpf link unpin\` detaches the program. Without --pin the command waits for Ctrl-C, or for the end of
--duration, and then detaches the program. For some targets the kernel has no links: classic tc filters, maps
of sockets before Linux 6.10, and what old kernels attach in other ways. With --keep such programs stay
attached after the command has ended; \`bun-bpf prog detach\` detaches them.

With --json the document has the keys programId, section, linkId (if there is a link), and path (of the pin).
It is printed when the program is attached.

Examples:
  bun-bpf prog attach /sys/fs/bpf/execs raw_tp/sched_process_exec --pin /sys/fs/bpf/execs_link
  bun-bpf prog attach name:drop xdp interface=lo --duration 10
  bun-bpf prog attach id:12 tp tracepoint=sched/sched_switch cookie=7
  bun-bpf prog attach name:sample perf_event event=cpu-clock frequency=99
  bun-bpf prog attach name:tasks iter/task --pin /sys/fs/bpf/tasks && cat /sys/fs/bpf/tasks`;

const detachHelp = `
This is for programs that are attached without a link, by whatever process: to cgroups and maps of sockets in
the way of BPF_PROG_ATTACH, to interfaces by netlink (XDP and classic tc filters; a clsact qdisc stays), and
flow dissectors. \`bun-bpf link detach\` detaches links.
${sections}

Only the options that tell the place are needed: cgroup, map, interface, netns, mode (XDP), priority, handle
and chain (tc), and direction or attachType, where the section does not have it.

With --json the document has the keys programId, section and detached (true).

Examples:
  bun-bpf prog detach name:filter cgroup_skb/egress cgroup=/sys/fs/cgroup/app
  bun-bpf prog detach id:12 sk_msg map=name:sockets
  bun-bpf prog detach name:drop xdp interface=lo`;

interface AttachOptions extends JsonOption {
  readonly pin?: string;
  readonly keep?: boolean;
  readonly duration?: number;
}

/** Adds the commands to `bun-bpf prog`, which has to exist. */
export function progAttachCommand(program: Command): void {
  withJson(
    groupOf(program, "prog")
      .command("attach")
      .description("attach a program until Ctrl-C, or pin its link")
      .addArgument(argumentFor("prog"))
      .argument("<section>", "the section of the program, see below")
      .argument("[option...]", "options of the section, as <name>=<value>", parsePair)
      .addOption(
        new Option("-p, --pin <path>", "pin the link, and return")
          .argParser(parsePath)
          .conflicts(["keep", "duration"]),
      )
      .addOption(
        new Option("--keep", "leave a program attached that has no link, and return").conflicts(
          "duration",
        ),
      )
      .option("-d, --duration <seconds>", "detach after this time", parseSeconds)
      .addHelpText("after", help),
  ).action(attach);
  withJson(
    groupOf(program, "prog")
      .command("detach")
      .description("detach a program that has no link")
      .addArgument(argumentFor("prog"))
      .argument("<section>", "the section of the program, see below")
      .argument("[option...]", "options of the section, as <name>=<value>", parsePair)
      .addHelpText("after", detachHelp),
  ).action(detach);
}

/** An option of a section, as a name and the text of its value. */
type Pair = readonly [name: string, value: string];

function parsePair(text: string, others: readonly Pair[] = []): readonly Pair[] {
  const [, name, value] = /^(\w+)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new InvalidArgumentError("Expected <name>=<value>, such as interface=lo.");
  }
  if (others.some(([other]) => other === name)) {
    throw new InvalidArgumentError(`The option ${name} is given twice.`);
  }
  return [...others, [name, value]];
}

async function attach(
  reference: Reference,
  section: string,
  pairs: readonly Pair[],
  options: AttachOptions,
): Promise<void> {
  const { json = false, pin, keep = false, duration = Infinity } = options;
  using program = openProgram(reference, { isChange: true });
  // Signals that arrive while the program is being attached end the command after that.
  using signal = new EndingSignal();
  using attached = new DisposableStack();
  const link = attached.use(attachAs(program, section, pairs));
  if (keep && !outlivesProcess(link)) {
    throw new CommandError(
      `the ${link} ends with this command, so the program was detached: use --pin <path> instead of --keep`,
      { isMisuse: true },
    );
  }
  if (pin !== undefined) pinLink(link, pin);
  const linkId = linkIdOf(link);
  if (json) printJson({ programId: program.id, section, linkId, path: pin });
  if (keep) attached.move();
  if (keep || pin !== undefined) return;
  note(`${link}: attached${duration === Infinity ? " until Ctrl-C" : ""}`);
  await signal.wait(duration);
}

function attachAs(program: Program, section: string, pairs: readonly Pair[]): Link {
  using opened = new DisposableStack();
  return forUser(`${program}`, { isMisuse: true }, () => {
    return program.attachAs(section as SectionName, parseOptions(pairs, opened));
  });
}

function detach(
  reference: Reference,
  sectionName: string,
  pairs: readonly Pair[],
  { json = false }: JsonOption,
): void {
  using program = openProgram(reference, { isChange: true });
  using opened = new DisposableStack();
  try {
    forUser(`${program}`, { isMisuse: true }, () => {
      const section = parseSection(sectionName);
      const { programType } = section.row;
      if (programType !== program.type) {
        throw new TypeError(
          `its type is ${program.type}, and programs of section "${sectionName}" are ${programType}`,
        );
      }
      detachWithoutLink(section, program, parseOptions(pairs, opened));
    });
  } catch (error) {
    if (!canBeLinked(error)) throw error;
    const links = visibleObjects("link")?.filter(({ programId }) => programId === program.id) ?? [];
    if (links.length === 0) throw error;
    const commands = links.map(({ id }) => `\`bun-bpf link detach ${id}\``);
    throw new CommandError(
      `${(error as Error).message}. The program has ${counted(links.length, "link")}: ${abbreviate(commands, 3)}`,
      { isMisuse: error instanceof CommandError && error.isMisuse },
    );
  }
  if (json) printJson({ programId: program.id, section: sectionName, detached: true });
}

/** Returns true for errors about programs that are not attached without a link, which may be attached by one. */
function canBeLinked(error: unknown): boolean {
  if (error instanceof BpfError && error.code === "ENOENT") return true;
  // The kernel has several errors for a program that is attached by a link, which the hints explain.
  return error instanceof Error && /attached by (a link|links only)/.test(error.message);
}

/** Returns true if the program stays attached after this process has ended, without a pin. */
function outlivesProcess(link: Link): boolean {
  // The descriptor of a perf event, to which old kernels attach without a link, ends with the process.
  return link instanceof Attachment && link.info().type !== "perf_event";
}

function pinLink(link: Link, path: string): void {
  if (!outlivesProcess(link)) {
    link.pin(path);
    return;
  }
  throw new CommandError(
    `the kernel attaches the program without a link, which could be pinned, so it was detached: use --keep instead of --pin`,
  );
}

/** Returns the id of a link; `undefined` if the kernel attached the program in another way. */
function linkIdOf(link: Link): number | undefined {
  try {
    return link.id;
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}

/** @param opened closes the objects that the values name */
function parseOptions(
  pairs: readonly Pair[],
  opened: DisposableStack,
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(pairs.map(([name, text]) => [name, parseOption(name, text, opened)]));
}

/** Parsers for the options whose values cannot be told by the form of their text. */
const forms: Readonly<Record<string, (text: string, opened: DisposableStack) => unknown>> = {
  cookie: parseInteger64,
  cookies: (text) => text.split(",").map(parseInteger64),
  expectedRevision: parseInteger64,
  address: parseInteger64,
  addresses: (text) => text.split(",").map(parseInteger64),
  offsets: (text) => text.split(",").map(parseScalar),
  referenceOffsets: (text) => text.split(",").map(parseScalar),
  ids: (text) => text.split(",").map(parseScalar),
  cgroup: (text) => text,
  path: (text) => text,
  map: (text, opened) => opened.use(openReference("map", parseReference(text))),
  program: parseProgram,
  replace: (text, opened) =>
    text === "true" || text === "false" ? text === "true" : parseProgram(text, opened),
  before: parseAnchor,
  after: parseAnchor,
};

function parseProgram(text: string, opened: DisposableStack): Program {
  return opened.use(openProgram(parseReference(text), { isChange: true }));
}

/** Parses the program or link before or after which a program is attached. */
function parseAnchor(text: string, opened: DisposableStack): Program | Link | "all" {
  if (text === "all") return text;
  const [, kind, reference = ""] = /^(prog|link):(.*)$/s.exec(text) ?? [];
  if (kind === "prog") return parseProgram(reference, opened);
  return opened.use(openLink(parseReference(kind === "link" ? reference : text)));
}

/**
 * Parses the value of an option.
 *
 * @param opened closes the objects that the value names
 * @throws {TypeError | InvalidArgumentError} if it has no form that the option accepts.
 */
function parseOption(name: string, text: string, opened: DisposableStack): unknown {
  if (/^["[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new TypeError(`${name}: expected JSON: ${(error as Error).message}`);
    }
  }
  const form = Object.hasOwn(forms, name) ? forms[name] : undefined;
  try {
    if (form !== undefined) return form(text, opened);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new InvalidArgumentError(`${name}: ${error.message}`);
  }
  return text.includes(",") ? text.split(",").map(parseScalar) : parseScalar(text);
}

function parseScalar(text: string): unknown {
  if (text === "true" || text === "false") return text === "true";
  const isNumber = /^-?\d+$|^0x[0-9a-f]+$/i.test(text);
  if (!isNumber) return text;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text);
}

function parseInteger64(text: string): bigint {
  if (/^\d+$|^0x[0-9a-f]+$/i.test(text)) return BigInt(text);
  throw new InvalidArgumentError(`Expected an integer, got ${JSON.stringify(text)}.`);
}
