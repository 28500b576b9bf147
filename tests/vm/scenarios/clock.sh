# The answer, the record and the log whatever the clock says: an empty battery, a clock past 32 bits, one that is set back.
# memory: 768
# kernels: 6.1 5.10
# checks: first y1970 y2106 past_2106 back_1970 all_read in_order_or_not status flushed armed_anew
. /lib.sh

# The kernel takes no time before its own start.
early=600
late=4294967295
printf 'version = 1\n[[rule]]\nid = "no"\nmodules = ["af_alg"]\naction = "block"\n[[rule]]\nid = "size"\nmodules = ["nf_conntrack"]\naction = "allow-sysctl"\n' | policy
guard enable >/dev/null

gone() {
	while is_loaded nf_conntrack; do
		/sbin/modprobe -r iptable_nat nf_nat nf_conntrack 2>/dev/null
	done
}
# told YEAR TEXT: how many records of that year have TEXT in them; the log is in the order of time, not of writing.
told() {
	guard log --json | grep "\"time\":\"$1-" | grep -cF -- "$2"
}
# one_more YEAR TEXT COMMAND...: it leaves one more record of that kind.
one_more() {
	year=$1 text=$2
	shift 2
	before=$(told "$year" "$text")
	"$@" >/dev/null
	equal "$(told "$year" "$text")" $((before + 1))
}
# answers YEAR: each verdict is what it is, and its record says when.
answers() {
	one_more "$1" '"name":"net-pf-38"' ask socket 38 || return 1
	not is_loaded af_alg || return 1
	one_more "$1" '"name":"net-pf-9"' ask socket 9 || return 1
	one_more "$1" '"action":"allow-sysctl"' modprobe-guard nf_conntrack || return 1
	[ "$(max)" -ge 100000 ] || return 1
	gone
	# A policy that is applied, and a flush, are of that time too.
	guard apply >/dev/null && guard log --flush >/dev/null
}
at() {
	date -s "@$1" >/dev/null && answers "$2"
}
check first answers "$(date +%Y)"
check y1970 at $early 1970
check y2106 at $late 2106
check past_2106 at $((late + 1000000000)) 2137
check back_1970 at $((early + 60)) 1970
requests() {
	written=$(guard log --json | grep -c '"name":"net-pf-9"')
	[ "$written" -ge 5 ]
}
check all_read requests
check in_order_or_not sh -c 'guard log >/dev/null && guard log --summary >/dev/null && guard log --since 1h >/dev/null'
check status guard status
check flushed sh -c '[ "$(wc -l </var/log/modprobe-guard/audit.jsonl)" -ge 15 ]'
anew() {
	guard disable >/dev/null && guard enable >/dev/null && answers 1970
}
check armed_anew anew
finish
