import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import type { ElementOptions } from "./element_map.ts";
import type { FdLike } from "./fd_like.ts";
import { checkReadable } from "./socket_cookie.ts";
import { SparseArrayMap } from "./sparse_array_map.ts";
import type { Walk } from "./walk.ts";

/** Arrays of sockets: what is stored is a socket, what is read is its cookie, the kernel's number for it. */
export abstract class SocketArrayMap extends SparseArrayMap<bigint, FdLike> {
  /** Stores a socket only where none is; whether it did. @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did. @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /** @internal */
  protected override find(index: number, options?: ElementOptions): bigint | undefined {
    checkReadable(this);
    return super.find(index, options);
  }

  /** @internal */
  protected override findMany(indexes: Iterable<number>): (bigint | undefined)[] {
    checkReadable(this);
    return super.findMany(indexes);
  }

  /** @internal */
  protected override contains(index: number): boolean {
    checkReadable(this);
    return super.contains(index);
  }

  /** @internal */
  protected override walk(): Walk {
    checkReadable(this);
    return super.walk();
  }
}
