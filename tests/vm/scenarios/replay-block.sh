# The same with the profile no-conntrack: no connection tracking comes in, by whichever way.
# checks: armed iptables_fails no_conntrack no_nat record_rule record_module record_requester syslog_line masquerade_fails nft_fails nft_without_ct packets_flow
# memory: 384
. /lib.sh

profile no-conntrack
check armed guard enable
check iptables_fails not iptables-legacy -t nat -L
check no_conntrack not is_loaded nf_conntrack
check no_nat not is_loaded nf_nat
record=$(last_record '"name":"iptable_nat"')
check record_rule contains "$record" '"rule":"no-conntrack"'
check record_module contains "$record" '"module":"nf_conntrack"'
check record_requester contains "$record" '"comm":"iptables-legacy"'
check syslog_line sh -c 'dmesg | grep -q "verdict=block rule=no-conntrack module=nf_conntrack request=iptable_nat"'
router
check masquerade_fails not iptables-legacy -t nat -A POSTROUTING -o veth2 -j MASQUERADE
nft add table inet t
nft add chain inet t c
check nft_fails sh -c '! nft add rule inet t c ct state established accept 2>/dev/null && ! grep -q "^nf_conntrack " /proc/modules'
check nft_without_ct nft add rule inet t c tcp dport 80 accept
flood_router 18000
check packets_flow contains "$(cat /run/connect)" 'established 18000 of 18000'
echo "SAID $(iptables-legacy -t nat -L 2>&1 | head -n 1)"
echo "SAID $(guard log | grep -m 1 BLOCK)"
finish
