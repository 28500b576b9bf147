# The guest's part of benches/kernel, which says what `noop` and `rounds` are.
. /lib.sh

helper() {
	case $1 in
	no-op) echo "$noop" ;;
	modprobe) echo /sbin/modprobe ;;
	guard) echo /usr/sbin/modprobe-guard ;;
	esac >/proc/sys/kernel/modprobe
}

# asked WHAT WHO ASK-ARGUMENT...: how long one that asks is held up.
asked() {
	what=$1 who=$2
	shift 2
	said=$(ask "$@")
	echo "TIME $what|$who|${said##*us=}"
}

hundredths() {
	sed 's/ .*//; s/\.//; s/^0*//' /proc/uptime
}

# stormed WHAT WHO: 100 processes and threads bind four algorithms each that nobody has (AF_ALG): the kernel asks twice
# for each, and each time for the crypto manager, one name for all.
stormed() {
	dmesg -c >/dev/null
	began=$(hundredths)
	storm different 100 4
	echo "TIME $1|$2|$((($(hundredths) - began) * 10000))"
	echo "BUSY $1, $2: $(dmesg | grep -c 'kmod busy') times \`kmod busy', $(dmesg | grep -c 'throttling') times throttled"
}

unloaded() {
	modprobe -r "$@" 2>/dev/null || :
	! is_loaded "$1"
}

modprobe af_alg
# Blocked is what the name asked for says, so that every helper has the same to answer.
printf 'version = 1\n[[rule]]\nid = "no"\nrequests = ["crypto-blocked*", "netdev-blocked*", "blocked*"]\naction = "block"\n' | policy
guard enable >/dev/null
round=0
while [ $round -lt "$rounds" ]; do
	round=$((round + 1))
	for who in no-op modprobe guard; do
		helper $who
		asked 'unknown name (three requests)' $who alg hash "unknown$round$who"
		asked 'blocked (three requests)' $who alg hash "blocked$round$who"
		[ $who != no-op ] || continue
		asked 'live (two requests)' $who netdev af_alg
		unloaded nf_conntrack && asked 'nf_conntrack and its closure (two requests)' $who netdev nf_conntrack
		unloaded nf_defrag_ipv4 && asked 'one module (two requests)' $who netdev nf_defrag_ipv4
		unloaded nf_conntrack
	done
done
for many in 1000 10000; do
	storm idle $many >/run/idle &
	idle=$!
	waited_for ready /run/idle
	for attempt in 1 2 3 4 5; do
		for who in modprobe guard; do
			helper $who
			asked "blocked, $many more processes" $who alg hash "blocked$attempt$who$many"
		done
	done
	kill $idle
	wait $idle 2>/dev/null || :
done
# What a blocked request asks of the kernel, both its processes counted: of two, which are all that is asked for here.
tracing=/sys/kernel/tracing
mount -t tracefs tracefs $tracing 2>/dev/null || :
trigger='hist:keys=common_pid:size=4096 if comm=="'
for who in modprobe guard; do
	helper $who
	[ $who = guard ] && comm=modprobe-guard || comm=modprobe
	echo "$trigger$comm\"" >$tracing/events/raw_syscalls/sys_enter/trigger
	ask netdev "blocked$who" >/dev/null
	echo "CALLS $who|$(sed -n 's/^ *Hits: //p' $tracing/events/raw_syscalls/sys_enter/hist)"
	echo "!$trigger$comm\"" >$tracing/events/raw_syscalls/sys_enter/trigger
done
for attempt in 1 2 3; do
	for who in no-op modprobe guard; do
		helper $who
		stormed 'storm of 100 with 400' $who
	done
done
echo 'DONE 0'
