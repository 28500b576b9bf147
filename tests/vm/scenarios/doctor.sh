# guard doctor on real kernels: what is broken on purpose is the first finding, and the commands it prints mend it.
# arguments: module_blacklist=sctp
# kernels: 6.1 newest
# checks: healthy not_loaded cut cut_mended flags flags_mended install install_mended install_needed install_needed_mended alias alias_mended guard_rule guard_rule_mended needed_gone needed_gone_mended needed_unknown needed_unknown_mended library library_mended no_index no_index_mended stale stale_mended kernels_blacklist parameter parameter_mended helper helper_mended agrees full full_mended unused unused_mended way_up unsigned unsigned_mended nobody dumb disabled touches_nothing
. /lib.sh

release=$(uname -r)
modules=/lib/modules/$release
file() {
	find "$modules/kernel" -name "$1.ko*" | head -n 1
}
echo ID=debian >/etc/os-release
mkdir /run/saved
for name in nf_conntrack nf_defrag_ipv4; do
	cp "$(file $name)" /run/saved
	eval "$name=$(file $name)"
done
# What a package manager would do, as far as these files go.
# shellcheck disable=SC2154 # set by eval
printf '#!/bin/sh\ncp /run/saved/nf_conntrack.ko* %s && cp /run/saved/nf_defrag_ipv4.ko* %s\n' "$nf_conntrack" "$nf_defrag_ipv4" >/usr/bin/apt-get
chmod 755 /usr/bin/apt-get

doctor() {
	guard doctor "$@" >/run/doctor
}
# The causes that it found, in order.
causes() {
	sed -n 's/^[0-9]*\. .*(\([a-z-]*\))$/\1/p' /run/doctor | tr '\n' ' '
}
first() {
	doctor ${2:+"$2"} && return 1
	case $(causes) in "$1 "*) ;; *) sed -n '/^1\./,/^$/p; /^  ok *use/p' /run/doctor && return 1 ;; esac
}
# Runs what the first finding prints, as it is printed.
fix() {
	awk '/^1\. / { on = 1 } /^2\. / { on = 0 } on && sub(/^   (fix|   )   /, "")' /run/doctor >/run/fix
	while read -r line; do
		sh -c ". /lib.sh; $line" || echo "failed: $line"
	done </run/fix >/run/fixed 2>&1 </run/fix
}
# After the fix it is there, and if anything is left to say, then that nothing uses it.
mended() {
	fix
	is_loaded nf_conntrack || {
		cat /run/fix /run/fixed /run/doctor
		return 1
	}
	doctor || equal "$(causes)" 'unused '
}
gone() {
	iptables-nft -F
	# Who needs others goes first; rules let go of their modules some time after they are deleted.
	tries=0
	while is_loaded nf_conntrack || is_loaded nf_defrag_ipv4; do
		for top in $(awk '/^(nf_|xt_|nft_|iptable_)/ && $3 == 0 { print $1 }' /proc/modules); do
			rmmod "$top" 2>/dev/null
		done
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		sleep 0.1
	done
}
# Nobody checks a signature that is not there. What is compressed gets unpacked; kmod looks at the first bytes.
unsign() {
	case $1 in *.xz) xz -dc "$1" >/run/plain && cat /run/plain >"$1" ;; esac
	length=$(tail -c 32 "$1" | head -c 4 | od -An -tu1 | awk '{ print $1 * 16777216 + $2 * 65536 + $3 * 256 + $4 }')
	[ "$(tail -c 28 "$1")" = '~Module signature appended~' ] || return
	size=$(wc -c <"$1")
	head -c $((size - 28 - 12 - length)) "$1" >/run/unsigned
	cat /run/unsigned >"$1"
}

guard enable >/dev/null
iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP
healthy() {
	doctor || { cat /run/doctor; return 1; }
	equal "$(causes)" ''
}
check healthy healthy
gone
check not_loaded first not-loaded

head -c 20000 /run/saved/nf_conntrack.ko* >"$nf_conntrack"
check cut first file-corrupt
check cut_mended mended
gone

unsign "$nf_conntrack"
at=$(strings -t d "$nf_conntrack" | awk '/vermagic=/ { print $1 + index($0, " SMP") - index($0, "vermagic=") + 1 }')
printf X | dd of="$nf_conntrack" bs=1 seek="$at" conv=notrunc 2>/dev/null
check flags first version-mismatch
check flags_mended mended
gone

