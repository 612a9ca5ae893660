/**
 * @module Tokens of TypeScript and JavaScript, for comparing the two.
 *
 * The tokenizer accepts every text: it has no grammar, so types need no support. Where only a grammar could tell a regular
 * expression from a division, it may be wrong; an error ends at the end of the line.
 */

/** Kinds of tokens: names include keywords, and literals are strings, numbers, regular expressions and parts of templates. */
type TokenKind = "name" | "literal" | "punctuation";

/** A token. Comments and white space are none. */
export interface Token {
  readonly kind: TokenKind;
  /** The text; of strings, numbers and names the value, so that all spellings of a value are equal. */
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

/** Operators of several characters. `>` is always alone, as it also ends type arguments. */
const operators = [
  ...["...", "===", "!==", "**=", "<<=", "&&=", "||=", "??="],
  ...["=>", "==", "!=", "<=", "<<", "&&", "||", "??", "?.", "++", "--", "**"],
  ...["+=", "-=", "*=", "/=", "%=", "&=", "|=", "^="],
];
const operatorsByStart = /*@__PURE__*/ Map.groupBy(operators, (operator) => operator.charCodeAt(0));

/** Words before an expression: a slash after them starts a regular expression. */
const wordsBeforeExpression: ReadonlySet<string> = /*@__PURE__*/ new Set(
  "return typeof case do else in instanceof new void delete throw yield await of".split(" "),
);

const name = /[\p{ID_Continue}$\u200c\u200d]+|\\u\{[0-9a-fA-F]+\}|\\u[0-9a-fA-F]{4}/uy;
const number = /0[xXoObB][\da-fA-F_]+n?|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?[\d_]+)?n?/y;
const regularExpression =
  /\/(?:[^\\/[\r\n]|\\[^\r\n]|\[(?:[^\\\]\r\n]|\\[^\r\n])*\])+\/[\p{ID_Continue}]*/uy;
const escape = /\\(?:u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|[\s\S]))/g;
const simpleEscapes: Readonly<Record<string, string>> = {
  ...{ n: "\n", r: "\r", t: "\t", b: "\b", f: "\f", v: "\v", 0: "\0" },
  ...{ "\r\n": "", "\n": "", "\r": "", "\u2028": "", "\u2029": "" },
};

/** Returns the value of a text with escapes. */
function unescape(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(escape, (_, long?: string, unit?: string, byte?: string, other = "") => {
    const digits = long ?? unit ?? byte;
    if (digits === undefined) return simpleEscapes[other] ?? other;
    const code = Number.parseInt(digits, 16);
    return code > 0x10ffff ? "" : String.fromCodePoint(code);
  });
}

/** Returns a number as JavaScript prints it; the text itself, if it is not a number. */
function numberValue(text: string): string {
  const digits = text.replaceAll("_", "");
  const isBigint = digits.endsWith("n") && !/^0[xX]$/.test(digits);
  if (isBigint && /^(?:0[xXoObB][\da-fA-F]+|\d+)n$/.test(digits)) {
    try {
      return `${BigInt(digits.slice(0, -1))}n`;
    } catch {
      return text;
    }
  }
  const value = Number(digits);
  return Number.isNaN(value) ? text : String(value);
}

