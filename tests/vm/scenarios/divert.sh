# The guard in modprobe's own place: modprobe does what it did, the policy decides, once, and everything goes back.
# checks: divert aside_same enable same blocked kernel_blocked recorded_once kernel_once own_line_once other_line_judged status helper_stays disable disarmed lost_said again kmod_alone undo no_gap
# kernels: 6.1
. /lib.sh

divert="sh /usr/lib/modprobe-guard/divert.sh"
out=/run/same
version=$(uname -r)
tree=/lib/modules/$version
# Without counts of thinned ones, which come and go.
records() {
	guard log --json | grep -cv '"thinned"'
}
# The records after the first N, as `CALLER NAME ACTION`.
records_after() {
	guard log --json | grep -v '"thinned"' | tail -n +$(($1 + 1)) | sed 's/.*"request":{"name":"\([^"]*\)","caller":"\([a-z]*\)"}.*"action":"\([a-z-]*\)".*/\2 \1 \3/'
}

# --- without ---------------------------------------------------------------------------------------------------------

# Command lines, of the shell's: what they print, their status and what is loaded afterwards are compared.
lines() {
	for option in -n -nv -D --show-depends --show-dep -R --resolve-alias '-n -v -q' '-D -q' '-R -q'; do
		for name in algif-hash iptable_filter mine unknown; do echo "modprobe $option $name"; done
	done
	for option in '' -q -v -vv -b -a -s -i -qb --quiet --verbose --verb --all --first-time --ignore-install --use-blacklist --syslog; do
		for name in net-pf-38 unknown; do echo "modprobe $option $name"; done
	done
	for name in -Z --bogus --re --show -C --config -d --dirname -S --set-version -w --wait --all=x --quiet=1 '' - -- "''" -a -r -R -D -n -qa -vZ \
		'-Z af_alg' '--hook af_alg' '--hook' '-w x -r af_alg' '-w 100 af_alg' '--wait=x af_alg' -V --version --vers -h --help '-V -Z' '-h af_alg' \
		'--version af_alg' '-- -V' '-- af_alg -v' 'af_alg -- -v' 'af_alg -v' 'af_alg -q unknown' '-a unknown algif_hash' '-a algif_hash unknown' \
		'-qa unknown algif_hash' '-av algif_hash tcp_htcp' '-a -- algif_hash -v' 'unknown -q' '-q -- unknown' '-q -- algif_hash' 'algif_hash -q' \
		-c '--showconfig | tail -n 3' '--show-config af_alg | head -n 5' '-C /run/conf -c | head -n 3' '-C /run/conf -v tcp_htcp' '--config=/run/conf -v tcp_htcp' '-C/run/conf -D tcp_htcp' \
		'-C /nowhere af_alg' '-C /nowhere -D unknown' '-d / af_alg' '--dirname=/ -D af_alg' '-d /nowhere af_alg' '-d /nowhere -D af_alg' \
		"-S $version -v af_alg" "-S$version -D af_alg" '-S 0.0.0 af_alg' '-S 0.0.0 -D af_alg' '--set-version=0.0.0 -q af_alg' '--set-vers 0.0.0 af_alg' \
		'-f af_alg' '--force af_alg' '--force-modversion tcp_bic' '--force-vermagic tcp_bic' '--force-v -v tcp_bic' '-fv tcp_bic' \
		"--show-modversions $tree/kernel/crypto/af_alg.ko" "--dump-modversions $tree/kernel/crypto/af_alg.ko" '--show-modversions /nowhere' \
		"--show-exports $tree/kernel/crypto/af_alg.ko" '--show-exports /nowhere' '--show-exp af_alg' \
		"$tree/kernel/crypto/af_alg.ko" ./af_alg.ko ../af_alg 'af_alg.ko' 'af_alg bogus=1' 'fuse max_user_bgreq=x' 'af_alg "a b=c d"' \
		vetoed '-b vetoed' tcp_vegas '-b tcp_vegas' '-ab tcp_vegas tcp_bic' falsely '-q falsely' '--first-time falsely' tcp_illinois '-i tcp_illinois' \
		'-v tcp_illinois x=1' '-n tcp_illinois' '-D tcp_illinois' '-q tcp_illinois' tcp_lp '-v tcp_lp' '-D tcp_lp' '-a tcp_lp tcp_illinois' tcp_yeah \
		'$(printf "a\nb")' '$(printf "\377")' "'a*'" "'[a]'" "'a b'" "'crypto-x y'"; do
		echo "modprobe $name"
	done
	cat <<-'END'
		modprobe algif_hash && modprobe -r algif_hash
		modprobe algif_hash && modprobe -rv algif_hash
		modprobe algif_hash && modprobe -r af_alg
		modprobe algif_hash && modprobe -r -q af_alg
		modprobe algif_hash && modprobe --remove algif-hash
		modprobe algif_hash && modprobe --remove-dependencies -r af_alg
		modprobe algif_hash && modprobe --remove-holders -r af_alg
		modprobe algif_hash && modprobe -ra algif_hash unknown
		modprobe algif_hash && modprobe -w 100 -r algif_hash
		modprobe algif_hash && modprobe -rn algif_hash
		modprobe algif_hash && modprobe --first-time algif_hash
		modprobe algif_hash && modprobe --first-time -q algif_hash
		modprobe algif_hash && modprobe -v algif_hash
		modprobe tcp_illinois && modprobe -r tcp_illinois
		modprobe tcp_illinois && modprobe -r --ignore-remove tcp_illinois
		modprobe -r algif_hash
		modprobe -r --first-time algif_hash
		modprobe -r unknown
		modprobe -rq unknown
		modprobe fuse max_user_bgreq=77; cat /sys/module/fuse/parameters/max_user_bgreq
		modprobe -v ip_set max_sets=128; cat /sys/module/ip_set/parameters/max_sets
		MODPROBE_OPTIONS=-q modprobe unknown
		MODPROBE_OPTIONS=-v modprobe algif_hash
		MODPROBE_OPTIONS='-n -v' modprobe algif_hash
		MODPROBE_OPTIONS='-v  -q' modprobe algif_hash
		MODPROBE_OPTIONS='-C "/run/conf" -v' modprobe tcp_htcp
		MODPROBE_OPTIONS=algif_hash modprobe unknown
		MODPROBE_OPTIONS='"-v' modprobe algif_hash
		MODPROBE_OPTIONS=-Z modprobe algif_hash
		POSIXLY_CORRECT=1 modprobe algif_hash -r
		POSIXLY_CORRECT=1 modprobe -v algif_hash -n
		WORD=heard modprobe tcp_yeah
		env -i /sbin/modprobe -v algif_hash
		setpriv --reuid 1000 --regid 1000 --clear-groups /sbin/modprobe algif_hash
		setpriv --reuid 1000 --regid 1000 --clear-groups /sbin/modprobe -D algif_hash
		setpriv --reuid 1000 --regid 1000 --clear-groups /sbin/modprobe -q unknown
		cd /sbin && ./modprobe -Z
		cd / && sbin/modprobe unknown
		cd /run && /sbin/modprobe -C conf -v tcp_htcp
		cd /run && ln -sf /sbin/modprobe modprobe && ./modprobe -v tcp_bic
		modprobe -V >&-
		modprobe unknown 2>&-
		modprobe -v tcp_bic <&-
		modprobe -V | cat
		modprobe -c | head -n 1
		modprobe -D algif_hash | sh -c 'read one; echo "$one"'
	END
}

