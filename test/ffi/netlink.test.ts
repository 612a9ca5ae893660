import { describe, expect } from "bun:test";
import type { Pointer } from "bun:ffi";
import { otherLibc } from "../../src/ffi/libc_others.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import { RouteSocket } from "../../src/ffi/netlink.ts";
import { describeInterface, interfaceHeader, listInterfaces } from "../../src/link/route.ts";
import { NLM_F_REQUEST, RTM_GETLINK } from "../../src/uapi/network.ts";
import { loopback, TestNetwork, vethObstacle } from "../support/network.ts";
import { testUnless } from "../support/skipping.ts";

/** `IFLA_TARGET_NETNSID`: the id of the namespace whose interfaces are listed. */
const targetNetnsId = 46;

/** Sends a request for an interface, whose reply nobody reads. */
function requestWithoutReading({ descriptor }: RouteSocket, index: number): void {
  const header = interfaceHeader(index);
  using message = allocateScratch(16 + header.length);
  message.view.setUint32(0, message.length, true);
  message.view.setUint16(4, RTM_GETLINK, true);
  message.view.setUint16(6, NLM_F_REQUEST, true);
  message.bytes.set(header, 16);
  const { address, length } = message;
  expect(Number(otherLibc.send(descriptor.fd, address as Pointer, length, 0))).toBe(length);
}

describe("RouteSocket", () => {
  testUnless(vethObstacle)("skips the rest of an earlier reply", () => {
    using network = new TestNetwork();
    const index = network.addVeth(10, "blue", "red");
    network.enter(() => {
      using route = new RouteSocket();
      requestWithoutReading(route, loopback);
      expect(describeInterface(route, index).name).toBe("blue");
      requestWithoutReading(route, loopback);
      requestWithoutReading(route, 999);
      expect(listInterfaces(route).map(({ name }) => name)).toEqual(
        expect.arrayContaining(["lo", "blue", "red"]),
      );
      expect(describeInterface(route, index + 1).name).toBe("red");
    });
  });

  testUnless(vethObstacle ?? (isKernelSince("5.2") ? undefined : "needs Linux 5.2"))(
    "reports the kernel's message about a list that fails",
    () => {
      using network = new TestNetwork();
      const list = () =>
        network.route((route) =>
          route.dump({
            type: RTM_GETLINK,
            header: interfaceHeader(0),
            attributes: [{ type: targetNetnsId, value: 12345 }],
            doing: "list the interfaces of a test",
          }),
        );
      expect(list).toThrow(
        /^cannot list the interfaces of a test: netlink: EINVAL .*The kernel's message: Invalid target network namespace id/,
      );
    },
  );
});
