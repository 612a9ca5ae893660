#!/usr/bin/busybox sh
# The init process of a guest: prepares the system, and runs the script with the tests.
export PATH=/usr/bin HOME=/root TMPDIR=/tmp CI=true BUN_BPF_GUEST=1 NO_COLOR=1 LC_ALL=C.UTF-8
# On an emulated processor the optimizing compiler (FTL) and compilation in other threads cost more time than they save.
export BUN_JSC_useFTLJIT=0 BUN_JSC_useConcurrentJIT=0
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
# With an option, as systemd sets some: a test checks that probes do not reset it.
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
hostname guest
ip link set lo up
for module in /modules/*; do busybox insmod "$module"; done
# The kernel's default. Debian's default of 3 allows perf events only with CAP_SYS_ADMIN.
echo 2 >/proc/sys/kernel/perf_event_paranoid
# Allows reserving addresses without memory, as on machines with more memory.
echo 1 >/proc/sys/vm/overcommit_memory
echo "root:x:0:0:root:/root:/bin/sh" >/etc/passwd
. /run.sh