# Says what is loaded, and ends that, in the order in which it can go. Not by kmod's rmmod: starting a program is what takes
# the time here.
unload() {
	while read -r loaded _; do
		echo "loaded $loaded"
		command rmmod "$loaded" 2>/dev/null
	done </proc/modules
}
# look WHERE [EVERY]: runs them all, or each EVERYth; WHERE.out has what they print, status, and what is loaded then.
look() {
	number=0
	while read -r line <&5; do
		number=$((number + 1))
		[ $((number % ${2:-1})) -eq 0 ] || continue
		echo "== $number $line" >>"$1.out"
		echo "== $number $line" >>"$1.err"
		(eval "$line") >>"$1.out" 2>>"$1.err" </dev/null 5>&-
		echo "status $?" >>"$1.out"
		unload >>"$1.out"
	done 5</run/lines
	# With -vv libkmod prints addresses of its own.
	sed -i 's/0x[0-9a-f]*/0x/' "$1.err"
}
# same ONE OTHER LEAST: both looked at the same lines, LEAST at least, and saw the same.
same() {
	compared=$(grep -c '^== ' "$2.out")
	[ "$compared" -ge "$3" ] || { echo "only $compared"; return 1; }
	diff "$1.out" "$2.out" && diff "$1.err" "$2.err" || return 1
	echo "COMPARED $compared command lines" >/dev/console
}

