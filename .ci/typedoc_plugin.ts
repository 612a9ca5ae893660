/**
 * Adapts TypeDoc to this library, see typedoc.json:
 *
 * - Groups exports by the folder of their file, in place of a tag in each comment.
 * - Names pages by their headings.
 * - Lists the members of unions of names (`MapTypeName`), which are computed from tables.
 * - Moves the constants of `uapi` that belong to an enumeration to its page, with their comments.
 * - Leaves out the static `kind` of map classes, which users do not need.
 * - Shows the required kernel, the last line of a comment, in the description: TypeDoc takes it for a part of the last tag.
 */
import {
  type Application,
  type Comment,
  CommentTag,
  type Context,
  Converter,
  type DeclarationReflection,
  ReflectionKind,
} from "typedoc";

/** The category of the exports of each folder of src. */
const categories: Readonly<Record<string, string>> = {
  types: "Types",
  compiler: "Kernel code",
  maps: "Maps",
  kinds: "Maps",
  ring: "Rings",
  loop: "Rings",
  program: "Programs and objects",
  object: "Programs and objects",
  link: "Links",
  asm: "Instructions",
  btf: "BTF",
  features: "Features",
  inspect: "Inspection",
  symbols: "Inspection",
  handle: "Handles and errors",
  ffi: "Handles and errors",
  check: "Constants",
  uapi: "Constants",
};

export function load({ converter }: Application): void {
  converter.on(Converter.EVENT_CREATE_DECLARATION, listNames);
  converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, page) => {
    page.name = /^# (.*)$/m.exec(page.content[0]?.text ?? "")?.[1] ?? page.name;
  });
  converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const { comment } of project.getReflectionsByKind(ReflectionKind.All)) {
      if (comment !== undefined) describeRequirement(comment);
    }
    for (const reflection of project.getReflectionsByKind(ReflectionKind.Property)) {
      if (reflection.name === "kind" && reflection.flags.isStatic) {
        project.removeReflection(reflection);
      }
    }
    for (const namespace of project.getChildrenByKind(ReflectionKind.SomeModule)) {
      const members = namespace
        .getChildrenByKind(ReflectionKind.Enum)
        .flatMap(({ children = [] }) => children);
      for (const constant of namespace.getChildrenByKind(ReflectionKind.Variable)) {
        const same = members.filter(({ name }) => name === constant.name);
        if (constant.comment !== undefined) {
          for (const member of same) member.comment ??= constant.comment.clone();
        }
        if (same.length > 0) project.removeReflection(constant);
      }
    }
    for (const reflection of project.children ?? []) {
      const file = project.getSymbolIdFromReflection(reflection)?.fileName;
      const folder = file?.split("/src/").at(-1)?.split("/")[0];
      const category = folder === undefined ? undefined : categories[folder];
      if (category === undefined) throw new Error(`${reflection.name} (${file}) has no category`);
      // An export without a comment stays without one, and TypeDoc reports it.
      const comment = reflection.comment ?? reflection.signatures?.[0]?.comment;
      comment?.blockTags.push(new CommentTag("@category", [{ kind: "text", text: category }]));
    }
  });
}

/** Lists the members of a union of names, in the place of the expression that computes it from a table. */
function listNames(context: Context, reflection: DeclarationReflection): void {
  const symbol = context.getSymbolFromReflection(reflection);
  if (!reflection.kindOf(ReflectionKind.TypeAlias) || symbol === undefined) return;
  const type = context.checker.getDeclaredTypeOfSymbol(symbol);
  if (type.isUnion() && type.types.every((member) => member.isStringLiteral())) {
    reflection.comment?.modifierTags.add("@useDeclaredType");
  }
}

/** Moves a last paragraph "Requires Linux ..." from the last tag of a comment to the end of its description. */
function describeRequirement({ summary, blockTags }: Comment): void {
  const content = blockTags.at(-1)?.content ?? [];
  const index = content.findLastIndex(({ text }) => /\n\nRequires Linux /.test(text));
  const part = content[index];
  if (part?.kind !== "text") return;
  const start = part.text.lastIndexOf("\n\nRequires Linux ");
  summary.push({ kind: "text", text: part.text.slice(start) }, ...content.splice(index + 1));
  part.text = part.text.slice(0, start);
}
