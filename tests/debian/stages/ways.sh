# After a reboot: armed before anything could ask, and no way leads past.
# checks: armed early in_time not_at_boot said_at_boot by_iptables by_nft by_modprobe by_list by_dependency by_dashes by_alias by_own_alias by_udev by_modules_load by_netns by_userns by_service never journal metrics shutdown
. ./lib.sh
blocks() {
	guard log --json | grep -c '"action":"block","enforced":true,"rule":"no"'
}
# way COUNT COMMAND...: it fails or has no effect, and there is a record more for each of so many requests.
way() {
	requests=$1
	shift
	before=$(blocks)
	"$@" >/run/said 2>&1
	not is_loaded nf_conntrack || return 1
	equal "$(($(blocks) - before))" "$requests" || { guard log --json | tail -n 3; return 1; }
}
# monotonic UNIT WHEN: in microseconds since boot.
monotonic() {
	systemctl show -P "$2TimestampMonotonic" "$1"
}

check armed equal "$(cat /proc/sys/kernel/modprobe)" /usr/sbin/modprobe-guard
check early sh -c "systemctl is-active --quiet modprobe-guard-early.service modprobe-guard.service"
in_time() {
	for unit in systemd-modules-load systemd-udevd; do
		[ "$(monotonic modprobe-guard-early.service ActiveEnter)" -le "$(monotonic $unit.service InactiveExit)" ] || { echo $unit; return 1; }
	done
	for unit in systemd-networkd.service network-pre.target sysinit.target basic.target; do
		[ "$(monotonic modprobe-guard.service ActiveEnter)" -le "$(monotonic $unit ActiveEnter)" ] || { echo "$unit $(monotonic $unit ActiveEnter), armed $(monotonic modprobe-guard.service ActiveEnter)"; return 1; }
	done
}
check in_time in_time
check not_at_boot not is_loaded nf_conntrack
check said_at_boot sh -c 'guard log --json | grep -F "\"comm\":\"systemd-modules\"" | grep -q "\"action\":\"block\""'
# This one asks the kernel twice, before and after it has asked for ip_tables.
check by_iptables way 2 iptables-legacy -t nat -L
check by_nft way 1 nft 'add table ip t; add chain ip t c; add rule ip t c ct state new'
check by_modprobe way 1 modprobe nf_conntrack
check by_list way 1 modprobe -a ip_tables nf_conntrack
check by_dependency way 1 modprobe nf_nat
check by_dashes way 1 modprobe nf-conntrack
check by_alias way 1 modprobe nf_conntrack-2
check by_own_alias way 1 modprobe mine
# A device that has that alias appears.
udev() {
	device=$(find /sys/bus/virtio/devices/ -mindepth 1 -print -quit)
	udevadm trigger --settle --action=add "$device"
}
check by_udev way 1 udev
check by_modules_load way 1 systemctl restart systemd-modules-load.service
check by_netns way 2 sh -c 'ip netns add n; ip netns exec n iptables-legacy -t nat -L'
check by_userns way 1 setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Urn nft 'add table ip t; add chain ip t c; add rule ip t c ct state new'
# An unprivileged service that may set up networks.
mkdir -p /run/systemd/system
cat >/run/systemd/system/way.service <<'END'
[Service]
Type=oneshot
DynamicUser=yes
AmbientCapabilities=CAP_NET_ADMIN
ExecStart=/usr/sbin/nft 'add table ip u; add chain ip u c; add rule ip u c ct state new'
END
systemctl daemon-reload
service() {
	way 1 systemctl start way.service && contains "$(last_record '"enforced":true')" '"unit":"way.service"'
}
check by_service service
check never not is_loaded nf_conntrack
# journald has a record's fields, and the record, which is ours to read.
journal() {
	journalctl --sync
	contains "$(journalctl -q -t modprobe-guard -o json MODPROBE_GUARD_UNIT=way.service | tail -n 1)" '"MODPROBE_GUARD_ACTION":"block"' || return 1
	contains "$(journalctl -q -t modprobe-guard -o json MODPROBE_GUARD_UNIT=way.service | tail -n 1)" '"PRIORITY":"4"' || return 1
	journalctl -q -t modprobe-guard -o cat --output-fields=MODPROBE_GUARD_RECORD MODPROBE_GUARD_UNIT=way.service >/run/journal
	contains "$(guard log --json /run/journal | tail -n 1)" '"unit":"way.service"'
}
check journal journal
# The unit may do what it has to, and the kernel's count is not behind ours.
metrics() {
	mkdir -p /var/lib/prometheus/node-exporter
	systemctl start modprobe-guard-metrics.timer modprobe-guard-metrics.service || { journalctl -q -u modprobe-guard-metrics.service; return 1; }
	told=$(cat /var/lib/prometheus/node-exporter/modprobe-guard.prom)
	contains "$told" 'modprobe_guard_armed 1' && contains "$told" 'modprobe_guard_recorder_works 1' && contains "$told" 'modprobe_guard_unreadable_parts 0' || return 1
	contains "$told" 'modprobe_guard_blocks_total{enforced="true",unit="way.service"}' || return 1
	equal "$(systemctl is-active modprobe-guard-metrics.timer)" active
}
check metrics metrics
# What was asked for until the end is in the log after the reboot.
check shutdown sh -c 'guard log --json | wc -l >/root/records && sync'
finish
