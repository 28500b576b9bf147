# Nobody gets past a rule that blocks by keeping from us who asked.
# checks: sound killed_load killed_twice killed_rule waits_load killed_userns headless deep deep_outside nested nested_outside served served_itself part part_principal part_of_root part_later
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
		guard log --json | grep "\"name\":\"$1\"" >/run/told
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

# A thread of the kernel's asks for it, for whoever needs it.
ask --uid 1000 alg hash 'hmac(partu)'
check part test "$(rule crypto-partu)" = parts
check part_principal contains "$(last_record '"name":"crypto-partu"')" '"uid":1000,'
ask alg hash 'hmac(partr)'
check part_of_root test "$(rule crypto-partr)" = null
# What others needed before matters no more; whoever is gone for less than a second may have been killed.
sleep 2
ask alg hash 'hmac(partu)'
check part_later test "$(rule crypto-partu)" = null

# Root may, and it is there to be loaded.
hide killed l2tp
told net-pf-16-proto-16-family-l2tp 4
check waits_load grep -q l2tp_netlink /proc/modules
finish
