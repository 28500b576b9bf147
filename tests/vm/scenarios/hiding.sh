# Nobody gets past a rule that blocks by keeping from us who asked.
# checks: sound killed_load killed_twice killed_rule waits_load killed_userns headless deep deep_outside nested nested_outside served served_itself long becomes becomes_other hangs part part_principal part_of_root part_beside part_later
. /lib.sh

for module in af_alg algif_hash fuse; do modprobe $module; done
# As udev has it.
chmod 666 /dev/fuse
mkdir -p /tmp/own
chown 1000:1000 /tmp/own
mount -t cgroup2 cgroup /sys/fs/cgroup
box=/sys/fs/cgroup/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope
mkdir -p $box
cp /bin/hide /bin/first
cp /bin/ask /bin/trusted
cp /bin/swap /bin/other
guard enable >/dev/null
policy <<'P'
version = 1
[[rule]]
id = "users"
modules = ["l2tp_netlink"]
requester = { uid = "!0" }
action = "block"
[[rule]]
id = "nested"
requests = ["*-family-nested"]
requester = { userns = "other" }
action = "block"
[[rule]]
id = "headless"
requests = ["crypto-headless"]
requester = { exe = "/bin/hide" }
action = "block"
[[rule]]
id = "boxed"
requests = ["crypto-deep*"]
requester = { container = true }
action = "block"
[[rule]]
id = "family"
requests = ["crypto-family*"]
requester = { ancestor = "/bin/first" }
action = "block"
[[rule]]
id = "trusted"
requests = ["crypto-served*"]
requester = { exe = "!/bin/trusted" }
action = "block"
[[rule]]
id = "becomes"
requests = ["crypto-becomes*"]
requester = { exe = "/bin/swap" }
action = "block"
[[rule]]
id = "hangs"
requests = ["crypto-hangs*"]
requester = { exe = "/bin/swap" }
action = "block"
[[rule]]
id = "parts"
requests = ["crypto-part*"]
requester = { uid = "!0" }
action = "block"
P
check sound guard status
# rule NAME: which rule decided about the last request of that name
rule() { last_record "\"name\":\"$1\"" | sed -E 's/.*"rule":"?([^",]*)"?,.*/\1/'; }
# told NAME COUNT: waits until so many records of that name are there, one to a line in /run/told
told() {
	tries=0
	until
		guard log --json | grep "\"name\":\"$1[0-9]*\"" >/run/told
		[ "$(wc -l </run/told)" -ge "$2" ]
	do
		sleep 0.1
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
	done
}
user='setpriv --reuid 1000 --regid 1000 --clear-groups'

# Asked for twice, by a thread that is killed long before: the second helper finds nobody at all.
$user hide killed l2tp
check killed_twice told net-pf-16-proto-16-family-l2tp 2
check killed_rule test "$(grep -c '"rule":"users"' /run/told)" = 2
check killed_load not grep -q l2tp_netlink /proc/modules
# Of a process that was killed the recorder tells no namespace.
$user unshare -Ur hide killed nested
told net-pf-16-proto-16-family-nested 2
check killed_userns test "$(grep -c '"rule":"nested"' /run/told)" = 2

$user hide headless headless
check headless test "$(rule crypto-headless)" = headless
hide deep $box ask alg hash deep
check deep test "$(rule crypto-deep)" = boxed
ask alg hash deepnot
check deep_outside test "$(rule crypto-deepnot)" = null
first nested 1 /bin/hide nested 40 /bin/ask alg hash family
check nested test "$(rule crypto-family)" = family
hide nested 20 /bin/ask alg hash familynot
check nested_outside test "$(rule crypto-familynot)" = null
$user unshare -Urm hide served /tmp/own /bin/ask alg hash served
check served test "$(rule crypto-served)" = trusted
trusted alg hash servednot
check served_itself test "$(rule crypto-servednot)" = null

mkdir -p /tmp/long
chown 1000:1000 /tmp/long
$user hide long /tmp/long /bin/ask alg hash served2
check long test "$(rule crypto-served2)" = trusted

# Becomes a program that is on a processor at each look, as one is who is about to wait.
LIVES=2000 swap becomes 16 /bin/other
# Those that were killed before they asked are none.
told crypto-becomes 10
check becomes not grep -v '"rule":"becomes"' /run/told
trusted alg hash becomesnot
check becomes_other test "$(rule crypto-becomesnot)" = null

# Beside one who asks there are more who never get to be another program than we look at.
mkdir -p /tmp/stall
stall /tmp/stall 9 /tmp/never >/run/said 2>&1 &
waited_for asked /run/said
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
	swap one 20 hangs /bin/other /tmp/stall/file &
done
swap wait hangs
told crypto-hangs 7
check hangs not grep -v '"rule":"hangs"' /run/told

# A thread of the kernel's asks for it, for whoever needs it.
ask --uid 1000 alg hash 'hmac(partu)'
check part test "$(rule crypto-partu)" = parts
check part_principal contains "$(last_record '"name":"crypto-partu"')" '"uid":1000,'
ask alg hash 'hmac(partr)'
check part_of_root test "$(rule crypto-partr)" = null
# Beside it there is one that needs the same, and never gets to be another program.
swap stuck 'hmac(parth)' /bin/other /tmp/stall/file &
changing=$!
told 'crypto-hmac(parth)' 1
sleep 1
kill -USR1 $changing
ask --uid 1000 alg hash 'hmac(parth)'
check part_beside test "$(rule crypto-parth)" = parts
kill -KILL $changing
# shellcheck disable=SC2046 # one number each
kill -KILL $(grep -lE '^(stall|swap|other)$' /proc/[0-9]*/comm | sed 's/[^0-9]//g')
# What others needed before matters no more; whoever is gone for less than a second may have been killed.
sleep 2
ask alg hash 'hmac(partu)'
check part_later test "$(rule crypto-partu)" = null

# Root may, and it is there to be loaded.
hide killed l2tp
told net-pf-16-proto-16-family-l2tp 4
check waits_load grep -q l2tp_netlink /proc/modules
finish
