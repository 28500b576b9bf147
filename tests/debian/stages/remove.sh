# Removed, the host is as it was; the records of the boot before are there until then.
# checks: records removed former works files
. ./lib.sh
check records sh -c '[ "$(guard log --json | wc -l)" -ge "$(cat /root/records)" ] && [ "$(cat /root/records)" -gt 10 ]'
check removed sh -c 'dpkg -r modprobe-guard >/run/said 2>&1 || { cat /run/said; exit 1; }'
check former equal "$(cat /proc/sys/kernel/modprobe)" "$(cat /root/former)"
check works sh -c '. ./lib.sh; modprobe nf_conntrack && is_loaded nf_conntrack'
check files equal "$(find /usr /run -name '*modprobe-guard*' ! -path '/run/stage/*' | tr '\n' ' ')" ''
rm /etc/modules-load.d/own.conf /etc/modprobe.d/own.conf
sync
finish
