/**
 * Rules of this project for Oxlint, which .oxlintrc.json turns on.
 *
 * - `doc-beginning`: a doc comment begins with a verb in the third person, or with the noun that it defines.
 * - `doc-missing`: a function, class, interface or type that a file of src exports has a doc comment. TypeDoc requires the
 *   comments of all other public symbols, and of their members.
 * - `awaited-expectation`: `expect(...).rejects` and `.resolves` are awaited. Bun's types declare their matchers as `void`, so
 *   `no-floating-promises` does not see them.
 */

/** The part of an ESTree node that the rules read. */
interface Node {
  readonly type: string;
  readonly parent?: Node;
  readonly declaration?: Node | null;
  readonly expression?: Node;
  readonly callee?: Node;
  readonly object?: Node;
  readonly property?: Node;
  readonly id?: Node | null;
  readonly body?: readonly Node[];
  readonly name?: string;
}

interface Comment {
  readonly type: string;
  readonly value: string;
}

interface Context {
  readonly filename: string;
  readonly sourceCode: {
    getAllComments(): readonly Comment[];
    getCommentsBefore(node: Node): readonly Comment[];
  };
  report(finding: { readonly node: Node | Comment; readonly message: string }): void;
}

const questions = "What|How|Whether|Who|Whom|Whose|Where|When|Why|Which|That|If";
const fragments =
  "Of|Not|So|As|To|For|By|At|On|With|In|And|Or|But|It|Its|They|Them|This|These|There|Before|Same|Like";
/** A word in lower case that is neither a name in C nor that of a program. */
const lowerCase =
  "(?!(?:int|char|long|void|struct|union|enum|unsigned|const|\\w*bpf\\w*)\\b)[a-z]+(?![(/*])";
const badBeginning = new RegExp(`^(?:${questions}|${fragments}|${lowerCase})(?![\\w'-])`);

function isDoc({ type, value }: Comment): boolean {
  return type === "Block" && value.startsWith("*");
}

/** True for the doc comment of a file, which is not that of its first export. */
function isModuleDoc(comment: Comment): boolean {
  return isDoc(comment) && /^[\s*]*@module\b/.test(comment.value);
}

const docBeginning = {
  create: (context: Context) => ({
    Program() {
      for (const comment of context.sourceCode.getAllComments()) {
        if (!isDoc(comment)) continue;
        const text = comment.value.replace(/^[\s*]*(?:@module\s[\s*]*)?/, "");
        const [word] = badBeginning.exec(text) ?? [];
        if (word === undefined) continue;
        context.report({
          node: comment,
          message: `A doc comment begins with a verb in the third person or a noun, not with "${word}".`,
        });
      }
    },
  }),
};

const docMissing = {
  create: (context: Context) => ({
    ExportNamedDeclaration(node: Node) {
      const { declaration } = node;
      // A list of constants shares one comment, and all overloads share the comment of the first overload.
      if (declaration == null || declaration.type === "VariableDeclaration") return;
      const name = declaration.id?.name ?? "";
      const first = node.parent?.body?.find((other) => other.declaration?.id?.name === name);
      if (first !== node) return;
      const comments = context.sourceCode.getCommentsBefore(node);
      if (comments.some((comment) => isDoc(comment) && !isModuleDoc(comment))) return;
      context.report({ node, message: `${name} is exported: it needs a doc comment.` });
    },
  }),
};

const awaitedExpectation = {
  create: (context: Context) => ({
    ExpressionStatement(node: Node) {
      for (let at = node.expression; at !== undefined; at = at.callee ?? at.object) {
        const name = at.property?.name;
        if (name !== "rejects" && name !== "resolves") continue;
        context.report({ node, message: "This expectation is a promise: await it." });
        return;
      }
    },
  }),
};

export default {
  meta: { name: "bun-bpf" },
  rules: {
    "doc-beginning": docBeginning,
    "doc-missing": docMissing,
    "awaited-expectation": awaitedExpectation,
  },
};
