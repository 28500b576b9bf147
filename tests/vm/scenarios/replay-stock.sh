# The outage of 13 August 2012, with the stock modprobe: to list NAT rules is to load connection tracking; one rule
# later its small table fills, and the router drops packets.
# checks: nothing_before listing_loads_conntrack small_table rule_added table_full
# memory: 384
. /lib.sh

check nothing_before not is_loaded nf_conntrack
iptables-legacy -t nat -L
check listing_loads_conntrack is_loaded nf_conntrack
check small_table [ "$(max)" -le 16384 ]
router
check rule_added iptables-legacy -t nat -A POSTROUTING -o veth2 -j MASQUERADE
flood_router 18000
check table_full table_full
echo "SAID the table holds $(max) connections; $(dmesg | grep -m 1 -o 'nf_conntrack: table full.*')"
finish