mkdir -p /etc/modprobe.d /run/conf
echo 'options tcp_htcp x=1' >/run/conf/own.conf
cat >/etc/modprobe.d/own.conf <<'END'
alias mine algif_hash
alias falsely af_alg
install falsely /bin/false
install vetoed echo vetoed; exit 3
blacklist tcp_vegas
install tcp_illinois echo before; /sbin/modprobe --ignore-install tcp_illinois $CMDLINE_OPTS; echo after
remove tcp_illinois echo going; /sbin/modprobe -r --ignore-remove tcp_illinois
install tcp_lp /sbin/modprobe tcp_bic && exec /sbin/modprobe --ignore-install tcp_lp
install tcp_yeah echo "$WORD $MODPROBE_MODULE"; exec /sbin/modprobe -v --ignore-install tcp_yeah
END
lines >/run/lines
link=$(readlink /sbin/modprobe)
mkdir $out
look $out/real
look $out/some 5
check divert contains "$($divert on)" 'diverted   /sbin/modprobe'

# --- the policy decides, once ----------------------------------------------------------------------------------------

mv /etc/modprobe.d/own.conf /run/own.conf
printf 'version = 1\n[[rule]]\nid = "no"\nmodules = ["nf_conntrack"]\naction = "block"\n' | policy
check enable guard enable
before=$(records)
blocked() {
	! /sbin/modprobe iptable_nat 2>/run/said || return 1
	not is_loaded nf_conntrack || return 1
	contains "$(cat /run/said)" 'modprobe-guard: iptable_nat: blocked by rule "no"' || return 1
	equal "$(records_after "$before")" 'modprobe iptable_nat block'
}
check blocked blocked
before=$(records)
kernel_blocked() {
	! iptables-legacy -t nat -L 2>/dev/null || return 1
	not is_loaded nf_conntrack || return 1
	records_after "$before" | grep -q '^kernel iptable_nat block$'
}
check kernel_blocked kernel_blocked

