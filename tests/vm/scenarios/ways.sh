# Who asked, by each way; arming and disarming.
# checks: enable helper_is_ours status_armed xtables_exact kernel_exact thread_exact several kernel_likely thread_likely twice disable restored status_disarmed disable_again foreign_refused foreign_forced foreign_back empty_refused empty_forced empty_back no_delegate_refused broken_helper_refused unsound_arms modprobe_blocked loads_nothing_passes
. /lib.sh

helper=/proc/sys/kernel/modprobe
check enable guard enable
check helper_is_ours equal "$(cat $helper)" /usr/sbin/modprobe-guard
check status_armed guard status
# Once they are live libxtables runs nobody, and `guard enable` has them loaded as it would.
/sbin/modprobe -r ip6_tables ip_tables
iptables-legacy -t filter -L >/dev/null
check xtables_exact sh -c '. /lib.sh; last_record "\"caller\":\"xtables\"" | grep -q "\"confidence\":\"exact\".*\"exe\":\"/usr/sbin/xtables-legacy-multi\""'
check kernel_exact named exact net-pf-9 --uid 1000 socket 9
check thread_exact named exact net-pf-12 --threads 1 socket 12
ask --threads 8 socket 36 >/dev/null
check several contains "$(guard log --json | grep '"name":"net-pf-36"')" '"confidence":"ambiguous"'
rm /sys/fs/bpf/modprobe-guard/*
check kernel_likely named likely net-pf-9 --uid 1000 socket 9
check thread_likely named likely net-pf-12 --threads 1 socket 12
check twice contains "$(guard enable)" 'armed already'
check disable guard disable
check restored equal "$(cat $helper)" /sbin/modprobe
check status_disarmed not guard status
check disable_again guard disable
echo /opt/somebody/else >$helper
check foreign_refused sh -c '! guard enable && [ "$(cat /proc/sys/kernel/modprobe)" = /opt/somebody/else ]'
check foreign_forced guard enable --force
guard disable >/dev/null
check foreign_back equal "$(cat $helper)" /opt/somebody/else
echo >$helper
check empty_refused not guard enable
check empty_forced guard enable --force
guard disable >/dev/null
check empty_back equal "$(cat $helper)" ''
echo /sbin/modprobe >$helper
printf 'version = 1\n[defaults]\ndelegate = "/nowhere"\n' | policy
check no_delegate_refused sh -c '! guard enable && [ "$(cat /proc/sys/kernel/modprobe)" = /sbin/modprobe ]'
printf 'version = 1\n' | policy
mv /usr/sbin/modprobe-guard /usr/sbin/kept
printf '#!/bin/sh\nexit 3\n' >/usr/sbin/modprobe-guard
chmod 755 /usr/sbin/modprobe-guard
check broken_helper_refused sh -c '! guard enable && [ "$(cat /proc/sys/kernel/modprobe)" = /sbin/modprobe ]'
mv /usr/sbin/kept /usr/sbin/modprobe-guard
echo nonsense >/etc/modprobe-guard/policy.toml
check unsound_arms sh -c '! guard enable && [ "$(cat /proc/sys/kernel/modprobe)" = /usr/sbin/modprobe-guard ]'
profile no-conntrack
check modprobe_blocked not /sbin/modprobe nf_conntrack
check loads_nothing_passes contains "$(modprobe-guard -D nf_conntrack)" insmod
finish
