# With SELinux enforcing: everything works, and nothing that the guard or modprobe does is refused.
# checks: enforcing labels blocked allowed sized who user_who by_modprobe journal flushed nothing_refused removed
. ./lib.sh
check enforcing equal "$(cat /sys/fs/selinux/enforce)" 1
dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb >/run/said 2>&1
type_of() {
	stat -c %C "$@" | cut -d: -f3 | sort -u | tr '\n' ' '
}
check labels equal "$(type_of /usr/sbin/modprobe-guard /run/modprobe-guard /run/modprobe-guard/* /run/modprobe.d /run/modprobe.d/* /var/log/modprobe-guard)" 'kmod_exec_t modprobe_guard_log_t modprobe_guard_runtime_t modules_conf_t '
policy <<'END'
version = 1
[[rule]]
id = "size"
modules = ["nf_conntrack"]
action = "allow-sysctl"
[[rule]]
id = "no"
modules = ["algif_hash"]
action = "block"
END
# Also what the policy refuses silently counts.
semodule -DB 2>/dev/null
dmesg -c >/dev/null
echo 0 >/proc/sys/kernel/printk_ratelimit
check blocked not modprobe algif_hash
check allowed perl -e 'exit !socket(S, 38, 5, 0)'
iptables-legacy -t nat -L >/dev/null
check sized equal "$(max)" 131072
check who contains "$(last_record '"name":"iptable_nat"')" '"exe":"/usr/sbin/xtables-legacy-multi","cmdline":["iptables-legacy","-t","nat","-L"],"uid":0'
setpriv --reuid=65534 --regid=65534 --clear-groups perl -e 'socket(S, 11, 5, 0)'
check user_who sh -c '. ./lib.sh; contains "$(last_record "\"name\":\"net-pf-11\"")" "\"confidence\":\"exact\",\"found_by\":\"recorder\"" && contains "$(last_record "\"name\":\"net-pf-11\"")" "\"exe\":\"/usr/bin/perl\""'
check by_modprobe contains "$(last_record '"name":"algif_hash"')" '"caller":"hook"'
journalctl --sync
check journal contains "$(journalctl -q -t modprobe-guard -o json MODPROBE_GUARD_REQUEST=algif_hash)" '"MODPROBE_GUARD_ACTION":"block"'
check flushed sh -c 'systemctl start modprobe-guard-flush.service && [ -s /var/log/modprobe-guard/audit.jsonl ] && [ ! -s /run/modprobe-guard/audit.jsonl ]'
# Descriptors and limits that are inherited from others are none of our doing.
refused() {
	dmesg | grep 'avc: *denied' | grep -E 'comm="(modprobe|guard)|:modprobe_guard_' |
		grep -vE '\{ (noatsecure|rlimitinh|siginh) \}|path="/run/(xtables.lock|stage)"|path="/dev/ttyS0"'
}
check nothing_refused equal "$(refused)" ''
check removed sh -c 'dpkg -r modprobe-guard >/run/said 2>&1 && [ "$(cat /proc/sys/kernel/modprobe)" = /sbin/modprobe ] && ! semodule -l | grep modprobe-guard'
finish
