#!/usr/bin/busybox sh
# The first process of a guest: runs the tests, writes what they print to the second serial line, and ends the machine.
export PATH=/usr/bin HOME=/root TMPDIR=/tmp CI=true BUN_BPF_GUEST=1 NO_COLOR=1 LC_ALL=C.UTF-8
# The compiler that takes longest, and compiling beside what runs, pay on no emulated processor.
export BUN_JSC_useFTLJIT=0 BUN_JSC_useConcurrentJIT=0
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
# With an option of its own, as systemd sets some: nothing that is tried may change it.
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
hostname guest
ip link set lo up
# As the kernel's own authors have it: Debian's default of 3 keeps perf events for CAP_SYS_ADMIN.
echo 2 >/proc/sys/kernel/perf_event_paranoid
# As on machines with more memory: reserving addresses takes none.
echo 1 >/proc/sys/vm/overcommit_memory
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd
. /run.sh
