# What is asked for by modprobe(8) and libkmod instead of the kernel: blocked, sized, recorded once, and left alone again.
# kernels: 6.1 newest
# checks: enable file_mode by_name by_dependency by_list by_alias by_configured_alias by_kernel by_kernel_once by_libkmod by_script nothing_came allowed dry_run_same sized_by_name sized_by_dependency sized_once_for_kernel sized_loads options watched asks_who asks_who_not softdep_said softdep_listed softdep_closed own_line_kept own_line_said later_line_said allow_list allow_list_needed allow_list_other hidden_said not_written_said not_written_in_force disable works_again status_json
# programs: /lib/systemd/systemd-modules-load
. /lib.sh

file=/run/modprobe.d/modprobe-guard.conf
rule() {
	printf '[[rule]]\nid = "%s"\nmodules = ["%s"]\naction = "%s"\n%s\n' "$1" "$2" "$3" "$4"
}
version() {
	printf 'version = 1\n%s\n' "$1"
}
records() {
	guard log --json | wc -l
}
# blocked MODULE COMMAND...: it fails, MODULE does not come in, and there is one record more: of a block, asked for by the
# shell that ran it.
blocked() {
	module=$1
	shift
	before=$(records)
	# shellcheck disable=SC2016 # for the inner shell
	if sh -c 'echo $$ >/run/asker; "$@" 2>/run/said; exit $?' sh "$@"; then
		echo "$* succeeded"
		return 1
	fi
	not is_loaded "$module" || return 1
	equal "$(($(records) - before))" 1 || return 1
	guard log --json | tail -n 1 >/run/record
	contains "$(cat /run/record)" '"action":"block","enforced":true,"rule":"no"' || return 1
	grep -q "\"caller\":\"hook\".*\"confidence\":\"exact\".*\"pid\":$(cat /run/asker),\"tid\"" /run/record || {
		echo "asked for by another than $(cat /run/asker): $(cat /run/record)"
		return 1
	}
}
gone() {
	/sbin/modprobe -r iptable_nat nf_nat nf_conntrack 2>/dev/null
	# A table that stays is none of the right size for the next check.
	not is_loaded nf_conntrack || echo 1 >/proc/sys/net/netfilter/nf_conntrack_max
}

mkdir -p /etc/modprobe.d
echo 'alias mine nf_conntrack' >/etc/modprobe.d/own.conf
{ version; rule no nf_conntrack block; } | policy
check enable contains "$(guard enable)" "install lines: 1 modules in $file"
check file_mode equal "$(stat -c '%a %u' $file) $(ls -A /run/modprobe.d)" '644 0 modprobe-guard.conf'
check by_name blocked nf_conntrack /sbin/modprobe nf_conntrack
check by_dependency blocked nf_conntrack /sbin/modprobe iptable_nat
check by_list blocked nf_conntrack /sbin/modprobe -a ip_tables nf-conntrack
check by_alias blocked nf_conntrack /sbin/modprobe nf_conntrack-2
check by_configured_alias blocked nf_conntrack /sbin/modprobe mine
before=$(records)
check by_kernel sh -c '. /lib.sh; ! iptables-legacy -t nat -L 2>/dev/null && not is_loaded nf_conntrack'
check by_kernel_once equal "$(guard log --json | tail -n +$((before + 1)) | sed 's/.*"caller":"\([a-z]*\)".*/\1/' | sort -u)" kernel
# Who asks is systemd-modules-load itself, which ends with what it asks for.
libkmod() {
	before=$(records)
	mkdir -p /etc/modules-load.d
	echo iptable_nat >/etc/modules-load.d/own.conf
	! /lib/systemd/systemd-modules-load 2>/run/said || return 1
	not is_loaded nf_conntrack || return 1
	equal "$(($(records) - before))" 1 || return 1
	contains "$(last_record '"caller":"hook"')" '"comm":"systemd-modules"' || return 1
	contains "$(last_record '"caller":"hook"')" '"action":"block"' || return 1
	rm /etc/modules-load.d/own.conf
}
check by_libkmod libkmod
# A shell that only runs modprobe is nobody: whoever runs it asks.
check by_script blocked nf_conntrack sh -c '/sbin/modprobe -q iptable_nat'
check nothing_came not is_loaded nf_conntrack
before=$(records)
/sbin/modprobe af_alg
check allowed sh -c ". /lib.sh; is_loaded af_alg && equal '$(records)' '$before'"
armed=$(guard --dry-run iptable_nat nf_conntrack mine)
mv /run/modprobe.d /run/aside
check dry_run_same equal "$armed" "$(guard --dry-run iptable_nat nf_conntrack mine)"
mv /run/aside /run/modprobe.d

