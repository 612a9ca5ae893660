/** Tests of `bun-bpf map events`. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { HashMap, PerfBuffer, RingBuf, t } from "../../src/index.ts";
import { PerfProducer } from "../ring/perf_producer.ts";
import { Producer } from "../ring/producer.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { mapTest } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const ringTest = mapTest("ringbuf");

/** A ring buffer without a consumer, and a program that writes to it. */
class Ring implements Disposable {
  readonly #resources = new DisposableStack();
  readonly ring = this.#resources.use(
    new RingBuf({ size: 65_536, event: t.u32, name: "cli_ring" }),
  );
  readonly #producer = this.#resources.use(new Producer(this.ring));

  put(...records: readonly (readonly number[])[]): void {
    for (const record of records) this.#producer.put(Uint8Array.from(record));
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}

const warning = (map: string) =>
  `other consumers of ${map} do not get the records that are printed here\n`;

describe("map events of a ring buffer", () => {
  ringTest("prints records as bytes up to the limit, and leaves the others", async () => {
    using ring = new Ring();
    ring.put([1, 2, 3, 4], [5], [255, 0], [9, 9, 9, 9]);
    const { id } = ring.ring;
    expect(await cli(["map", "events", id, "--limit", 2])).toMatchObject({
      stdout: "01 02 03 04\n05\n",
      stderr: warning('ringbuf map "cli_ring"'),
      exitCode: 0,
    });
    expect(await cli(["map", "events", "cli_ring", "--limit", 1, "--json"])).toMatchObject({
      stdout: '"ff00"\n',
      exitCode: 0,
    });
    const rest: number[] = [];
    ring.ring.drain((event) => void rest.push(event));
    expect(rest).toEqual([0x09090909]);
  });

  ringTest("prints records by a type of the kernel", async () => {
    using ring = new Ring();
    const record = [...Array.from({ length: 8 }, () => 255), 16, 0, 0, 0, 0, 0, 0, 0];
    ring.put(record, record, [1, 2], record);
    const { id } = ring.ring;
    const args = ["map", "events", id, "--type", "struct list_head", "--limit"];
    expect((await cli([...args, 1])).stdout).toBe('{ next: "0xffffffffffffffff", prev: "0x10" }\n');
    const { stdout, stderr } = await cli([...args, 3, "--json"]);
    const text = '{"next":"0xffffffffffffffff","prev":"0x10"}\n';
    expect(stdout).toBe(`${text}"0102"\n${text}`);
    expect(stderr).toEndWith(
      "records shorter than the 16 bytes of struct list_head are shown as bytes\n",
    );
    const wrong = await cli(["map", "events", id, "--type", "list_haed"]);
    expect(wrong.stderr).toBe(
      'bun-bpf: there is no type "list_haed" in the programs that use the map, nor in the kernel; did you mean "list_head"?\n',
    );
    expect(wrong.exitCode).toBe(1);
  });

  ringTest("prints records as they arrive, until a signal ends it", async () => {
    using ring = new Ring();
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const child = Bun.spawn([process.execPath, mainFile, "map", "events", `${ring.ring.id}`], {
        stdout: "pipe",
        stderr: "pipe",
      });
      const reader = child.stdout.getReader();
      const decoder = new TextDecoder();
      for (const number of [1, 2, 3]) {
        ring.put([number, 0, 0, 0]);
        const { value } = await reader.read();
        expect(decoder.decode(value)).toBe(`0${number} 00 00 00\n`);
      }
      child.kill(signal);
      await child.exited;
      expect(child.exitCode).toBe(0);
      expect(await child.stderr.text()).toBe(warning('ringbuf map "cli_ring"'));
    }
  });

  ringTest(
    "consumes records no faster than the output is read, and still ends on signals",
    async () => {
      using ring = new Ring();
      // More text than the capacity of a pipe.
      const record = Array.from({ length: 48 }, (_, index) => index);
      for (const signals of [
        ["SIGINT", "SIGINT"],
        ["SIGTERM", "SIGINT"],
      ] as const) {
        for (let i = 0; i < 500; i++) ring.put(record);
        const child = Bun.spawn([process.execPath, mainFile, "map", "events", `${ring.ring.id}`], {
          stdout: "pipe",
          stderr: "ignore",
        });
        // The command is printing, and the reader stops here.
        const reader = child.stdout.getReader();
        await reader.read();
        for (const signal of signals) {
          child.kill(signal);
          await Promise.race([child.exited, Bun.sleep(500)]);
        }
        await child.exited;
        expect([0, 130]).toContain(child.exitCode as number);
      }
    },
  );

  ringTest("prints all records to a slow reader", async () => {
    using ring = new Ring();
    for (let i = 0; i < 800; i++) ring.put(Array.from({ length: 60 }, () => i & 0xff));
    const { id } = ring.ring;
    const line = `"${process.execPath}" "${mainFile}" map events ${id} --limit 800 | { sleep 0.5; cat; }`;
    const child = Bun.spawn(["sh", "-c", line], { stdout: "pipe", stderr: "ignore" });
    const lines = (await child.stdout.text()).trimEnd().split("\n");
    expect(lines).toHaveLength(800);
    for (const [i, text] of lines.entries()) {
      expect(text).toBe(
        Array(60)
          .fill((i & 0xff).toString(16).padStart(2, "0"))
          .join(" "),
      );
    }
  });

  ringTest("stops consuming when the reader has closed the pipe", async () => {
    using ring = new Ring();
    ring.put(...Array.from({ length: 100 }, () => [1]));
    const line = `"${process.execPath}" "${mainFile}" map events ${ring.ring.id} | head -n 1`;
    const child = Bun.spawn(["sh", "-c", line], { stdout: "pipe", stderr: "pipe" });
    // The command notices the closed pipe at the next write.
    while (child.exitCode === null) {
      ring.put([2]);
      await Bun.sleep(20);
    }
    expect(await child.stdout.text()).toBe("01\n");
    expect(await child.stderr.text()).toBe(warning('ringbuf map "cli_ring"'));
  });

  testUnless(bpfObstacle ?? mountObstacle)("prints the records of a pinned ring", async () => {
    using bpffs = new MountedBpffs();
    using ring = new Ring();
    const path = `${bpffs.path}/ring`;
    ring.ring.pin(path);
    ring.put([7]);
    expect((await cli(["map", "events", path, "--limit", 1])).stdout).toBe("07\n");
    ring.ring.unpin();
  });
});

