/** A refusal that is for the user to read: its message is all that is shown. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  /** Whether the command line is to blame, and not what is in the kernel. */
  readonly isMisuse: boolean;

  constructor(message: string, { isMisuse = false } = {}) {
    super(message);
    this.isMisuse = isMisuse;
  }
}