# Sizing: the table is right when modprobe ends.
{ version; rule size nf_conntrack allow-sysctl; } | policy
before=$(records)
/sbin/modprobe nf_conntrack
check sized_by_name equal "$(max) $(($(records) - before))" '131072 1'
gone
before=$(records)
/sbin/modprobe iptable_nat
check sized_by_dependency equal "$(max) $(($(records) - before))" '131072 1'
gone
before=$(records)
iptables-legacy -t nat -L >/dev/null
check sized_once_for_kernel equal "$(max) $(guard log --json | tail -n +$((before + 1)) | grep -c nf_conntrack)" '131072 1'
last_record '"name":"iptable_nat"' >/run/one
check sized_loads sh -c '. /lib.sh; is_loaded iptable_nat && [ -s /run/one ] && ! grep -q failures /run/one'
gone
echo 'options nf_conntrack hashsize=32768' >/etc/modprobe.d/options.conf
/sbin/modprobe nf_conntrack acct=1
check options equal "$(cat /sys/module/nf_conntrack/parameters/hashsize /sys/module/nf_conntrack/parameters/acct | tr '\n' ' ')" '32768 Y '
rm /etc/modprobe.d/options.conf
gone

{ version; rule watch nf_conntrack block 'enforce = false'; } | policy
/sbin/modprobe iptable_nat
check watched sh -c '. /lib.sh; is_loaded iptable_nat && contains "$(last_record "\"caller\":\"hook\"")" "\"action\":\"block\",\"enforced\":false,\"rule\":\"watch\""'
gone
{ version; rule no nf_conntrack block 'requester = { ancestor = "/bin/busybox" }'; } | policy
check asks_who blocked nf_conntrack /sbin/modprobe iptable_nat
{ version; rule no nf_conntrack block 'requester = { exe = "/usr/sbin/nft" }'; } | policy
/sbin/modprobe iptable_nat
check asks_who_not is_loaded iptable_nat
gone

# What install lines do not reach is said.
{ version; rule no nf_conntrack block; } | policy
echo 'softdep nf_conntrack pre: af_alg' >/etc/modprobe.d/zz.conf
check softdep_said contains "$(guard apply)" 'modules with soft dependencies'
check softdep_listed contains "$(guard status --json)" '"modules":["nf_conntrack"]'
echo 'softdep nf_conntrack pre:' >/etc/modprobe.d/00-own.conf
guard apply >/dev/null
check softdep_closed blocked nf_conntrack /sbin/modprobe iptable_nat
rm /etc/modprobe.d/zz.conf /etc/modprobe.d/00-own.conf
echo 'install nf_conntrack touch /run/own; exec /sbin/modprobe --ignore-install nf_conntrack $CMDLINE_OPTS' >/etc/modprobe.d/zz.conf
# Not applied yet: ours is the first for kmod, and status knows.
check later_line_said sh -c 'guard status; guard status | grep -q "guard apply writes it anew"'
check own_line_said contains "$(guard apply)" 'nf_conntrack (/etc/modprobe.d/zz.conf:1)'
/sbin/modprobe nf_conntrack
check own_line_kept sh -c '. /lib.sh; is_loaded nf_conntrack && [ -e /run/own ]'
rm /etc/modprobe.d/zz.conf
gone

# An allow-list: what is on it comes with all it needs, nothing else does.
{ version '[defaults]
action = "block"'; rule ok iptable_nat allow; rule tables ip_tables allow; } | policy
check allow_list /sbin/modprobe iptable_nat
gone
check allow_list_needed contains "$(guard status --json)" '"nf_conntrack"'
modprobe -r algif_hash af_alg
check allow_list_other sh -c '. /lib.sh; ! modprobe -q algif_hash 2>/dev/null && not is_loaded algif_hash'

{ version; rule no nf_conntrack block; } | policy
: >/etc/modprobe.d/modprobe-guard.conf
check hidden_said sh -c '! guard apply 2>/run/said && grep -q "hides" /run/said && ! guard status >/dev/null'
rm /etc/modprobe.d/modprobe-guard.conf
rm -r /run/modprobe.d
: >/run/modprobe.d
printf 'version = 1\n' >/etc/modprobe-guard/policy.toml
rule no nf_nat block >>/etc/modprobe-guard/policy.toml
check not_written_said sh -c '! guard apply 2>/run/said && grep -q "/run/modprobe.d/modprobe-guard.conf: write:" /run/said'
check not_written_in_force contains "$(modprobe-guard nf_nat 2>&1)" 'blocked by rule "no"'
rm /run/modprobe.d
guard apply >/dev/null
check status_json contains "$(guard status --json)" '{"way":"modprobe(8) and libkmod (udev, systemd)","covered":true,'
guard disable >/dev/null
check disable not ls $file
/sbin/modprobe iptable_nat
check works_again is_loaded iptable_nat
finish