mapTest("perf_event_array")(
  "map events prints the records of a perf buffer, and takes them from its consumer",
  async () => {
    using buffer = new PerfBuffer({ event: t.u32, name: "cli_perf" });
    using producer = new PerfProducer(buffer);
    const child = Bun.spawn(
      [process.execPath, mainFile, "map", "events", `${buffer.id}`, "--limit", "1", "--json"],
      { stdout: "pipe", stderr: "pipe" },
    );
    // The command does not get records from before it opened the buffer.
    while (child.exitCode === null) {
      producer.putNumber(0x01020304);
      await Bun.sleep(10);
    }
    expect(await child.stdout.text()).toMatch(/^"04030201[0-9a-f]*"\n$/);
    expect(await child.stderr.text()).toBe(
      'other consumers of perf_event_array map "cli_perf" do not get the records that are printed here, and get no more records until they open the buffer again\n',
    );
    expect(child.exitCode).toBe(0);
  },
);

ringTest("map events rejects other maps", async () => {
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "cli_hash" });
  expect(await cli(["map", "events", map.id])).toMatchObject({
    stdout: "",
    stderr:
      'bun-bpf: the hash map "cli_hash" is neither a ring buffer nor a perf buffer: use `bun-bpf map dump`\n',
    exitCode: 2,
  });
});
