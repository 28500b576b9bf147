# The table on small, middling and large machines: by the formula, and before anybody's system call returns.
# memory: 512 1024 6144
# checks: by_formula buckets at_once again_at_once live_is_left second_costs_nothing
. /lib.sh

guard enable >/dev/null
# ask: has tracking loaded, prints the max and the buckets that it finds when the call has returned.
ask_for_tracking() {
	"$@" >/dev/null 2>&1
	echo "$(max) $(cat /sys/module/nf_conntrack/parameters/hashsize)"
}
conntrack_gone() {
	nft flush ruleset 2>/dev/null
	tries=0
	while is_loaded nf_conntrack; do
		modprobe -r iptable_nat nft_chain_nat nft_masq nft_ct nft_nat act_ct nf_flow_table nf_nat nf_conntrack 2>/dev/null
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		sleep 0.1
	done
}
# What a stock load makes of it here.
guard disable >/dev/null
modprobe nf_conntrack
stock=$(max)
stock_buckets=$(cat /sys/module/nf_conntrack/parameters/hashsize)
# The formula once more, in other words: what is asked for, and what memory allows at an entry's size and a bucket of 8.
expected=$(awk -v cpus="$(nproc)" -v entry="$(cat /sys/kernel/slab/nf_conntrack/slab_size)" '/^MemTotal/ {
	gib = int(($2 + 1048575) / 1048576); size = 131072
	if (32768 * cpus > size) size = 32768 * cpus
	if (32768 * gib > size) size = 32768 * gib
	print size, int(int($2 * 1024 * 5 / 100) / (entry + 8))
}' /proc/meminfo)
conntrack_gone
guard enable >/dev/null
size=$(echo "$expected" | awk -v stock="$stock" '{ size = $1; if (stock > size) size = stock; if (size > $2) size = $2; if (size < stock) size = stock; print size }')
ask_for_tracking iptables-legacy -t nat -L >/run/first
check by_formula equal "$(cut -d' ' -f1 /run/first)" "$size"
# As long as the kernel's own chains, in whole pages.
wanted=$(awk -v size="$size" -v max="$stock" -v buckets="$stock_buckets" 'BEGIN { n = int((size * buckets / max + 511) / 512) * 512; print n < buckets ? buckets : n }')
check buckets equal "$(cut -d' ' -f2 /run/first)" "$wanted"

# Ten who ask for different things that all need it, at once: whoever comes back finds it sized.
at_once() {
	conntrack_gone || return 1
	rm -f /run/found.*
	all=
	for one in 1 2 3 4 5 6 7 8 9 10; do
		case $((one % 5)) in
		0) ask_for_tracking iptables-legacy -t nat -L ;;
		1) ask_for_tracking nft 'add table ip p; add chain ip p c; add rule ip p c ct state new' ;;
		2) ask_for_tracking modprobe-guard nf_conntrack-2 ;;
		3) ask_for_tracking modprobe-guard act_ct ;;
		4) ask_for_tracking modprobe-guard nft-chain-2-nat ;;
		esac >"/run/found.$one" &
		all="$all $!"
	done
	# shellcheck disable=SC2086 # a list
	wait $all
	equal "$(sort -u /run/found.*)" "$(cat /run/first)"
}
check at_once at_once
check again_at_once at_once
echo 77777 >/proc/sys/net/netfilter/nf_conntrack_max
modprobe-guard nft-chain-2-nat
modprobe-guard iptable_nat
check live_is_left equal "$(max)" 77777
# The second request finds all there and sets nothing.
check second_costs_nothing sh -c '. /lib.sh; modprobe-guard nf_conntrack; last_record "\"name\":\"nf_conntrack\"" >/run/second; [ -s /run/second ] && ! grep -q "\"sysctl\"" /run/second'
finish
