# After one more reboot nothing reminds of us, but what an administrator wrote, and the records; purged, those neither.
# checks: former nothing_loaded works units kept purged
. ./lib.sh
check former equal "$(cat /proc/sys/kernel/modprobe)" "$(cat /root/former)"
check nothing_loaded not is_loaded nf_conntrack
check works sh -c '. ./lib.sh; iptables-legacy -t nat -L >/dev/null && is_loaded nf_conntrack'
check units equal "$(systemctl list-units --all --plain --no-legend '*guard*' | grep -v ' not-found ')" ''
check kept sh -c '[ -s /etc/modprobe-guard/policy.toml ] && [ -s /var/log/modprobe-guard/audit.jsonl ]'
purged() {
	rm /etc/modprobe-guard/policy.toml
	dpkg -P modprobe-guard >/run/said 2>&1 || return 1
	equal "$(find / -xdev -name '*modprobe-guard*' ! -path '/proc/*' ! -path '/run/stage/*' | tr '\n' ' ')" ''
}
check purged purged
finish
