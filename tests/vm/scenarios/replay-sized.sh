# The same with the shipped policy: the table is the right size before anybody uses it, and nothing is dropped.
# checks: armed listing_works sized_at_once buckets_too record_sysctl rule_added all_established nothing_dropped
# memory: 1024
. /lib.sh

check armed guard enable
check listing_works iptables-legacy -t nat -L
check sized_at_once equal "$(max)" 131072
check buckets_too [ "$(cat /sys/module/nf_conntrack/parameters/hashsize)" -ge 32768 ]
check record_sysctl contains "$(last_record '"name":"iptable_nat"')" '"key":"net.netfilter.nf_conntrack_max","value":131072,"source":"auto"'
router
check rule_added iptables-legacy -t nat -A POSTROUTING -o veth2 -j MASQUERADE
flood_router 18000
check all_established contains "$(cat /run/connect)" 'established 18000 of 18000'
check nothing_dropped not table_full
echo "SAID the table holds $(max) connections; in use: $(cat /proc/sys/net/netfilter/nf_conntrack_count)"
echo "SAID $(guard log | grep -m 1 iptable_nat)"
finish
