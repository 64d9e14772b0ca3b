#!/bin/sh
# First process of a test VM: prepares what a host would have, runs the end-to-end tests, says how they ended.
export PATH=/usr/bin:/bin HOME=/root RUST_BACKTRACE=1
export SENSOR_TEST_VM=1
export SENSOR_BIN=/usr/bin/sensor COLLECTOR_BIN=/usr/bin/collector
# An emulated machine is about ten times slower than a real one.
export SENSOR_TEST_PATIENCE=8
# What agents say of their hooks goes to the log, which `cargo xtask` reads.
export SENSOR_TEST_RUNGS=/dev/console

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp -o mode=1777
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security

# Ticks come as often as on a real machine, so that tasks would be put aside in the midst of a kernel program ten times as often, and since
# Linux 7.0 that keeps others from running it. Their time slice (3 ms) is made longer by that much, and more.
mount -t debugfs debugfs /sys/kernel/debug
if test -w /sys/kernel/debug/sched/base_slice_ns; then echo 100000000 >/sys/kernel/debug/sched/base_slice_ns; fi

dmesg -n 1
hostname vm
ip link set lo up
# Wires between network namespaces.
insmod "/lib/test-modules/$(uname -r)/veth.ko"
# Without a clock of its own the machine would live in 1970.
if test "$(date +%s)" -lt "$(cat /etc/build-time)"; then date -s "@$(cat /etc/build-time)" >/dev/null; fi

eval "set -- $(cat /etc/e2e-arguments)"
/usr/bin/e2e --test-threads=1 --color=never "$@" </dev/null
echo "vm: e2e ended with $?"
poweroff -f
