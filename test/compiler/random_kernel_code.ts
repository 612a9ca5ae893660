/** Makes random functions of kernel code, as text. All are in the language, and end. */
import type { randomNumbers } from "../support/random_numbers.ts";

type RandomNumbers = ReturnType<typeof randomNumbers>;

/** The greatest integer of a number. */
const greatest = Number.MAX_SAFE_INTEGER;

interface NumberText {
  readonly text: string;
  readonly min: number;
  readonly max: number;
}

interface Local {
  readonly name: string;
  readonly kind: "number" | "unsigned" | "signed" | "boolean" | "text";
  readonly isConstant: boolean;
}

const i32 = { min: -(2 ** 31), max: 2 ** 31 - 1 } as const;
const texts = ["", "a", "ab", "abc", "abcdefg", "longer than the room", "ü"] as const;

/** Makes one function. */
export class RandomKernelCode {
  readonly #random: RandomNumbers;
  #locals: Local[] = [];
  #names = 0;
  #loops = 0;
  #budget: number;

  constructor(random: RandomNumbers, size: number) {
    this.#random = random;
    this.#budget = size;
  }

  /** Returns the text of the function. */
  make(): string {
    const lines = [
      "(ctx, { numbers, unsigned, signed, counts, rows, named, events, table, options, twice, total, Row, k }) => {",
      ...this.#block(1),
      `  return (${this.#number(2).text}) | 0;`,
      "}",
    ];
    return lines.join("\n");
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#random(items.length)] as T;
  }

