/** @module Preloaded: sends SIGINT to this process in the middle of the first probe with a cgroup. */

const { randomUUID } = crypto;
const { setUint32 } = DataView.prototype;

/** True after the name of the cgroup, which contains a UUID, was made. */
let isArmed = false;

crypto.randomUUID = () => {
  isArmed = true;
  return randomUUID.call(crypto);
};
// Called when the attributes of the next bpf(2) call are written.
DataView.prototype.setUint32 = function (...args) {
  setUint32.apply(this, args);
  if (!isArmed) return;
  isArmed = false;
  process.kill(process.pid, "SIGINT");
};
