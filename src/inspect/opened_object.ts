import { objectId } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { type HandleKind, KernelObject, nouns, openObject } from "../handle/kernel_object.ts";
import { openPin } from "./objects.ts";

/** A map, program or link of any type, opened to pin it or to remove its pins. */
export class OpenedObject extends KernelObject {
  private constructor(kind: HandleKind, descriptor: Descriptor, pinnedAt: string | undefined) {
    super(descriptor, () => objectId(kind, descriptor), pinnedAt);
  }

  /** Opens an object by its id (CAP_SYS_ADMIN) or by the path of a pin. @throws {Error} where there is none of the kind */
  static open(
    kind: HandleKind,
    origin: { readonly id: number } | { readonly path: string },
  ): OpenedObject {
    if ("path" in origin) {
      return new OpenedObject(kind, openPin(kind, origin.path, "write"), origin.path);
    }
    return new OpenedObject(kind, openObject(kind, origin, nouns[kind]), undefined);
  }

  /** @internal */
  protected override shown(): readonly [className: string, properties: object] {
    return ["OpenedObject", {}];
  }
}