  #chance(percent: number): boolean {
    return this.#random(100) < percent;
  }

  #name(): string {
    return `v${this.#names++}`;
  }

  #local(kind: Local["kind"], isConstant = true): Local | undefined {
    const found = this.#locals.filter(
      (each) => each.kind === kind && (isConstant || !each.isConstant),
    );
    return found.length === 0 ? undefined : this.#pick(found);
  }

  // ---- statements

  #block(depth: number): string[] {
    const before = this.#locals;
    this.#locals = [...before];
    const count = 1 + this.#random(5);
    const lines: string[] = [];
    for (let index = 0; index < count && this.#budget > 0; index++) {
      this.#budget--;
      lines.push(...this.#statement(depth).map((line) => `  ${line}`));
    }
    this.#locals = before;
    return lines;
  }

  #statement(depth: number): string[] {
    const kinds = [
      "declare",
      "declare",
      "assign",
      "assign",
      "if",
      "map",
      "map",
      "row",
      "named",
      "event",
      "function",
      "object",
      "global",
      "memory",
      ...(depth < 4 ? ["if", "for", "while", "do", "switch", "of", "labeled"] : []),
    ];
    switch (this.#pick(kinds)) {
      case "declare":
        return this.#declare();
      case "assign":
        return this.#assign();
      case "if":
        return depth > 5 ? this.#assign() : this.#if(depth);
      case "for":
      case "while":
      case "do":
      case "of":
        return this.#loops > 1 ? this.#assign() : this.#loop(depth);
      case "switch":
        return this.#switch(depth);
      case "labeled":
        return this.#labeled(depth);
      case "map":
        return [this.#mapStatement()];
      case "row":
        return this.#rowStatement(depth);
      case "named":
        return [`named.set(${this.#text()}, ${this.#number(1).text});`];
      case "event":
        return [
          `events.output({ n: ${this.#number(2).text}, big: ${this.#unsigned(2)}, flag: ${this.#boolean(1)}, name: ${this.#text()} });`,
        ];
      case "function":
        return this.#function();
      case "object":
        return this.#object();
      case "global":
        return [
          this.#chance(50)
            ? `total.value = ${this.#unsigned(2)};`
            : `total.add(${this.#unsigned(1)});`,
        ];
      default:
        return this.#memory();
    }
  }

  #declare(): string[] {
    const name = this.#name();
    const isConstant = this.#chance(40);
    const kind = this.#pick(["number", "number", "unsigned", "signed", "boolean", "text"] as const);
    const value = {
      number: () => `(${this.#number(3).text}) | 0`,
      unsigned: () => this.#unsigned(3),
      signed: () => this.#signed(3),
      boolean: () => this.#boolean(2),
      text: () => this.#text(),
    }[kind]();
    this.#locals.push({ name, kind, isConstant: isConstant || kind === "text" });
    return [`${isConstant || kind === "text" ? "const" : "let"} ${name} = ${value};`];
  }

  #assign(): string[] {
    const kind = this.#pick(["number", "unsigned", "signed", "boolean"] as const);
    const local = this.#local(kind, false);
    if (local === undefined) return this.#declare();
    const { name } = local;
    switch (kind) {
      case "number":
        return this.#chance(50)
          ? [`${name} = (${this.#number(3).text}) | 0;`]
          : [`${name} ${this.#pick(["&=", "|=", "^=", "<<=", ">>="])} ${this.#number(2).text};`];
      case "unsigned":
        return this.#chance(50)
          ? [`${name} = ${this.#unsigned(3)};`]
          : [`${name} ${this.#pick(["+=", "*=", "&=", "|=", "^="])} ${this.#unsigned(2)};`];
      case "signed":
        return this.#chance(50)
          ? [`${name} = ${this.#signed(3)};`]
          : [`${name} ${this.#pick(["+=", "-=", "*=", "/=", "%="])} ${this.#signed(2)};`];
      case "boolean":
        return [`${name} = ${this.#boolean(3)};`];
    }
  }

  #if(depth: number): string[] {
    const lines = [`if (${this.#boolean(3)}) {`, ...this.#block(depth + 1)];
    if (this.#chance(15)) lines.push(`  return (${this.#number(1).text}) | 0;`);
    if (this.#chance(50)) lines.push("} else {", ...this.#block(depth + 1));
    return [...lines, "}"];
  }

  #loop(depth: number): string[] {
    this.#loops++;
    const counter = this.#name();
    const count = 1 + this.#random(5);
    const before = this.#locals;
    this.#locals = [...before, { name: counter, kind: "number", isConstant: true }];
    const jump = this.#chance(30)
      ? [`  if (${this.#boolean(1)}) ${this.#pick(["break", "continue"])};`]
      : [];
    let lines: string[];
    switch (this.#random(4)) {
      case 0:
        lines = [
          `for (let ${counter} = 0; ${counter} < ${count}; ${counter}++) {`,
          ...this.#block(depth + 1),
          ...jump,
          ...this.#block(depth + 1),
          "}",
        ];
        break;
      case 1:
        lines = [
          `for (const ${counter} of k.range(${count})) {`,
          ...this.#block(depth + 1),
          ...jump,
          "}",
        ];
        break;
      case 2:
        lines = [`for (const ${counter} of table) {`, ...this.#block(depth + 1), ...jump, "}"];
        break;
      default:
        lines = [
          `let ${counter} = ${count};`,
          this.#chance(50) ? `while (${counter}-- > 0) {` : "do {",
          ...this.#block(depth + 1),
          ...(jump[0]?.includes("break") ? jump : []),
        ];
        lines.push(lines[1] === "do {" ? `} while (--${counter} > 0);` : "}");
    }
    this.#locals = before;
    this.#loops--;
    return lines;
  }

  #switch(depth: number): string[] {
    const lines = [`switch ((${this.#number(2).text}) & 3) {`];
    for (const value of [0, 2, 1]) {
      lines.push(`  case ${value}: {`, ...this.#block(depth + 2), "  }");
      if (this.#chance(70)) lines.push("    break;");
    }
    if (this.#chance(50)) lines.push("  default: {", ...this.#block(depth + 2), "  }");
    return [...lines, "}"];
  }

  #labeled(depth: number): string[] {
    const label = `out${this.#names++}`;
    return [
      `${label}: {`,
      ...this.#block(depth + 1),
      `  if (${this.#boolean(1)}) break ${label};`,
      ...this.#block(depth + 1),
      "}",
    ];
  }

  #mapStatement(): string {
    const key = `(${this.#number(1).text}) & 7`;
    return this.#pick([
      () => `counts.set(${key}, ${this.#unsigned(2)});`,
      () => `counts.increment(${key});`,
      () => `counts.increment(${key}, ${this.#unsigned(1)});`,
      () => `counts.delete(${key});`,
      () => `counts.add(${key}, ${this.#unsigned(2)});`,
      () => `counts.replace(${key}, ${this.#unsigned(2)});`,
      () => `numbers.set(${key}, ${this.#number(2).text});`,
    ])();
  }

  #rowStatement(depth: number): string[] {
    const key = `(${this.#number(1).text}) & 3`;
    const row = `{ small: ${this.#number(2).text}, short: ${this.#number(1).text}, big: ${this.#signed(2)}, name: ${this.#text()} }`;
    const name = this.#name();
    switch (this.#random(5)) {
      case 0:
        return [`rows.set(${key}, ${row});`];
      case 1:
        return [
          `const ${name} = rows.ref(${key});`,
          `if (${name}) {`,
          `  ${name}.small = ${this.#number(2).text};`,
          `  ${name}.big += ${this.#signed(1)};`,
          ...this.#block(depth + 1),
          "}",
        ];
      case 2:
        return [
          `const ${name} = rows.get(${key});`,
          `if (${name} !== undefined && ${name}.small > ${this.#random(200)}) counts.set(${name}.short & 7, BigInt(${name}.small));`,
        ];
      case 3:
        return [
          `const ${name} = rows.take(${key});`,
          `numbers.set(1, ${name}?.short ?? ${this.#number(1).text});`,
        ];
      default:
        return [
          `const ${name} = rows.getOrInit(${key}, ${row});`,
          `if (${name}) k.atomic.add(${name}, "big", ${this.#signed(1)});`,
        ];
    }
  }

  #function(): string[] {
    const name = this.#name();
    const [a, b] = [this.#name(), this.#name()];
    const before = this.#locals;
    this.#locals = [
      ...before.filter(({ isConstant }) => isConstant),
      { name: a, kind: "number", isConstant: true },
      { name: b, kind: "unsigned", isConstant: true },
    ];
    const body = this.#chance(50)
      ? [`const ${name} = (${a}, ${b}) => (${this.#number(2).text}) | 0;`]
      : [
          `const ${name} = (${a}, ${b}) => {`,
          `  if (${this.#boolean(1)}) return (${this.#number(1).text}) | 0;`,
          `  return (${this.#number(2).text}) | 0;`,
          "};",
        ];
    this.#locals = before;
    const result = this.#name();
    const call = `const ${result} = ${name}((${this.#number(1).text}) | 0, ${this.#unsigned(1)});`;
    this.#locals.push({ name: result, kind: "number", isConstant: true });
    return [...body, call];
  }

  #object(): string[] {
    const [object, first, second] = [this.#name(), this.#name(), this.#name()];
    const lines = [
      `const ${object} = { first: (${this.#number(2).text}) | 0, second: ${this.#unsigned(1)}, inner: [1, (${this.#number(1).text}) | 0] };`,
      `${object}.first = (${object}.first + ${object}.inner[1]) | 0;`,
      `const { first: ${first}, inner: [, ${second}] } = ${object};`,
    ];
    this.#locals.push(
      { name: first, kind: "number", isConstant: true },
      { name: second, kind: "number", isConstant: true },
    );
    return lines;
  }

  #memory(): string[] {
    const name = this.#name();
    const result = this.#name();
    const lines = [
      `const ${name} = k.zeroed(Row);`,
      `${name}.small = ${this.#number(1).text};`,
      `${name}.name = ${this.#text()};`,
      `const ${result} = ${name}.small + (${name}.name === ${this.#text()} ? 1 : 0);`,
    ];
    this.#locals.push({ name: result, kind: "number", isConstant: true });
    return lines;
  }

  // ---- expressions

  #wrapped(depth: number): string {
    return `((${this.#number(depth).text}) | 0)`;
  }

  /** Returns an expression of a number that stays a safe integer. */
  #number(depth: number): NumberText {
    if (depth <= 0 || this.#chance(15)) return this.#numberLeaf();
    const left = this.#number(depth - 1);
    const binary = (operator: string, right: NumberText, min: number, max: number): NumberText =>
      min < -greatest || max > greatest
        ? { text: `((${left.text}) & (${right.text}))`, ...i32 }
        : {
            text: `(${left.text} ${operator} ${right.text})`,
            min: Math.min(min, max),
            max: Math.max(min, max),
          };
    switch (this.#random(16)) {
      case 0: {
        const right = this.#number(depth - 1);
        return binary("+", right, left.min + right.min, left.max + right.max);
      }
      case 1: {
        const right = this.#number(depth - 1);
        return binary("-", right, left.min - right.max, left.max - right.min);
      }
      case 2: {
        const right = this.#number(depth - 1);
        const products = [left.min, left.max].flatMap((a) =>
          [right.min, right.max].map((b) => a * b),
        );
        return binary("*", right, Math.min(...products), Math.max(...products));
      }
      case 3:
        return {
          text: `(${left.text} ${this.#pick(["&", "|", "^", "<<", ">>"])} ${this.#number(depth - 1).text})`,
          ...i32,
        };
      case 4:
        return {
          text: `(${left.text} >>> ${this.#number(depth - 1).text})`,
          min: 0,
          max: 2 ** 32 - 1,
        };
      case 5:
        return {
          text: `(${left.text} % ${this.#number(depth - 1).text})`,
          min: -greatest,
          max: greatest,
        };
      case 6: {
        const round = this.#pick(["Math.trunc", "Math.floor", "Math.ceil"]);
        const size = Math.max(Math.abs(left.min), Math.abs(left.max));
        return {
          text: `${round}(${left.text} / ${this.#number(depth - 1).text})`,
          min: -size - 1,
          max: size + 1,
        };
      }
      case 7: {
        const right = this.#number(depth - 1);
        return {
          text: `(${this.#boolean(depth - 1)} ? ${left.text} : ${right.text})`,
          min: Math.min(left.min, right.min),
          max: Math.max(left.max, right.max),
        };
      }
      case 8:
        return { text: `Math.imul(${left.text}, ${this.#number(depth - 1).text})`, ...i32 };
      case 9: {
        const right = this.#number(depth - 1);
        const text = `${this.#pick(["Math.min", "Math.max"])}(${left.text}, ${right.text})`;
        return { text, min: Math.min(left.min, right.min), max: Math.max(left.max, right.max) };
      }
      case 10: {
        const size = Math.max(Math.abs(left.min), Math.abs(left.max));
        return { text: `Math.abs(${left.text})`, min: 0, max: size };
      }
      case 11:
        return { text: `Number(${this.#boolean(depth - 1)})`, min: 0, max: 1 };
      case 12:
        return {
          text: `k.${this.#pick(["i32", "u32"])}(${this.#unsigned(depth - 1)})`,
          ...i32,
          max: 2 ** 32 - 1,
        };
      case 13:
        return { text: `Math.clz32(${left.text})`, min: 0, max: 32 };
      case 14:
        return { text: `(table[(${left.text}) & 7] ?? 9)`, min: 0, max: 100 };
      default:
        return { text: `twice(${this.#wrapped(depth - 1)})`, ...i32 };
    }
  }

  #numberLeaf(): NumberText {
    const local = this.#local("number");
    switch (this.#random(6)) {
      case 0:
      case 1:
        if (local !== undefined) return { text: local.name, ...i32, max: 2 ** 31 };
        break;
      case 2:
        return { text: `(named.get(${this.#text()}) ?? 3)`, min: 0, max: 2 ** 32 - 1 };
      case 3:
        return { text: "options.limit", min: 50, max: 50 };
      case 4: {
        const value = this.#pick([0, 1, 2, 3, 7, 31, 32, 255, 65_536, 2 ** 31 - 1]);
        return { text: `${value}`, min: value, max: value };
      }
      default:
    }
    return { text: `(numbers.get(${this.#random(9)}) ?? 5)`, ...i32 };
  }

  #unsigned(depth: number): string {
    if (depth <= 0 || this.#chance(20)) {
      const local = this.#local("unsigned");
      return this.#pick([
        local?.name ?? "7n",
        `(unsigned.get(${this.#random(5)}) ?? 3n)`,
        `(counts.get(${this.#random(8)}) ?? 0n)`,
        `${this.#random(1000)}n`,
        "18446744073709551615n",
        "total.value",
      ]);
    }
    const left = this.#unsigned(depth - 1);
    switch (this.#random(9)) {
      case 0:
      case 1:
        return `(${left} ${this.#pick(["+", "*", "&", "|", "^", "/", "%"])} ${this.#unsigned(depth - 1)})`;
      case 2:
        return `(${left} ${this.#pick(["<<", ">>"])} (${this.#unsigned(depth - 1)} & 63n))`;
      case 3:
        return `BigInt.asUintN(${1 + this.#random(64)}, ${this.#signed(depth - 1)})`;
      case 4:
        return `(${this.#boolean(depth - 1)} ? ${left} : ${this.#unsigned(depth - 1)})`;
      case 5:
        return `BigInt((${this.#number(depth - 1).text}) >>> 0)`;
      case 6:
        return `BigInt.asUintN(64, -(${left}))`;
      default:
        return left;
    }
  }

  #signed(depth: number): string {
    if (depth <= 0 || this.#chance(20)) {
      const local = this.#local("signed");
      return this.#pick([
        local?.name ?? "-7n",
        `(signed.get(${this.#random(5)}) ?? -3n)`,
        `BigInt.asIntN(64, ${this.#random(1000)}n)`,
        "-9223372036854775808n",
      ]);
    }
    const left = this.#signed(depth - 1);
    switch (this.#random(8)) {
      case 0:
      case 1:
        return `(${left} ${this.#pick(["+", "-", "*", "&", "|", "^", "/", "%"])} ${this.#signed(depth - 1)})`;
      case 2:
        return `(${left} ${this.#pick(["<<", ">>"])} (${this.#signed(depth - 1)} & 63n))`;
      case 3:
        return `BigInt.asIntN(${1 + this.#random(64)}, ${this.#unsigned(depth - 1)})`;
      case 4:
        return `(${this.#unsigned(depth - 1)} - ${this.#unsigned(depth - 1)})`;
      case 5:
        return `BigInt((${this.#number(depth - 1).text}) | 0)`;
      case 6:
        return `(-(${left}))`;
      default:
        return `(~${left})`;
    }
  }

  #boolean(depth: number): string {
    const comparison = this.#pick(["<", "<=", ">", ">=", "===", "!=="]);
    if (depth <= 0) {
      const local = this.#local("boolean");
      return local?.name ?? `(${this.#number(0).text} ${comparison} ${this.#number(0).text})`;
    }
    switch (this.#random(10)) {
      case 0:
        return `(${this.#boolean(depth - 1)} ${this.#pick(["&&", "||"])} ${this.#boolean(depth - 1)})`;
      case 1:
        return `(!${this.#boolean(depth - 1)})`;
      case 2:
        return `(${this.#unsigned(depth - 1)} ${comparison} ${this.#unsigned(depth - 1)})`;
      case 3:
        return `(${this.#signed(depth - 1)} ${comparison} ${this.#signed(depth - 1)})`;
      case 4:
        return `(${this.#signed(depth - 1)} ${comparison} ${this.#unsigned(depth - 1)})`;
      case 5:
        return `counts.has((${this.#number(depth - 1).text}) & 7)`;
      case 6:
        return `(${this.#text()} ${this.#pick(["===", "!=="])} ${this.#text()})`;
      case 7:
        return this.#pick([
          () => `table.includes(${this.#number(depth - 1).text})`,
          () => `table.some((e) => e > ${this.#numberLeaf().text})`,
          () => `table.every((e) => e !== ${this.#numberLeaf().text})`,
        ])();
      default:
        return `(${this.#number(depth - 1).text} ${comparison} ${this.#number(depth - 1).text})`;
    }
  }

  #text(): string {
    const local = this.#local("text");
    if (local !== undefined && this.#chance(40)) return local.name;
    if (this.#chance(15)) return `(${this.#boolean(0)} ? ${this.#text()} : ${this.#text()})`;
    return JSON.stringify(this.#pick(texts));
  }
}
