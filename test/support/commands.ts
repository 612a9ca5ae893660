/** @module Checks for commands that tests run. */

/** Returns the reason for which a command cannot be run here, or `undefined` if it is installed. */
export function commandObstacle(command: string): string | undefined {
  return Bun.which(command) === null ? `there is no command ${command}` : undefined;
}

/** Runs a command and returns the reason of its failure, or `undefined` if it succeeds. */
export function failureOf(command: string, ...args: readonly string[]): string | undefined {
  const obstacle = commandObstacle(command);
  if (obstacle !== undefined) return obstacle;
  const { success, stderr } = Bun.spawnSync([command, ...args]);
  // The reason becomes part of a test's name, which must be one line.
  const [line] = stderr.toString().trim().split("\n");
  return success ? undefined : line || `${[command, ...args].join(" ")} fails`;
}
