# iptables-legacy in roots of its own, where our helper is not: a chroot, another mount namespace, a user namespace.
# checks: stock_works stock_user_refused loaded recorded chroot_works chroot_works_ipv6 namespace_works covered quiet_again user_asks user_known tables_of_users tables_of_users_root held held_fails held_open held_host_works held_mounted user_refused blocked blocked_fails blocked_covered default_blocked blacklisted commanded partly unloadable disabled_works stock_user_nft
# kernels: 6.1 5.10
. /lib.sh

root=/srv/root
own() { chroot $root "$@"; }
gone() {
	for module in iptable_nat ip6table_filter ip_tables ip6_tables; do /sbin/modprobe -r $module 2>/dev/null; done
}
# A person who is root in a user namespace of his own, and nowhere else.
user() { setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urn "$@"; }
rule() { printf 'version = 1\n[[rule]]\nid = "r"\nmodules = [%s]\naction = "block"\n%s\n' "$1" "${2:-}" | policy; }
arm() { guard enable >/run/said 2>&1; }
said() { contains "$(cat /run/said)" "$1"; }
way() { contains "$(guard status)" "$1 iptables-legacy in containers and chroots"; }

# All that the host has, but for us.
mkdir -p $root/lib/modules $root/proc $root/dev $root/run $root/tmp
cp -a /bin /sbin /usr /lib64 $root
for part in /lib/*; do [ "$part" = /lib/modules ] || cp -a "$part" $root/lib; done
rm $root/usr/sbin/modprobe-guard $root/usr/sbin/guard
mount --bind /lib/modules $root/lib/modules
mount -t proc proc $root/proc
cp -a /dev/null $root/dev

check stock_works own iptables-legacy -t nat -L
gone
check stock_user_refused sh -c '. /lib.sh; ! setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urn iptables-legacy -t nat -L && not is_loaded ip_tables'

arm
check loaded said 'loaded ip_tables, ip6_tables:'
check recorded contains "$(last_record '"name":"ip_tables","caller":"xtables"')" '"exe":"/usr/sbin/guard"'
check chroot_works own iptables-legacy -t nat -L
check chroot_works_ipv6 own ip6tables-legacy -t filter -L
gone
arm
check namespace_works unshare -m sh -c "mount --bind $root/usr /usr && ! [ -e /usr/sbin/modprobe-guard ] && iptables-legacy -t nat -L"
check covered way 'covered '
arm
check quiet_again not said ip_tables

# What that opens: a user namespace may ask for tables now, and each is asked of us.
gone
arm
check user_asks user iptables-legacy -t nat -L
check user_known contains "$(last_record '"name":"iptable_nat"')" '"userns":"other"'
rule '"iptable_*", "ip6table_*"' 'requester = { userns = "other" }'
gone
arm
check tables_of_users sh -c '. /lib.sh; is_loaded ip_tables && ! setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urn iptables-legacy -t nat -L && not is_loaded iptable_nat'
check tables_of_users_root own iptables-legacy -t nat -L

# A rule that asks who: a load would be for those too whom it means.
rule '"ip_tables", "ip6_tables"' 'requester = { userns = "other" }'
gone
arm
check held said 'not loaded: ip_tables, ip6_tables: rule "r" (/etc/modprobe-guard/policy.toml:2) asks who'
check held_fails sh -c ". /lib.sh; ! chroot $root iptables-legacy -t nat -L && not is_loaded ip_tables"
check held_open way 'open    '
check user_refused not user iptables-legacy -t nat -L
check held_host_works iptables-legacy -t nat -L
gone
: >$root/usr/sbin/modprobe-guard
mount --bind /usr/sbin/modprobe-guard $root/usr/sbin/modprobe-guard
check held_mounted own iptables-legacy -t nat -L
umount $root/usr/sbin/modprobe-guard
rm $root/usr/sbin/modprobe-guard

rule '"ip_tables", "ip6_tables"'
gone
arm
check blocked said 'not loaded: ip_tables, ip6_tables: rule "r" (/etc/modprobe-guard/policy.toml:2) blocks it'
check blocked_fails sh -c ". /lib.sh; ! chroot $root iptables-legacy -t nat -L && not is_loaded ip_tables"
check blocked_covered way 'covered '
printf 'version = 1\n[defaults]\naction = "block"\n' | policy
arm
check default_blocked sh -c '. /lib.sh; grep -q "not loaded: ip_tables, ip6_tables: defaults.action" /run/said && not is_loaded ip_tables'
rule '"ip6_tables"'
arm
check partly sh -c '. /lib.sh; grep -q "^loaded ip_tables:" /run/said && grep -q "not loaded: ip6_tables: rule" /run/said && is_loaded ip_tables && not is_loaded ip6_tables'
gone

# modprobe.d holds it back.
rule '"x"'
mkdir -p /etc/modprobe.d
printf 'blacklist ip_tables\nblacklist ip6_tables\n' >/etc/modprobe.d/own.conf
arm
check blacklisted sh -c '. /lib.sh; grep -q "not loaded: ip_tables: modprobe.d blacklists it (/etc/modprobe.d/own.conf:1)" /run/said && not is_loaded ip_tables'
echo 'install x_tables /bin/false' >/etc/modprobe.d/own.conf
arm
check commanded sh -c '. /lib.sh; grep -q "not loaded: ip_tables, ip6_tables: modprobe.d runs a command in place of x_tables (/etc/modprobe.d/own.conf:1)" /run/said && not is_loaded x_tables'
# What modprobe can't load is said as well, and arming is done all the same.
echo 'options ip_tables' >/etc/modprobe.d/own.conf
file=$(find /lib/modules -name 'ip_tables.ko*')
mount --bind /dev/null "$file"
check unloadable sh -c '. /lib.sh; guard enable >/run/said && grep -q "not loaded: ip_tables: .*ended with" /run/said && not is_loaded ip_tables'
umount "$file"

gone
guard disable >/dev/null
check disabled_works own iptables-legacy -t nat -L
gone
# To connection tracking users came before, by another way.
user sh -c 'nft add table t && nft add chain t c "{ type nat hook output priority 0; }"'
check stock_user_nft sh -c '. /lib.sh; is_loaded nft_chain_nat && is_loaded nf_conntrack && not is_loaded ip_tables'
finish
