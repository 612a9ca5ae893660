/** `unpin()` removes pins of the object itself, and nothing else. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asm, BpfFileSystem, HashMap, Link, Program, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";

const types = { key: t.u32, value: t.u64 } as const;

function map(name = "counts"): HashMap<typeof t.u32, typeof t.u64> {
  return new HashMap({ ...types, maxEntries: 4, name });
}

function program(name = "seven"): Program {
  const code = [asm.mov(asm.r0, 7), asm.exit()];
  return new Program({ section: "raw_tp/sched_process_exec", name, license: "GPL", code });
}

function link(): Link {
  using attached = program();
  return attached.attach();
}

/** Functions that create, open and describe an object of each kind. */
const kinds = {
  map: {
    create: map,
    openAt: (path: string) => HashMap.open(path, types),
    fromId: (id: number) => HashMap.fromId(id, types),
    words: (id: number) => `map "counts" with id ${id}`,
  },
  program: {
    create: program,
    openAt: (path: string) => Program.open(path),
    fromId: (id: number) => Program.fromId(id),
    words: (id: number) => `program "seven" with id ${id}`,
  },
  link: {
    create: link,
    openAt: (path: string) => Link.open(path),
    fromId: (id: number) => Link.fromId(id),
    words: (id: number) => `link with id ${id}`,
  },
} as const;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "bun-bpf-unpin-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(Object.entries(kinds))(
  "unpin() of a %s",
  (noun, { create, openAt, fromId, words }) => {
    bpfTest("throws for a file, directory or symbolic link, and does not remove it", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      const pin = join(bpffs.path, "pin");
      object.pin(pin);
      const [file, folderInside, alias] = ["file", "folder", "alias"].map((name) =>
        join(folder, noun + name),
      );
      writeFileSync(file!, "kept");
      mkdirSync(folderInside!);
      symlinkSync(pin, alias!);
      symlinkSync(pin, join(bpffs.path, "alias"));
      mkdirSync(join(bpffs.path, "folder"));
      const before = countResources();
      const refusals = {
        [file!]: /: .*file is a file that is not a pin, .*\. It was not removed$/,
        [folderInside!]: /: .*folder is a directory\. It was not removed$/,
        [`${bpffs.path}/folder`]: /: .* is a directory\. It was not removed$/,
        [alias!]: /: .*alias is a symbolic link: pass its target\. It was not removed$/,
        [join(bpffs.path, "alias")]: /is a symbolic link/,
      };
      for (const [path, message] of Object.entries(refusals)) {
        expect(() => object.unpin(path)).toThrow(message);
        expect(() => object.unpin(path)).toThrow(`cannot unpin the ${object}: ${path} is`);
        expect(lstatSync(path)).toBeDefined();
      }
      expect(readFileSync(file!, "utf8")).toBe("kept");
      expect(countResources()).toEqual(before);
      expect(object.unpin()).toBe(true);
    });

    bpfTest("throws for a pin of another object of any kind, and does not remove it", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      for (const [otherNoun, other] of Object.entries(kinds)) {
        using another = other.create();
        const path = join(bpffs.path, `other_${otherNoun}`);
        another.pin(path);
        const before = countResources();
        expect(() => object.unpin(path)).toThrow(
          new Error(
            `cannot unpin the ${object}: ${path} is a pin of ${other.words(another.id)}. It was not removed`,
          ),
        );
        expect(countResources()).toEqual(before);
        expect(existsSync(path)).toBe(true);
      }
      // The object's own pin is replaced by a pin of another object.
      const path = join(bpffs.path, "taken");
      object.pin(path);
      unlinkSync(path);
      using replacement = create();
      replacement.pin(path);
      expect(() => object.unpin()).toThrow(
        `is a pin of ${words(replacement.id)}. It was not removed`,
      );
      expect(existsSync(path)).toBe(true);
      expect(replacement.unpin()).toBe(true);
      expect(existsSync(path)).toBe(false);
    });

    bpfTest("returns false for a pin that does not exist any more, also when repeated", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      const path = join(bpffs.path, "pin");
      object.pin(path);
      unlinkSync(path);
      expect(object.unpin()).toBe(false);
      expect(object.unpin()).toBe(false);
      expect(object.unpin(path)).toBe(false);
      expect(object.unpin(join(bpffs.path, "never"))).toBe(false);
      object.pin(path);
      expect([object.unpin(path), object.unpin(path), object.unpin()]).toEqual([
        true,
        false,
        false,
      ]);
    });

    bpfTest("removes every pin that the object has created, or only the given one", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      const paths = ["a", "b", "c", "d"].map((name) => join(bpffs.path, name));
      const areThere = () => paths.map((path) => existsSync(path));
      for (const path of paths) object.pin(path);
      expect(object.unpin(paths[1])).toBe(true);
      expect(areThere()).toEqual([true, false, true, true]);
      // A pin that was already removed does not stop the others from being removed.
      unlinkSync(paths[0]!);
      expect(object.unpin()).toBe(true);
      expect(areThere()).toEqual([false, false, false, false]);
    });

    bpfTest(
      "keeps pins that other objects have created for the same map, program or link, unless their path is given",
      () => {
        using bpffs = new BpfFileSystem();
        using object = create();
        const [a, b] = [join(bpffs.path, "a"), join(bpffs.path, "b")];
        object.pin(a);
        using opened = openAt(a);
        using byId = fromId(object.id);
        byId.pin(b);
        expect(opened.unpin()).toBe(true);
        expect([existsSync(a), existsSync(b)]).toEqual([false, true]);
        expect(object.unpin()).toBe(false);
        expect(object.unpin(b)).toBe(true);
        expect(byId.unpin()).toBe(false);
        using unpinned = fromId(object.id);
        expect(() => unpinned.unpin()).toThrow(
          /was not pinned by this object: pass the path to unpin\(\)$/,
        );
      },
    );

    bpfTest("does not find a pin that was moved, unless its new path is given", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      const [from, to] = [join(bpffs.path, "from"), join(bpffs.path, "to")];
      object.pin(from);
      renameSync(from, to);
      expect(object.unpin()).toBe(false);
      expect(existsSync(to)).toBe(true);
      expect(object.unpin(to)).toBe(true);
    });

    bpfTest("follows symbolic links to directories", () => {
      using bpffs = new BpfFileSystem();
      using object = create();
      const alias = join(folder, `${noun}-bpffs`);
      symlinkSync(bpffs.path, alias);
      object.pin(join(alias, "pin"));
      expect(existsSync(join(bpffs.path, "pin"))).toBe(true);
      expect(object.unpin()).toBe(true);
      expect(existsSync(join(bpffs.path, "pin"))).toBe(false);
    });

    bpfTest("is not called by disposal", () => {
      using bpffs = new BpfFileSystem();
      const object = create();
      const paths = ["a", "b"].map((name) => join(bpffs.path, name));
      for (const path of paths) object.pin(path);
      object[Symbol.dispose]();
      expect(paths.map((path) => existsSync(path))).toEqual([true, true]);
    });
  },
);
