# Sizing where something goes wrong on the way: the load's result is the delegate's, the record tells, nothing hangs.
# memory: 768
# kernels: 6.1 newest
# checks: killed_status killed_sized read_only_loads read_only_told no_memory_loads no_memory_told no_memory_less left_alone
. /lib.sh

guard enable >/dev/null
size='[[rule]]
id = "size"
modules = ["nf_conntrack"]
action = "allow-sysctl"'
# The delegate dies when it has loaded half of what it was to load.
printf '#!/bin/sh\n/sbin/modprobe --ignore-install nf_conntrack\nkill -9 $$\n' >/sbin/dying
chmod 755 /sbin/dying
printf 'version = 1\n[defaults]\ndelegate = "/sbin/dying"\n%s\n' "$size" | policy
modprobe-guard iptable_nat
check killed_status contains "$(last_record)" '"outcome":{"status":137'
check killed_sized [ "$(max)" -ge 100000 ]
modprobe -r nf_conntrack

printf 'version = 1\n%s\n' "$size" | policy
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
check read_only_loads modprobe-guard nf_conntrack
check read_only_told contains "$(last_record)" '"error":"/proc/sys/net/netfilter/nf_conntrack_max: write'
umount /proc/sys
modprobe -r nf_conntrack

# A GiB of buckets, which this machine does not have.
mkdir -p /etc/sysctl.d
echo 'net.netfilter.nf_conntrack_buckets = 134217728' >/etc/sysctl.d/large.conf
check no_memory_loads modprobe-guard nf_conntrack
last_record >/run/record
check no_memory_told grep -q '"key":"module.nf_conntrack.hashsize".*"error":"/sys/module/nf_conntrack/parameters/hashsize: 134217728 buckets would take over a quarter' /run/record
less() {
	now=$(cat /sys/module/nf_conntrack/parameters/hashsize)
	[ "$now" -ge 8192 ] && [ "$now" -lt 134217728 ]
}
check no_memory_less less
rm /etc/sysctl.d/large.conf
# A table that is there is nobody's to touch.
echo 4321 >/proc/sys/net/netfilter/nf_conntrack_max
modprobe-guard iptable_nat
check left_alone equal "$(max)" 4321
finish
