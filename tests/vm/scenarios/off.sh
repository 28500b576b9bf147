# modprobe_guard=off on the kernel command line: everything passes, and the record says why.
# kernels: 6.1 newest
# checks: passes says_why
# arguments: modprobe_guard=off
. /lib.sh

profile no-conntrack
guard enable >/dev/null
check passes iptables-legacy -t nat -L
check says_why contains "$(last_record '"name":"iptable_nat"')" 'modprobe_guard=off'
finish