/** Returns the end of a match at `at`, or `at` if there is none. */
function matchEnd(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

const enum Char {
  Tab = 9,
  LineFeed = 10,
  Return = 13,
  Space = 32,
  DoubleQuote = 34,
  Hash = 35,
  Dollar = 36,
  Quote = 39,
  Star = 42,
  Dot = 46,
  Slash = 47,
  Zero = 48,
  Nine = 57,
  UpperA = 65,
  UpperZ = 90,
  Backslash = 92,
  Underscore = 95,
  Backquote = 96,
  LowerA = 97,
  LowerZ = 122,
  OpenBrace = 123,
  CloseBrace = 125,
}

function isDigit(code: number): boolean {
  return code >= Char.Zero && code <= Char.Nine;
}

/** True for characters of ASCII that names have. */
function isSimpleNamePart(code: number): boolean {
  return (
    (code >= Char.LowerA && code <= Char.LowerZ) ||
    (code >= Char.UpperA && code <= Char.UpperZ) ||
    isDigit(code) ||
    code === Char.Underscore ||
    code === Char.Dollar
  );
}

/** Returns the end of a name at `at`, or `at` if there is none. */
function nameEnd(text: string, at: number): number {
  let end = at;
  for (;;) {
    while (isSimpleNamePart(text.charCodeAt(end))) end++;
    const code = text.charCodeAt(end);
    if (code < 128 && code !== Char.Backslash) return end;
    const next = matchEnd(name, text, end);
    if (next === end) return end;
    end = next;
  }
}

/** Returns the tokens of a text. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  /** The open braces: true for those of `${` in a template. */
  const braces: boolean[] = [];
  let at = 0;

  const push = (kind: TokenKind, value: string, end: number): void => {
    tokens.push({ kind, value, start: at, end });
    at = end;
  };

  const isExpressionNext = (): boolean => {
    const previous = tokens.at(-1);
    if (previous === undefined) return true;
    if (previous.kind === "literal") return false;
    if (previous.kind === "name") return wordsBeforeExpression.has(previous.value);
    return ![")", "]", "}", "`"].includes(previous.value);
  };

  /** Reads a template from after its backquote, or from after an expression in it. */
  const readTemplate = (): void => {
    let end = at;
    for (; end < text.length; end++) {
      const code = text.charCodeAt(end);
      if (code === Char.Backslash) end++;
      else if (code === Char.Backquote) break;
      else if (code === Char.Dollar && text.charCodeAt(end + 1) === Char.OpenBrace) break;
    }
    end = Math.min(end, text.length);
    if (end > at) push("literal", unescape(text.slice(at, end)), end);
    if (end === text.length) return;
    if (text.charCodeAt(end) === Char.Backquote) return push("punctuation", "`", end + 1);
    braces.push(true);
    push("punctuation", "${", end + 2);
  };

  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === Char.Space || (code >= Char.Tab && code <= Char.Return)) {
      at++;
    } else if (isDigit(code) || (code === Char.Dot && isDigit(text.charCodeAt(at + 1)))) {
      const end = matchEnd(number, text, at);
      push("literal", numberValue(text.slice(at, end)), end);
    } else if (code === Char.DoubleQuote || code === Char.Quote) {
      let end = at + 1;
      for (; end < text.length; end++) {
        const next = text.charCodeAt(end);
        if (next === code || next === Char.LineFeed || next === Char.Return) break;
        if (next !== Char.Backslash) continue;
        end += text.startsWith("\r\n", end + 1) ? 2 : 1;
      }
      end = Math.min(end, text.length);
      const value = unescape(text.slice(at + 1, end));
      push("literal", value, text.charCodeAt(end) === code ? end + 1 : end);
    } else if (code === Char.Slash && text.charCodeAt(at + 1) === Char.Slash) {
      while (at < text.length && !isLineEnd(text.charCodeAt(at))) at++;
    } else if (code === Char.Slash && text.charCodeAt(at + 1) === Char.Star) {
      const end = text.indexOf("*/", at + 2);
      at = end === -1 ? text.length : end + 2;
    } else if (code === Char.Backquote) {
      push("punctuation", "`", at + 1);
      readTemplate();
    } else if (code === Char.CloseBrace && braces.pop() === true) {
      push("punctuation", "}", at + 1);
      readTemplate();
    } else {
      const isPrivate = code === Char.Hash;
      const end = nameEnd(text, isPrivate ? at + 1 : at);
      if (end > (isPrivate ? at + 1 : at)) {
        push("name", unescape(text.slice(at, end)), end);
        continue;
      }
      if (code === Char.Slash && isExpressionNext()) {
        const regexpEnd = matchEnd(regularExpression, text, at);
        if (regexpEnd > at) {
          push("literal", text.slice(at, regexpEnd), regexpEnd);
          continue;
        }
      }
      if (code === Char.OpenBrace) braces.push(false);
      const operator = operatorsByStart.get(code)?.find((each) => text.startsWith(each, at));
      if (operator !== undefined) push("punctuation", operator, at + operator.length);
      else if (code < 128) push("punctuation", text[at]!, at + 1);
      // Other white space of Unicode, and characters that only hostile texts have.
      else at++;
    }
  }
  return tokens;
}

function isLineEnd(code: number): boolean {
  return code === Char.LineFeed || code === Char.Return || code === 0x2028 || code === 0x2029;
}
