import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { errnoNumbers } from "../uapi/errno.ts";
import type { LinkInfo } from "./info.ts";
import { Link } from "./link.ts";

/** A link to a perf event, which lives as long as the link. */
export class PerfEventLink extends Link {
  readonly #event: Descriptor;

  constructor(fd: number, what: string, event: Descriptor) {
    super(fd, what);
    this.#event = event;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#event[Symbol.dispose]();
  }
}

/** A perf event with a program, before kernel 5.15: the kernel has no link for it, so that all one can do is to close it. */
export class BarePerfEvent extends Link {
  override info(): LinkInfo {
    return this.#refuse("ask the kernel about");
  }

  override update(): this {
    return this.#refuse("replace the program of");
  }

  override detach(): this {
    return this.#refuse("detach");
  }

  override pin(): this {
    return this.#refuse("pin");
  }

  #refuse(doing: string): never {
    // A disposed one says so first, as everywhere.
    void this.fd;
    throw new BpfError({
      errno: errnoNumbers.EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `${doing} the ${this}`,
      hint: "Links of tracepoints need kernel 5.15: before that this is a perf event, which stays attached until it is disposed of",
    });
  }
}
