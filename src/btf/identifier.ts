/** Longest name that every kernel with BTF takes (`KSYM_NAME_LEN` was 128 before 6.1). */
const longest = 127;

const keywords = new Set(
  (
    "auto break case char const continue default do double else enum extern float for goto if inline int long " +
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
  ).split(" "),
);

/**
 * C identifiers in place of names, in their order and all different. A name that is one already stays, whatever the
 * others become.
 */
export function identifiers(names: readonly string[]): string[] {
  const taken = new Set(names.filter(isIdentifier));
  return names.map((name) => {
    if (isIdentifier(name)) return name;
    const stem = stemOf(name);
    let candidate = stem;
    for (let count = 2; taken.has(candidate); count++) {
      const suffix = `_${count}`;
      candidate = stem.slice(0, longest - suffix.length) + suffix;
    }
    taken.add(candidate);
    return candidate;
  });
}

function isIdentifier(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name.length <= longest && !keywords.has(name);
}

function stemOf(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/gu, "_");
  if (keywords.has(letters)) return `${letters}_`;
  return (/^[A-Za-z_]/.test(letters) ? letters : `_${letters}`).slice(0, longest);
}
