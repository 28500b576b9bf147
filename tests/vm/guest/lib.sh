# shellcheck shell=sh
# What scenarios share. A scenario names its checks in a line `# checks: NAME...`, calls `check` once for each, and ends
# with `finish`.

count=0

# busybox's shell takes its own applets of these names, whatever PATH says.
ip() { /usr/sbin/ip "$@"; }
modprobe() { /sbin/modprobe "$@"; }
depmod() { /sbin/depmod "$@"; }
rmmod() { /sbin/rmmod "$@"; }
lsmod() { /sbin/lsmod "$@"; }
setpriv() { /usr/bin/setpriv "$@"; }
unshare() { /usr/bin/unshare "$@"; }

# check NAME COMMAND...: one line of result. A command that the guest lacks fails every check, in a pipe too.
check() {
	name=$1
	shift
	count=$((count + 1))
	if output=$("$@" 2>&1); then
		case $output in
		*'sh: '*': not found'* | *': line '[0-9]*': not found'* | *': command not found'*) echo "RESULT $name failed: the guest lacks a command: $(echo "$output" | tr '\n' '|')" ;;
		*) echo "RESULT $name ok" ;;
		esac
	else
		echo "RESULT $name failed: $* gave status $?: $(echo "$output" | tail -n 5 | tr '\n' '|')"
	fi
}

finish() {
	echo "DONE $count"
}

is_loaded() {
	grep -q "^$1 " /proc/modules
}

not() {
	! "$@"
}

equal() {
	[ "$1" = "$2" ] || {
		echo "found $1, expected $2"
		return 1
	}
}

contains() {
	case $1 in *"$2"*) return 0 ;; esac
	echo "no '$2' in: $1"
	return 1
}

# policy: standard input becomes the policy in force.
policy() {
	mkdir -p /etc/modprobe-guard
	cat >/etc/modprobe-guard/policy.toml
	guard apply >/dev/null
}

# profile NAME: that profile becomes the policy in force.
profile() {
	policy <"/usr/lib/modprobe-guard/profiles/$1.toml"
}

# last_record [TEXT]: the last record, or the last that has TEXT in it.
last_record() {
	guard log --json | grep -F -- "${1:-}" | tail -n 1
}

# named CONFIDENCE NAME ASK-ARGUMENT...: the record of NAME names whoever asked, as surely as CONFIDENCE (an extended regular
# expression) says; it is left in /run/record. A search for waiting tasks that is cut short on a busy machine names
# nobody, and we ask again; a wrong one it never names.
named() {
	confidence=$1
	name=$2
	shift 2
	for attempt in 1 2 3 4 5 6 7 8 9 10; do
		before=$(last_record "\"name\":\"$name\"")
		said=$(ask "$@")
		pid=${said#pid=} tid=${said#*tid=}
		last_record "\"name\":\"$name\"" >/run/record
		grep -qE "\"confidence\":\"($confidence)\".*\"pid\":${pid%% *},\"tid\":${tid%% *}," /run/record && return 0
		# On a machine so slow that this one left no record, the last is a former one's.
		[ "$(cat /run/record)" = "$before" ] || ! grep -qE '"confidence":"(exact|likely)"' /run/record || break
	done
	echo "attempt $attempt, $said: $(cat /run/record)"
	return 1
}

max() {
	cat /proc/sys/net/netfilter/nf_conntrack_max
}

# Two network namespaces with this one, which routes, between them: 10.0.1.2 asks 10.0.2.2.
router() {
	echo 1 >/proc/sys/net/ipv4/ip_forward
	for side in 1 2; do
		ip netns add side$side
		ip link add veth$side type veth peer name eth0 netns side$side
		ip addr add 10.0.$side.1/24 dev veth$side
		ip link set veth$side up
		ip -n side$side addr add 10.0.$side.2/24 dev eth0
		ip -n side$side link set eth0 up
		ip -n side$side link set lo up
		ip -n side$side route add default via 10.0.$side.1
	done
}

# flood_router COUNT: that many established connections through the router; prints `established N of COUNT`.
flood_router() {
	ulimit -n 200000
	ip netns exec side2 flood serve 4 >/run/serve &
	waited_for listening /run/serve || return 1
	ip netns exec side1 flood connect 10.0.2.2 4 "$1" >/run/connect 2>&1 &
	waited_for established /run/connect && grep established /run/connect
}

# waited_for TEXT FILE: until FILE has TEXT in it, for at most some minutes.
waited_for() {
	tries=0
	until grep -q "$1" "$2"; do
		sleep 0.1
		tries=$((tries + 1))
		[ $tries -lt 1800 ] || return 1
	done
}

table_full() {
	dmesg | grep -q 'nf_conntrack: table full, dropping packet'
}
