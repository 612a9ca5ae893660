/** @module What tests need other programs for, and why those cannot be had. */

/** Why a command cannot be run here, or `undefined` where it is installed. */
export function commandObstacle(command: string): string | undefined {
  return Bun.which(command) === null ? `there is no command ${command}` : undefined;
}

/** Why a command with these arguments does not succeed here, or `undefined` where it does. */
export function failureOf(command: string, ...args: readonly string[]): string | undefined {
  const obstacle = commandObstacle(command);
  if (obstacle !== undefined) return obstacle;
  const { success, stderr } = Bun.spawnSync([command, ...args]);
  // A reason is part of a test's name, which is one line.
  const [line] = stderr.toString().trim().split("\n");
  return success ? undefined : line || `${[command, ...args].join(" ")} fails`;
}
