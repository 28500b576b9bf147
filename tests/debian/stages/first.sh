# Remembers what the kernel's helper was before us.
# checks: remembered
. ./lib.sh
check remembered cp /proc/sys/kernel/modprobe /root/former
sync
finish
