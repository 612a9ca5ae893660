/** @module Ways to attach to sockets, and to maps of sockets. They are tried on a socket that leads nowhere, and on an empty map. */

import type { Descriptor } from "../ffi/descriptor.ts";
import { probeMap } from "../ffi/bpf_probe.ts";
import { openSocket, setSocketOption } from "../ffi/socket.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { type AttachKinds, descriptorOf, tryAttachment, tryLink } from "./attach_kind.ts";
import { loadTrial, type TrialProgram } from "./smallest_program.ts";

const plain = { needs: ["CAP_BPF"], config: ["CONFIG_NET", "CONFIG_INET"] } as const;
const networking = { needs: ["CAP_BPF", "CAP_NET_ADMIN"] } as const;
const sockets = { ...networking, config: ["CONFIG_BPF_STREAM_PARSER"] } as const;

export const socketKinds = {
  socket: { since: "3.19", ...plain, attach: tryFilter },
  sk_reuseport: { since: "4.19", ...plain, ...networking, attach: tryReuseport },
  "sk_skb/stream_parser": {
    since: "4.14",
    ...sockets,
    attach: () => tryMap({ type: "SK_SKB" }, "SK_SKB_STREAM_PARSER"),
  },
  "sk_skb/stream_verdict": {
    since: "4.14",
    ...sockets,
    attach: () => tryMap({ type: "SK_SKB" }, "SK_SKB_STREAM_VERDICT"),
  },
  "sk_skb/verdict": {
    since: "5.13",
    ...networking,
    config: ["CONFIG_INET"],
    attach: () => tryMap({ type: "SK_SKB" }, "SK_SKB_VERDICT"),
  },
  sk_msg: { since: "4.17", ...sockets, attach: () => tryMap({ type: "SK_MSG" }, "SK_MSG_VERDICT") },
  sockmap_link: {
    since: "6.10",
    ...networking,
    config: ["CONFIG_INET"],
    attach: tryMapLink,
  },
} as const satisfies AttachKinds;

function tryFilter(): void {
  using program = loadTrial({ type: "SOCKET_FILTER" });
  using socket = openSocket("datagram", 0, "socket of a trial");
  setSocketOption(socket.fd, "SO_ATTACH_BPF", program.fd, "socket of a trial");
}

function tryReuseport(): void {
  using program = loadTrial({ type: "SK_REUSEPORT" });
  using socket = openSocket("datagram", 0, "socket of a trial");
  setSocketOption(socket.fd, "SO_REUSEPORT", 1, "socket of a trial");
  setSocketOption(socket.fd, "SO_ATTACH_REUSEPORT_EBPF", program.fd, "socket of a trial");
}

function tryMap(program: TrialProgram, attachType: keyof typeof bpfAttachTypes): void {
  using loaded = loadTrial(program);
  using map = makeSocketMap();
  tryAttachment({ programFd: loaded.fd, attachType, targetFd: map.fd });
}

function tryMapLink(): void {
  const attachType = "SK_MSG_VERDICT";
  using program = loadTrial({ type: "SK_MSG" });
  using map = makeSocketMap();
  const target = { kind: "descriptor", fd: map.fd } as const;
  using _link = tryLink({ fd: program.fd, attachType, target });
}

function makeSocketMap(): Descriptor {
  return descriptorOf(probeMap({ type: "SOCKMAP", keySize: 4, valueSize: 4, maxEntries: 1 }));
}
