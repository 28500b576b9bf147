# Arming what is armed, over a helper of somebody else's, after an upgrade, and where /usr can't be written to.
# checks: foreign_refused foreign_named foreign_forced foreign_kept foreign_kept_by_force foreign_back late_refused late_forced late_back older_said older_files_decide older_on_record older_unsound_said older_unsound_armed older_mended older_in_force older_records nothing_written read_only read_only_enable read_only_request read_only_sized read_only_log read_only_apply read_only_status read_only_disable
# kernels: 6.1 5.10
. /lib.sh

: >/run/start
sleep 1
helper=/proc/sys/kernel/modprobe
rule() { printf 'version = 1\n[[rule]]\nid = "no"\nmodules = ["%s"]\naction = "block"\n' "$1"; }

# Whose helper was in place gets it back, however often we are armed meanwhile.
echo /opt/somebody/else >$helper
guard enable >/run/said 2>&1
check foreign_refused equal "$(cat $helper)" /opt/somebody/else
check foreign_named contains "$(cat /run/said)" 'is "/opt/somebody/else", which is not ours; take its place with guard enable --force'
check foreign_forced contains "$(guard enable --force)" 'was "/opt/somebody/else"'
check foreign_kept contains "$(guard enable)" 'armed already'
check foreign_kept_by_force contains "$(guard enable --force)" 'armed already'
guard apply >/dev/null
guard disable >/dev/null
check foreign_back equal "$(cat $helper)" /opt/somebody/else
# Who takes our place later is the one to get it back.
guard enable --force >/dev/null
echo /opt/later >$helper
check late_refused sh -c '! guard enable && [ "$(cat /proc/sys/kernel/modprobe)" = /opt/later ]'
check late_forced contains "$(guard enable --force)" 'was "/opt/later"'
guard disable >/dev/null
check late_back equal "$(cat $helper)" /opt/later
echo /sbin/modprobe >$helper

# A policy in force that an older version wrote.
rule nf_nat | policy
guard enable >/dev/null
older() { printf '\002' | dd of=/etc/modprobe-guard/policy.bin bs=1 seek=8 conv=notrunc 2>/dev/null; }
older
check older_said sh -c '! guard status >/run/said && grep -q "policy.bin: is of another version: 2 instead of [0-9]*; the files decide until .guard apply" /run/said'
check older_files_decide sh -c '. /lib.sh; ! iptables-legacy -t nat -L 2>/dev/null && not is_loaded nf_nat'
check older_on_record contains "$(last_record '"name":"iptable_nat"')" 'is of another version'
echo '[' >/etc/modprobe-guard/policy.toml
guard enable >/run/said 2>&1
check older_unsound_said contains "$(cat /run/said)" 'the built-in default decides'
check older_unsound_armed equal "$(cat $helper)" /usr/sbin/modprobe-guard
rule nf_nat >/etc/modprobe-guard/policy.toml
before=$(guard log --json | wc -l)
check older_mended contains "$(guard enable)" 'policy in force: 1 rule from /etc/modprobe-guard/policy.toml'
check older_in_force guard status
check older_records equal "$(guard log --json | wc -l)" "$before"
guard disable >/dev/null

# Nothing is written below /usr but by an installation.
check nothing_written equal "$(find /usr -newer /run/start)" ''
mount --bind /usr /usr
mount -o remount,bind,ro /usr
check read_only not touch /usr/lib/modprobe-guard/x
rule nf_nat >/etc/modprobe-guard/policy.toml
check read_only_enable guard enable
check read_only_request sh -c '. /lib.sh; ! iptables-legacy -t nat -L 2>/dev/null && not is_loaded nf_nat'
printf 'version = 1\n[[rule]]\nid = "size"\nmodules = ["nf_conntrack"]\naction = "allow-sysctl"\n' >/etc/modprobe-guard/policy.toml
check read_only_apply guard apply
iptables-legacy -t nat -L >/dev/null
check read_only_sized equal "$(max)" 131072
check read_only_log sh -c 'guard log --flush && grep -q "\"rule\":\"no\"" /var/log/modprobe-guard/audit.jsonl'
check read_only_status guard status
check read_only_disable guard disable
finish