# With an install line of ours for it, and one of somebody else that runs modprobe by way of a shell.
printf 'version = 1\n[[rule]]\nid = "size"\nmodules = ["nf_conntrack"]\naction = "allow-sysctl"\n' | policy
before=$(records)
recorded_once() {
	/sbin/modprobe iptable_nat || return 1
	grep -q '^install nf_conntrack' /run/modprobe.d/modprobe-guard.conf || return 1
	equal "$(max) $(records_after "$before")" '131072 modprobe iptable_nat allow-sysctl'
}
gone() {
	/sbin/modprobe -r iptable_nat nf_nat nf_conntrack 2>/dev/null
	# A table that stays is none of the right size for the next check.
	not is_loaded nf_conntrack || echo 1 >/proc/sys/net/netfilter/nf_conntrack_max
}
check recorded_once recorded_once
gone
before=$(records)
kernel_once() {
	iptables-legacy -t nat -L >/dev/null || return 1
	equal "$(max) $(records_after "$before" | grep -E 'nat|conntrack')" '131072 kernel iptable_nat allow-sysctl'
}
check kernel_once kernel_once
gone
echo 'install nf_conntrack :; ( /sbin/modprobe --ignore-install nf_conntrack $CMDLINE_OPTS ); :' >/etc/modprobe.d/own.conf
guard apply >/dev/null
before=$(records)
recorded_once_by_own_line() {
	/sbin/modprobe iptable_nat || return 1
	equal "$(max) $(records_after "$before")" '131072 modprobe iptable_nat allow-sysctl'
}
check own_line_once recorded_once_by_own_line
gone
printf 'version = 1\n[[rule]]\nid = "no"\nmodules = ["nf_conntrack"]\naction = "block"\n' | policy
echo 'install tcp_lp exec /sbin/modprobe nf_conntrack' >/etc/modprobe.d/own.conf
guard apply >/dev/null
before=$(records)
other_line_judged() {
	! /sbin/modprobe tcp_lp 2>/dev/null || return 1
	not is_loaded nf_conntrack || return 1
	equal "$(records_after "$before" | sort | tr '\n' ' ')" 'modprobe nf_conntrack block modprobe tcp_lp allow ' || return 1
	# Who asked is whoever ran modprobe first.
	equal "$(last_record nf_conntrack | sed 's/.*"call_site":null,"pid":[0-9]*,"tid":[0-9]*,"comm":"\([a-z]*\)".*/\1/')" sh
}
check other_line_judged other_line_judged
rm /etc/modprobe.d/own.conf
guard apply >/dev/null

# --- armed or not, modprobe is what it was ---------------------------------------------------------------------------

status() {
	guard status || return 1
	contains "$(guard status --json)" '"divert":"in place"' || return 1
	contains "$(guard status --json)" '{"way":"modprobe(8)","covered":true,'
}
check status status
check helper_stays equal "$(cat /proc/sys/kernel/modprobe)" /sbin/modprobe
check disable contains "$(guard disable)" 'passes everything on to /sbin/modprobe.unguarded'
before=$(records)
disarmed() {
	iptables-legacy -t nat -L >/dev/null || return 1
	/sbin/modprobe algif_hash || return 1
	! guard status >/dev/null || return 1
	equal "$(records)" "$before"
}
check disarmed disarmed
while [ -n "$(unload)" ]; do :; done
mv /run/own.conf /etc/modprobe.d/own.conf
look $out/aside 5
check aside_same same $out/some $out/aside 40
echo 'version = 1' | policy
guard enable >/dev/null
look $out/armed
check same same $out/real $out/armed 200

# --- lost, and back --------------------------------------------------------------------------------------------------

# An upgrade of kmod where no package manager knows of us.
ln -s "$link" /sbin/another
mv -f /sbin/another /sbin/modprobe
check lost_said sh -c '! guard status >/run/said && grep -q "is not the guard any more" /run/said && grep -q "^NOT ARMED" /run/said'
again() {
	contains "$($divert on)" diverted || return 1
	contains "$($divert on)" unchanged || return 1
	guard status
}
check again again
guard disable >/dev/null
# In an initramfs, which has what /sbin/modprobe leads to, and kmod.
kmod_alone() {
	expected=$(/sbin/modprobe -D algif_hash)
	mv /sbin/modprobe.unguarded /run/kept
	contains "$expected" insmod && equal "$(/sbin/modprobe -D algif_hash)" "$expected"
	status=$?
	mv /run/kept /sbin/modprobe.unguarded
	return $status
}
check kmod_alone kmod_alone
sh -c 'while [ -e /run/same ]; do if [ -x /sbin/modprobe ]; then echo there; else echo gap; fi; done' >/run/looks &
for round in 1 2 3 4 5; do
	$divert off && $divert on
done >/dev/null
undo() {
	contains "$($divert off)" 'restored   /sbin/modprobe' || return 1
	equal "$(readlink /sbin/modprobe) $(echo /sbin/modprobe*)" "$link /sbin/modprobe" || return 1
	equal "$($divert off)" '' || return 1
	/sbin/modprobe nf_conntrack
}
check undo undo
check no_gap equal "$(sort -u /run/looks)" there
rm -r $out
finish
