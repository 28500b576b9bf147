# Not one request of the guard's own, ever: with binfmt_misc as a module, neither tracefs nor bpffs mounted, no
# /dev/log. What the kernel asks for is counted by the trace event of its requests, which goes on when tracefs is out of sight.
# memory: 768
# kernels: 6.1 5.10
# checks: counts stock_asks nothing_mounted enable mount_alone blocked_as_stock allowed_as_stock sized_as_stock unknown_by_hand blocked_by_hand allowed_by_hand sized_by_hand foreign_modprobe commands flush disable all_met
. /lib.sh

trace=/run/tracing
mkdir $trace
# look COMMAND...: with tracefs mounted for as long as that takes.
look() {
	mount -t tracefs tracefs $trace
	"$@"
	umount $trace
}
start() {
	# Names of tasks are not needed, and to record them the kernel would patch its scheduler, which emulators get wrong.
	echo 0 >$trace/options/record-cmd
	echo 1 >$trace/events/module/module_request/enable
}
clear_trace() {
	: >$trace/trace
}
names() {
	sed -n 's/.* module_request: \([^ ]*\) .*/\1/p' $trace/trace | sort
}
# asked COMMAND...: the names that the kernel asks for meanwhile.
asked() {
	look clear_trace
	"$@" >/run/said 2>&1
	echo $? >/run/status
	look names
}
# none NAME...: for each command line of a standard input: it leads to no request.
none() {
	while read -r line; do
		found=$(asked sh -c ". /lib.sh; $line")
		[ -z "$found" ] || { echo "$line: $found"; return 1; }
		# What is to come in has to be there.
		case $line in *is_loaded*) grep -qx 0 /run/status || { echo "$line: $(cat /run/said)"; return 1; } ;; esac
		echo x >>/run/met
	done
}
# What makes the kernel ask: for modules that nobody has, and for some that there are.
asks() {
	ask --uid 1000 socket 9
	ask socket 12
	ask socket 38
	ask mount nosuch
	ask netdev nosuch
	command rmmod af_alg
}
gone() {
	tries=0
	while is_loaded nf_conntrack && [ $tries -lt 100 ]; do
		/sbin/modprobe -r iptable_nat nf_nat nf_conntrack
		tries=$((tries + 1))
	done
}
tables() {
	iptables-legacy -t nat -L
}
as_stock() {
	equal "$1" "$2" && [ -n "$2" ]
}

look start
check counts equal "$(asked ask socket 9)" net-pf-9
stock=$(asked asks)
check stock_asks contains "$stock" net-pf-38
/sbin/modprobe ip_tables
stock_tables=$(asked tables)
gone 2>/dev/null
check nothing_mounted sh -c '! grep -qE " (bpf|tracefs|debugfs) " /proc/mounts && ! [ -e /dev/log ] && ! grep -q "^binfmt_misc " /proc/modules'

# Whoever mounts bpffs, as systemd does, has some kernels ask for this (bpf_preload_mod_get, kernel/bpf/inode.c).
mount_asks=$(asked sh -c 'mount -t bpf bpf /mnt && umount /mnt')
enable_asks=$(asked guard enable)
check enable equal "$enable_asks" "$mount_asks"
check mount_alone sh -c '[ -z "$1" ] || [ "$1" = bpf_preload ]' sh "$mount_asks"
rule() {
	printf 'version = 1\n[[rule]]\nid = "r"\nmodules = ["%s"]\naction = "%s"\n' "$1" "$2" | policy
}
rule af_alg block
blocked=$(asked asks)
check blocked_as_stock as_stock "$blocked" "$stock"
rule af_alg allow
allowed=$(asked asks)
check allowed_as_stock as_stock "$allowed" "$stock"
rule nf_conntrack allow-sysctl
sized=$(asked tables)
check sized_as_stock sh -c '. /lib.sh; equal "$1" "$2" && [ "$(max)" -ge 100000 ]' sh "$sized" "$stock_tables"
gone 2>/dev/null

by_hand() {
	printf '%s\n' "$@" | none
}
check unknown_by_hand by_hand 'modprobe-guard nosuch' 'modprobe-guard -q -- nosuch' 'modprobe-guard --hook nosuch' 'modprobe-guard -a nosuch nosuch2'
check sized_by_hand by_hand 'modprobe-guard nf_conntrack; is_loaded nf_conntrack'
gone 2>/dev/null
rule nf_conntrack block
check blocked_by_hand by_hand 'modprobe-guard nf_conntrack' 'modprobe-guard iptable_nat -q' 'modprobe-guard --hook nf_nat'
check allowed_by_hand by_hand 'modprobe-guard tcp_bic && is_loaded tcp_bic' 'modprobe-guard -r tcp_bic' 'modprobe-guard -D tcp_bic'

# What no binfmt runs, the kernel would ask binfmt modules for.
printf 'nonsense' >/run/foreign
printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\376\376' >/run/foreign-elf
chmod 755 /run/foreign /run/foreign-elf
foreign() {
	for modprobe in /run/foreign /run/foreign-elf; do
		printf 'version = 1\n[defaults]\ndelegate = "%s"\n' "$modprobe" | policy
		by_hand 'modprobe-guard tcp_bic && is_loaded tcp_bic' 'modprobe-guard -r tcp_bic' || return 1
	done
}
check foreign_modprobe foreign

rule nf_conntrack block
commands() {
	none <<-'END'
		guard status
		guard status --json
		guard doctor
		guard doctor af_packet
		guard doctor nosuch
		guard log
		guard log --json
		guard log --summary
		guard check
		guard apply
		guard --dry-run nf_conntrack nosuch af_packet
		guard --dry-run --json --as uid=1000 --as caller=kernel iptable_nat
		guard enable
		guard enable --force
		guard --help
	END
}
check commands commands
check flush by_hand 'guard log --flush'
check disable by_hand 'guard disable'
check all_met [ "$(wc -l </run/met)" -ge 30 ]
finish
