// Time to decode and encode values, compared with hand-written code over a DataView: bun bench/types.ts
import { bench, run, summary } from "mitata";
import * as t from "../src/types/t.ts";

// There are many records, so that the engine cannot reuse the result of the first one.
const RECORDS = 64;
const STRIDE = 256;

/** Benchmarks reads and writes of a type. `make` returns the value of a record by its index. */
function readAndWrite<T>(name: string, type: t.Type<T>, make: (index: number) => T): void {
  const view = new DataView(new ArrayBuffer(RECORDS * STRIDE));
  const values = Array.from({ length: RECORDS }, (_, index) => make(index));
  values.forEach((value, index) => type.write(view, index * STRIDE, value));
  // Each type has separate functions, as in a program with one type of event. The engine shares profiling data between
  // functions with the same source text, so the text has the name of the type.
  const loops = new Function(
    "type, view, values",
    `let index = 0; // ${name}
     return {
       read: () => type.read(view, (index = (index + 1) & ${RECORDS - 1}) * ${STRIDE}),
       write() {
         index = (index + 1) & ${RECORDS - 1};
         type.write(view, index * ${STRIDE}, values[index]);
       },
     };`,
  )(type, view, values) as { read: () => T; write: () => void };
  // The loops are compiled before mitata decides on the number of calls per sample.
  for (let i = 0; i < 20_000; i++) {
    loops.read();
    loops.write();
  }
  bench(`read ${name}`, loops.read);
  bench(`write ${name}`, loops.write);
}

/** Benchmarks hand-written code for the same layout, as the reference. */
function byHand<T>(
  name: string,
  read: (view: DataView, offset: number) => T,
  write: (view: DataView, offset: number, value: T) => void,
  make: (index: number) => T,
): void {
  const type = { kind: "hand", name: "hand", size: 8, align: 8, read, write };
  readAndWrite(`${name} by hand`, type, make);
}

summary(() => {
  byHand<number>(
    "u32",
    (view, offset) => view.getUint32(offset, true),
    (view, offset, value) => view.setUint32(offset, value, true),
    (index) => index * 1000,
  );
  readAndWrite("u32", t.u32, (index) => index * 1000);
});

summary(() => {
  byHand<bigint>(
    "u64",
    (view, offset) => view.getBigUint64(offset, true),
    (view, offset, value) => view.setBigUint64(offset, value, true),
    (index) => BigInt(index) << 40n,
  );
  readAndWrite("u64", t.u64, (index) => BigInt(index) << 40n);
  readAndWrite("u64Number", t.u64Number, (index) => index * 2 ** 40);
});

summary(() => {
  byHand<{ pid: number; cpu: number; ts: number }>(
    "struct { u32, u32, u64Number }",
    (view, offset) => ({
      pid: view.getUint32(offset, true),
      cpu: view.getUint32(offset + 4, true),
      ts: view.getUint32(offset + 12, true) * 2 ** 32 + view.getUint32(offset + 8, true),
    }),
    (view, offset, { pid, cpu, ts }) => {
      view.setUint32(offset, pid, true);
      view.setUint32(offset + 4, cpu, true);
      view.setUint32(offset + 8, ts >>> 0, true);
      view.setUint32(offset + 12, Math.floor(ts / 2 ** 32), true);
    },
    (index) => ({ pid: index, cpu: index & 3, ts: index * 2 ** 40 }),
  );
  readAndWrite(
    "struct { u32, u32, u64Number }",
    t.struct({ pid: t.u32, cpu: t.u32, ts: t.u64Number }),
    (index) => ({ pid: index, cpu: index & 3, ts: index * 2 ** 40 }),
  );
});

const names = ["bash", "bun", "kworker/0:1", "systemd-journal", "sshd"];
const paths = ["/usr/bin/bash", "/etc/ld.so.cache", "/usr/lib/x86_64-linux-gnu/libc.so.6"];
const decoder = new TextDecoder();
const encoder = new TextEncoder();

summary(() => {
  byHand<string>(
    "cstring(16)",
    (view, offset) => {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, 16);
      const end = bytes.indexOf(0);
      return decoder.decode(bytes.subarray(0, end < 0 ? 16 : end));
    },
    (view, offset, value) => {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, 16);
      bytes.fill(0, encoder.encodeInto(value, bytes.subarray(0, 15)).written);
    },
    (index) => names[index % names.length]!,
  );
  readAndWrite("cstring(16)", t.cstring(16), (index) => names[index % names.length]!);
  readAndWrite("cstring(16), distinct names", t.cstring(16), (index) => `name-${index * 7919}`);
  readAndWrite("cstring(16), not ASCII", t.cstring(16), (index) => `nom-é-${index & 7}`);
  readAndWrite("cstring(64)", t.cstring(64), (index) => paths[index % paths.length]!);
});

summary(() => {
  readAndWrite("ipv4", t.ipv4, (index) => `10.${index}.0.${255 - index}`);
  readAndWrite("ipv6", t.ipv6, (index) => `2001:db8::${index.toString(16)}:1`);
  readAndWrite("cidr4", t.cidr4, (index) => `10.${index}.0.0/16`);
  readAndWrite("mac", t.mac, (index) => `02:42:ac:11:00:${(index + 16).toString(16)}`);
});

summary(() => {
  readAndWrite("bytes(6)", t.bytes(6), (index) => new Uint8Array(6).fill(index));
  readAndWrite("bytes(64)", t.bytes(64), (index) => new Uint8Array(64).fill(index));
  readAndWrite("array(u32, 8)", t.array(t.u32, 8), (index) => new Array<number>(8).fill(index));
  readAndWrite("array(u32, 64)", t.array(t.u32, 64), (index) => new Array<number>(64).fill(index));
});

await run();