mkdir -p /etc/modprobe.d
printf '# one\ninstall nf_conntrack /bin/false\n' >/etc/modprobe.d/x.conf
check install first blacklisted
check install_mended mended
gone
echo 'install nf-defrag-ipv4 /bin/true' >/etc/modprobe.d/x.conf
check install_needed first dependency
check install_needed_mended mended
gone
echo 'alias nf_conntrack off' >/etc/modprobe.d/x.conf
check alias first blacklisted
check alias_mended mended
gone
rm /etc/modprobe.d/x.conf

profile no-conntrack
check guard_rule first guard-policy
check guard_rule_mended mended
rm -r /etc/modprobe-guard/policy.d
profile no-conntrack
rm /etc/modprobe-guard/policy.toml
guard apply >/dev/null
gone

rm "$nf_defrag_ipv4"
check needed_gone first dependency
check needed_gone_mended mended
gone
rm "$nf_defrag_ipv4"
depmod
check needed_unknown first dependency
check needed_unknown_mended mended
gone

# modprobe here can't start without it, whether it has anything to unpack or not.
library=$(find /lib /usr/lib -name 'liblzma.so.5' | head -n 1)
mv "$library" /run/liblzma
# Where the file is packed and the kernel does not unpack it itself, that is the first thing to say.
case $nf_conntrack:$(cat /sys/module/compression 2>/dev/null) in
*.xz:xz | *.ko:*) check library first helper ;;
*) check library first no-support ;;
esac
# shellcheck disable=SC2016 # for sed
sed -i "2a [ -e /run/liblzma ] \\&\\& mv /run/liblzma $library || :" /usr/bin/apt-get
check library_mended mended
gone

rm "$modules/modules.dep.bin"
check no_index first dependency
check no_index_mended mended
gone
rm "$nf_conntrack"
depmod
cp /run/saved/nf_conntrack.ko* "$nf_conntrack"
check stale first dependency
check stale_mended mended
gone

check kernels_blacklist first blacklisted sctp
echo 'options nf_conntrack hashsize=many' >/etc/modprobe.d/x.conf
modprobe nf_conntrack 2>/dev/null
check parameter first insertion-error
check parameter_mended mended
rm /etc/modprobe.d/x.conf
gone

guard disable >/dev/null
echo >/proc/sys/kernel/modprobe
check helper first helper
check helper_mended mended
gone

# What modprobe says of a name, and what the doctor says.
agrees() {
	for name in nf_conntrack xt_conntrack nft_ct iptable_nat tcp_bbr; do
		doctor "$name"
		path=$(modprobe -i -n -v "$name" | tail -n 1 | sed 's/^insmod //; s/ *$//')
		modinfo=$(busybox modinfo -F vermagic "$name" 2>/dev/null || :)
		[ -z "$path" ] || grep -qF "$path" /run/doctor || grep -qF "is part of" /run/doctor || {
			echo "$name: modprobe: $path; $modinfo"
			cat /run/doctor
			return 1
		}
	done
}
check agrees agrees

iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP
echo 2 >/proc/sys/net/netfilter/nf_conntrack_max
for ping in 1 2 3 4; do ping -c 1 -W 1 127.0.0.1 >/run/ping$ping; done
check full first table-full
full_mended() {
	fix
	doctor || { cat /run/doctor; return 1; }
	equal "$(causes)" ''
}
check full_mended full_mended
gone
rm -f /etc/sysctl.d/99-nf_conntrack.conf

iptables-legacy -t nat -L >/dev/null
check unused first unused
check unused_mended sh -c '. /lib.sh; grep -q "xtables-legacy" /run/doctor && awk "/fix   / { print substr(\$0, 10) }" /run/doctor | head -n 1 >/run/fix && . /run/fix && not is_loaded nf_conntrack'

iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP
mv "$(file nf_nat)" /run
check way_up first dependent-missing
mv /run/nf_nat.ko* "$(dirname "$nf_conntrack")"
gone

# From here on the kernel does not go back.
unsign "$nf_conntrack"
echo 1 >/sys/module/module/parameters/sig_enforce
check unsigned first signature
check unsigned_mended mended
gone
check nobody sh -c '/usr/bin/setpriv --reuid 1000 --clear-groups guard doctor >/run/doctor; [ $? -eq 1 ] && grep -q "(not-loaded)" /run/doctor'
check dumb sh -c 'guard doctor no_such_module >/run/doctor; [ $? -eq 1 ] && grep -q "(file-missing)" /run/doctor'
# Modules are many: of these the dates do.
looked_at() {
	find /lib/modules -type f -exec ls -l --full-time {} +
	find /etc /var /proc/sys/kernel/modprobe -type f -exec ls -l {} + -exec md5sum {} +
}
looked_at >/run/before
doctor
looked_at >/run/after
check touches_nothing cmp /run/before /run/after
echo 1 >/proc/sys/kernel/modules_disabled
check disabled first modules-disabled
finish
