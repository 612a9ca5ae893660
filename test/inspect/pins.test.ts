import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";
import { asm, HashMap, objectPins, Program, t } from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { parseMounts } from "../../src/inspect/pins.ts";
import { MountedBpffs, mountObstacle } from "./mounted_bpffs.ts";

const mountTest = testUnless(bpfObstacle ?? mountObstacle);

function newMap(): HashMap<t.Type<number>, t.Type<bigint>> {
  return new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
}

describe("objectPins()", () => {
  mountTest("finds the paths of pins, also in directories", () => {
    using bpffs = new MountedBpffs("bpf fs\\");
    using map = newMap();
    using program = new Program({
      section: "raw_tp/sched_process_exec",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    using link = program.attach();
    const inner = join(bpffs.path, "inner/most");
    mkdirSync(inner, { recursive: true });
    const paths = [join(bpffs.path, "map"), join(inner, "map again")];
    for (const path of paths) map.pin(path);
    program.pin(join(inner, "program"));
    link.pin(join(inner, "link"));
    const before = openKernelObjects();
    const { maps, programs, links } = objectPins();
    expect(openKernelObjects()).toEqual(before);
    expect(maps.get(map.id)?.toSorted()).toEqual(paths.toSorted());
    expect(programs.get(program.info().id)).toEqual([join(inner, "program")]);
    expect(links.get(link.info().id)).toEqual([join(inner, "link")]);
    for (const path of paths) unlinkSync(path);
    expect(objectPins().maps.get(map.id)).toBeUndefined();
    for (const name of ["program", "link"]) unlinkSync(join(inner, name));
    rmdirSync(inner);
  });

  mountTest("follows no symbolic links, and enters no other file systems", () => {
    using bpffs = new MountedBpffs();
    using map = newMap();
    map.pin(join(bpffs.path, "map"));
    const folder = join(bpffs.path, "folder");
    mkdirSync(folder);
    symlinkSync(folder, join(bpffs.path, "link"));
    symlinkSync("/", join(bpffs.path, "root"));
    symlinkSync(join(bpffs.path, "map"), join(folder, "again"));
    expect(objectPins().maps.get(map.id)).toEqual([join(bpffs.path, "map")]);

    // Pins under a mount are hidden. Pins in the mounted BPF file system are found once.
    mkdirSync(join(bpffs.path, "covered"));
    map.pin(join(bpffs.path, "covered/map"));
    Bun.spawnSync(["mount", "-t", "bpf", "bpf", join(bpffs.path, "covered")]);
    try {
      map.pin(join(bpffs.path, "covered/upper"));
      expect(objectPins().maps.get(map.id)?.toSorted()).toEqual(
        [join(bpffs.path, "covered/upper"), join(bpffs.path, "map")].toSorted(),
      );
    } finally {
      Bun.spawnSync(["umount", join(bpffs.path, "covered")]);
    }
  });

  mountTest("finds pins once if a file system is mounted over another", () => {
    using lower = new MountedBpffs();
    using map = newMap();
    map.pin(join(lower.path, "lower"));
    Bun.spawnSync(["mount", "-t", "bpf", "bpf", lower.path]);
    try {
      map.pin(join(lower.path, "upper"));
      expect(objectPins().maps.get(map.id)).toEqual([join(lower.path, "upper")]);
    } finally {
      Bun.spawnSync(["umount", lower.path]);
    }
    expect(objectPins().maps.get(map.id)).toEqual([join(lower.path, "lower")]);
  });
});

describe("objectPins() with files of other users", () => {
  mountTest("counts directories that are deeper than paths can be, and finds other pins", () => {
    using bpffs = new MountedBpffs();
    using map = newMap();
    chmodSync(bpffs.path, 0o1777);
    bpffs.makeDeepTree();
    for (const folder of ["a", "z"]) {
      mkdirSync(join(bpffs.path, folder));
      map.pin(join(bpffs.path, folder, "map"));
    }
    const { maps, hidden } = objectPins();
    expect(maps.get(map.id)?.toSorted()).toEqual(
      ["a", "z"].map((name) => join(bpffs.path, name, "map")),
    );
    expect(hidden).toBe(1);
  });

  mountTest("limits the length of all paths of each user", () => {
    using bpffs = new MountedBpffs();
    using map = newMap();
    const [mine, theirs] = ["z mine", "a theirs"].map((name) => join(bpffs.path, name)) as [
      string,
      string,
    ];
    mkdirSync(mine);
    mkdirSync(theirs);
    // Each path has 3,800 characters in a depth of 15 directories; together they exceed the limit.
    const deep = join(theirs, ...Array.from({ length: 15 }, () => "d".repeat(250)));
    mkdirSync(deep, { recursive: true });
    const count = 9_500;
    for (let i = 0; i < count; i++) mkdirSync(join(deep, `folder${i}`));
    chownSync(deep, 65533, 65533);
    const inMine = join(mine, "x/y/z");
    mkdirSync(inMine, { recursive: true });
    map.pin(join(inMine, "map"));
    const { maps, hidden } = objectPins();
    expect(maps.get(map.id)).toEqual([join(inMine, "map")]);
    expect(hidden).toBeGreaterThan(0);
    expect(hidden).toBeLessThan(count);
  });

  mountTest("counts names that are not UTF-8", () => {
    using bpffs = new MountedBpffs();
    using map = newMap();
    const path = join(bpffs.path, "map");
    map.pin(path);
    renameSync(path, Buffer.concat([Buffer.from(`${path}-`), Buffer.from([0xff])]));
    const { maps, hidden } = objectPins();
    expect([maps.get(map.id), hidden]).toEqual([undefined, 1]);
  });

  mountTest("works while directories are removed, created and replaced by links", async () => {
    using bpffs = new MountedBpffs();
    using map = newMap();
    map.pin(join(bpffs.path, "map"));
    const code = `
      const fs = require("node:fs");
      process.chdir(process.argv[1]);
      for (;;) {
        fs.mkdirSync("f/g/h", { recursive: true });
        for (const name of ["f/g/h", "f/g"]) fs.rmdirSync(name);
        fs.symlinkSync("/", "f/g");
        fs.unlinkSync("f/g");
        fs.rmdirSync("f");
        fs.symlinkSync("f", "f");
        fs.unlinkSync("f");
      }`;
    const churn = Bun.spawn([process.execPath, "-e", code, bpffs.path], { stdout: "ignore" });
    try {
      for (let round = 0; round < 200; round++) {
        const { maps, hidden } = objectPins();
        expect([maps.get(map.id), hidden]).toEqual([[join(bpffs.path, "map")], 0]);
        if (round % 20 === 0) await Bun.sleep(1);
      }
    } finally {
      churn.kill("SIGKILL");
      await churn.exited;
    }
  });
});

test("objectPins() finds nothing if no BPF file system is mounted", () => {
  const { hidden } = objectPins();
  expect(hidden).toBe(0);
});

test("parseMounts() finds BPF file systems, and decodes their paths", () => {
  const text = [
    "22 1 254:0 / / rw,relatime - ext4 /dev/root rw",
    "30 22 0:26 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700",
    "31 22 0:300 /sub /tmp/a\\040b\\134c\\011 rw master:1 shared:2 - bpf none rw",
    "32 22 0:65537 / /é rw - bpf bpf rw",
    "33 22 0:27 / /tmp/not\\040-\\040bpf rw - tmpfs bpf rw",
    "34 22 0:28 / /proc rw - proc proc rw",
    "",
  ].join("\n");
  expect(parseMounts(text)).toEqual([
    { path: "/sys/fs/bpf", device: 26 },
    { path: "/tmp/a b\\c\t", device: 0x10_0000 + 44 },
    { path: "/é", device: 256 * 0x10_0000 + 1 },
  ]);
  expect(parseMounts("")).toEqual([]);
});
