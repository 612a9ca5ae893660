/** @module Preloaded: the process is asked to end in the middle of the first trial that has a cgroup. */

const { randomUUID } = crypto;
const { setUint32 } = DataView.prototype;

/** Whether the cgroup, whose name has an UUID, was made by the next system call of bpf. */
let isArmed = false;

crypto.randomUUID = () => {
  isArmed = true;
  return randomUUID.call(crypto);
};
// As attributes of system calls are written.
DataView.prototype.setUint32 = function (...args) {
  setUint32.apply(this, args);
  if (!isArmed) return;
  isArmed = false;
  process.kill(process.pid, "SIGINT");
};
