# The table's size, whoever asks first: at once, from another network namespace, with numbers of the administrator's own.
# checks: enable_raises says_size buckets_stay resize_live at_once from_namespace nft_chain by_alias by_many own_number policy_sysctl sysctl_d hashsize_option not_needed never_lower
. /lib.sh

conntrack_gone() {
	iptables-legacy -t nat -F 2>/dev/null
	nft flush ruleset 2>/dev/null
	modprobe -r iptable_nat nft_chain_nat nft_masq nf_nat nf_conntrack 2>/dev/null
	# A table that stays is none of the right size for the next check.
	! is_loaded nf_conntrack || echo 1 >/proc/sys/net/netfilter/nf_conntrack_max
}

modprobe nf_conntrack
buckets=$(cat /sys/module/nf_conntrack/parameters/hashsize)
guard enable >/dev/null
check enable_raises equal "$(max)" 131072
check says_size contains "$(guard status)" 'size     131072 (auto: greatest of the kernel'
check buckets_stay equal "$(cat /sys/module/nf_conntrack/parameters/hashsize)" "$buckets"

printf 'version = 1\n[[rule]]\nid = "size"\nmodules = ["nf_conntrack"]\naction = "allow-sysctl"\n[conntrack]\nresize_live = true\n' | policy
guard enable >/dev/null
check resize_live [ "$(cat /sys/module/nf_conntrack/parameters/hashsize)" -gt "$buckets" ]
policy </usr/lib/modprobe-guard/policy.toml

conntrack_gone
for one in 1 2 3 4 5 6; do
	sh -c 'iptables-legacy -t nat -L >/dev/null; cat /proc/sys/net/netfilter/nf_conntrack_max' >/run/max.$one &
	all="$all $!"
done
# shellcheck disable=SC2086 # a list
wait $all
check at_once equal "$(sort -u /run/max.*)" 131072

conntrack_gone
ip netns add other
ip netns exec other iptables-legacy -t nat -L >/dev/null
check from_namespace equal "$(max)" 131072

ip netns delete other
# Namespaces are taken down behind our back.
tries=0
until conntrack_gone; ! is_loaded nf_conntrack || [ $tries -ge 100 ]; do
	sleep 0.1
	tries=$((tries + 1))
done
nft add table ip t
nft add chain ip t c '{ type nat hook postrouting priority 100; }'
check nft_chain equal "$(max)" 131072

conntrack_gone
modprobe-guard nf_conntrack-2
check by_alias equal "$(max)" 131072

# Whatever needs it brings a table of the right size, as far as this kernel has it at all.
by_many() {
	found=0
	for name in iptable_nat ip_vs openvswitch act_ct nft-expr-ct xt_MASQUERADE; do
		modprobe -D "$name" 2>/dev/null | grep -q nf_conntrack || continue
		modprobe -r openvswitch nsh act_ct nf_flow_table ip_vs xt_MASQUERADE iptable_nat nft_ct nft_chain_nat nf_nat nf_conncount nf_conntrack 2>/dev/null
		! is_loaded nf_conntrack || { echo "$name: still there: $(lsmod)"; return 1; }
		modprobe-guard "$name" || return 1
		equal "$name $(max)" "$name 131072" || return 1
		found=$((found + 1))
	done
	[ $found -ge 3 ]
}
check by_many by_many
modprobe -r openvswitch nsh act_ct nf_flow_table ip_vs xt_MASQUERADE iptable_nat nft_ct nft_chain_nat nf_nat nf_conncount nf_conntrack 2>/dev/null

conntrack_gone
printf 'version = 1\n[[rule]]\nid = "size"\nmodules = ["nf_conntrack"]\naction = "allow-sysctl"\n[conntrack]\nmax = 5000\n[sysctl]\n"net.netfilter.nf_conntrack_tcp_timeout_established" = 86400\n' | policy
modprobe-guard nf_conntrack
check own_number equal "$(max)" 5000
check policy_sysctl equal "$(cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established)" 86400

conntrack_gone
policy </usr/lib/modprobe-guard/policy.toml
mkdir -p /etc/sysctl.d
echo 'net.netfilter.nf_conntrack_max = 300000' >/etc/sysctl.d/50-own.conf
modprobe-guard nf_conntrack
check sysctl_d equal "$(max)" 300000

conntrack_gone
rm /etc/sysctl.d/50-own.conf
mkdir -p /etc/modprobe.d
echo 'options nf_conntrack hashsize=32768' >/etc/modprobe.d/own.conf
modprobe-guard nf_conntrack
check hashsize_option equal "$(cat /sys/module/nf_conntrack/parameters/hashsize)" 32768
check never_lower equal "$(max)" 262144

conntrack_gone
modprobe-guard ip_tables
check not_needed sh -c '. /lib.sh; is_loaded ip_tables && not is_loaded nf_conntrack'
finish
