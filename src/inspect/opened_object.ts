import { objectId } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import {
  type HandleKind,
  KernelObject,
  nouns,
  openObject,
  type Origin,
} from "../handle/kernel_object.ts";

/** A map, program or link of any type, of which nothing is known but its kind: to pin it, and to remove its pins. */
export class OpenedObject extends KernelObject {
  private constructor(kind: HandleKind, descriptor: Descriptor, pinnedAt: string | undefined) {
    super(descriptor, () => objectId(kind, descriptor), pinnedAt);
  }

  /** Opens an object by its id (CAP_SYS_ADMIN) or by the path of a pin. @throws as `openObject` */
  static open(kind: HandleKind, origin: Origin): OpenedObject {
    const pinnedAt = "path" in origin ? origin.path : undefined;
    return new OpenedObject(kind, openObject(kind, origin, nouns[kind]), pinnedAt);
  }

  /** @internal */
  protected override shown(): readonly [className: string, properties: object] {
    return ["OpenedObject", {}];
  }
}
