# The request is answered whatever is missing, broken or hung.
# checks: no_dev no_dev_blocks read_only link copy wrapper wrapper_told missing damaged_policy damaged_told mute_logger mute_in_time no_index no_index_told path_name dot_name full_run no_sys no_proc
. /lib.sh

# loads MODULE FAMILY: a socket of that family brings the module in.
loads() {
	ask socket "$2" >/dev/null 2>&1
	grep -q "^$1 " /proc/modules || return 1
	rmmod "$1"
}
delegate() {
	printf 'version = 1\n[defaults]\ndelegate = "%s"\n' "$1" | policy
	loads af_alg 38
}
# in_time COMMAND...: it holds, within seconds, and no helper had to be cut short for it.
in_time() {
	before=$(dmesg | grep -c 'own work took over')
	start=$(cut -d. -f1 /proc/uptime)
	"$@" || return 1
	[ $(($(cut -d. -f1 /proc/uptime) - start)) -le 3 ] || return 1
	equal "$(dmesg | grep -c 'own work took over')" "$before"
}

guard enable >/dev/null
umount /dev
rm -rf /dev/*
check no_dev loads af_alg 38
profile no-conntrack
check no_dev_blocks sh -c '! iptables-legacy -t nat -L && ! grep -q ^nf_conntrack /proc/modules'
mount -t devtmpfs dev /dev
printf 'version = 1\n' | policy

mount -o remount,ro / 2>/dev/null || mount -o remount,bind,ro /
read_only() {
	! touch /writable 2>/dev/null && loads af_alg 38
}
check read_only read_only
mount -o remount,rw / 2>/dev/null || mount -o remount,bind,rw /

ln -s /usr/sbin/modprobe-guard /run/link
check link delegate /run/link
cp /usr/sbin/modprobe-guard /run/copy
check copy delegate /run/copy
printf '#!/bin/sh\n/usr/sbin/modprobe-guard "$@"\n' >/run/wrapper
chmod 755 /run/wrapper
check wrapper delegate /run/wrapper
check wrapper_told contains "$(last_record '"name":"net-pf-38"')" '/run/wrapper: leads back to modprobe-guard'
check missing delegate /nowhere

printf 'version = 1\n' | policy
echo nonsense >/etc/modprobe-guard/policy.bin
check damaged_policy loads af_alg 38
check damaged_told contains "$(last_record '"name":"net-pf-38"')" 'policy.bin'
guard apply >/dev/null

mute /dev/log >/run/mute &
mute=$!
waited_for full /run/mute
check mute_logger loads af_alg 38
check mute_in_time in_time loads af_alg 38
kill $mute
rm -f /dev/log

release=$(uname -r)
mv "/lib/modules/$release/modules.alias.bin" /run/alias.bin
ask socket 38 >/dev/null
check no_index not is_loaded af_alg
check no_index_told contains "$(last_record '"name":"net-pf-38"')" 'modules.alias.bin'
mv /run/alias.bin "/lib/modules/$release/modules.alias.bin"

ask netdev /tmp/evil.ko >/dev/null
check path_name contains "$(last_record '"name":"/tmp/evil.ko"')" '"action":"block"'
ask netdev ./evil >/dev/null
check dot_name contains "$(last_record '"name":"./evil"')" '"status":1'

mount -t tmpfs -o size=8k full /run/modprobe-guard
dd if=/dev/zero of=/run/modprobe-guard/fill bs=1k 2>/dev/null
check full_run loads af_alg 38
umount /run/modprobe-guard
umount /sys
ask socket 38 >/dev/null
check no_sys is_loaded af_alg
mount -t sysfs sys /sys
rmmod af_alg
umount /proc
ask socket 38 >/dev/null
mount -t proc proc /proc
check no_proc is_loaded af_alg
finish
