# A package comes to a host that runs, is upgraded while requests are made, and survives upgrades that fail.
# checks: before armed units lint once_more upgrade upgraded loads_go_on failed_upgrade failed_configure older prepare
. ./lib.sh
helper=/usr/sbin/modprobe-guard
is_armed() {
	equal "$(cat /proc/sys/kernel/modprobe)" $helper
}
sum() {
	sha256sum <"$1"
}

cp /proc/sys/kernel/modprobe /root/former
check before sh -c 'iptables-legacy -t nat -L >/dev/null && grep -q "^nf_conntrack " /proc/modules'
modprobe -r iptable_nat nf_nat nf_conntrack
dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb >/run/said 2>&1
check armed is_armed
check units equal "$(systemctl is-active modprobe-guard.service modprobe-guard-flush.timer modprobe-guard-last-flush.service | tr '\n' ' ')" 'active active active '
check lint sh -c '! systemd-analyze verify modprobe-guard.service modprobe-guard-early.service modprobe-guard-flush.service modprobe-guard-flush.timer modprobe-guard-last-flush.service modprobe-guard-metrics.service modprobe-guard-metrics.timer 2>&1 | grep -i guard'
check once_more sh -c 'dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb >/run/said 2>&1 && [ "$(guard status --json | grep -c "\"armed\":true")" = 1 ]'

# One that is blocked and one that is allowed, asked for all the time; and one who watches the path.
policy <<'END'
version = 1
[[rule]]
id = "no"
modules = ["nf_conntrack"]
action = "block"
END
touch /run/go
(
	while [ -e /run/go ]; do
		[ "$(cat /proc/sys/kernel/modprobe)" = $helper ] || echo disarmed
		[ -x $helper ] || echo missing
		grep -q modprobe-guard /run/modprobe.d/modprobe-guard.conf || echo unhooked
		echo watched
	done
) >/run/watched 2>&1 &
(
	while [ -e /run/go ]; do
		! iptables-legacy -t nat -L >/dev/null 2>&1 || echo 'not blocked'
		! modprobe nf_conntrack 2>/dev/null || echo 'not blocked for modprobe'
		rmmod af_alg 2>/dev/null
		perl -e 'exit !socket(S, 38, 5, 0)' || echo 'not allowed'
		echo asked
	done
) >/run/asked 2>&1 &
upgraded() {
	dpkg -i ./newer.deb && equal "$(sum $helper)" "$(sum ./newer)" || return 1
	dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb && not equal "$(sum $helper)" "$(sum ./newer)"
}
dpkg-deb --fsys-tarfile ./newer.deb | tar -xO ./usr/sbin/modprobe-guard >./newer
check upgrade upgraded
rm /run/go
wait
check upgraded equal "$(sort -u /run/watched)" watched
check loads_go_on equal "$(sort -u /run/asked)" asked

# What fails half-way leaves the version that was there.
before=$(sum $helper)
check failed_upgrade sh -c "! dpkg -i ./bad-preinst.deb >/run/said 2>&1 && [ '$before' = \"\$(sha256sum <$helper)\" ] && [ \"\$(cat /proc/sys/kernel/modprobe)\" = $helper ] && ! modprobe nf_conntrack 2>/dev/null"
check failed_configure sh -c "! dpkg -i ./bad-postinst.deb >/run/said 2>&1 && [ \"\$(cat /proc/sys/kernel/modprobe)\" = $helper ] && ! modprobe nf_conntrack 2>/dev/null && dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb >/run/said 2>&1"
# A policy in force that an older version wrote is written anew.
older() {
	printf '\001' | dd of=/etc/modprobe-guard/policy.bin bs=1 seek=8 conv=notrunc 2>/dev/null
	not modprobe nf_conntrack 2>/dev/null || return 1
	dpkg -i ./newer.deb >/run/said 2>&1 || return 1
	contains "$(guard apply)" 'in force already' && not modprobe nf_conntrack 2>/dev/null && is_armed
}
check older older
# For the boot to come: by modules-load.d, and by what udev finds.
prepare() {
	echo nf_conntrack >/etc/modules-load.d/own.conf
	for device in /sys/bus/virtio/devices/*; do
		echo "alias $(cat "$device/modalias") nf_conntrack"
	done | sort -u >/etc/modprobe.d/own.conf
	echo 'alias mine nf_conntrack' >>/etc/modprobe.d/own.conf
	guard apply && [ "$(wc -l </etc/modprobe.d/own.conf)" -gt 1 ] && sync
}
check prepare prepare
finish
