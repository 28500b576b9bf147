# sysctl.d, late: what a load brings gets the values that systemd-sysctl would have given it had it been there.
# programs: /lib/systemd/systemd-sysctl
# checks: ours_differ_from_default same_as_systemd only_new bridge recorded refused
. /lib.sh

mkdir -p /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d /usr/local/lib/sysctl.d
put() { cat >"$1"; }
put /usr/lib/sysctl.d/10-distribution.conf <<'S'
# overlapped by later ones
net.netfilter.nf_conntrack_max = 111111
net.netfilter.nf_conntrack_tcp_timeout_established = 1111
net/netfilter/nf_conntrack_tcp_loose=0
S
put /usr/lib/sysctl.d/20-hidden.conf <<'S'
net.netfilter.nf_conntrack_acct = 1
S
put /etc/sysctl.d/20-hidden.conf </dev/null
put /run/sysctl.d/30-globs.conf <<'S'
net.netfilter.nf_conntrack_tcp_timeout_* = 77
-net.netfilter.nf_conntrack_tcp_timeout_close_wait
net.netfilter.nf_conntrack_udp_timeout* = 33
S
put /usr/local/lib/sysctl.d/40-local.conf <<'S'
; semicolons comment too
  net.netfilter.nf_conntrack_generic_timeout   =   444  
-net.netfilter.no_such_key = 5
S
put /etc/sysctl.d/50-own.conf <<'S'
net.netfilter.nf_conntrack_tcp_timeout_established = 86400
net.netfilter.nf_conntrack_icmp_timeout = 9
S
put /etc/sysctl.d/60-again.conf <<'S'
net.netfilter.nf_conntrack_icmp_timeout = 10
net.netfilter.nf_conntrack_icmp_timeout = 11
S
put /etc/sysctl.d/70-dashes.conf <<'S'
-net.netfilter.nf_conntrack_tcp_max_retrans = 5
net.ipv4.conf.lo.arp_ignore = 1
S
put /etc/sysctl.d/80-bridge.conf <<'S'
net.bridge.bridge-nf-call-* = 0
net.bridge.bridge-nf-call-arptables = 1
S
put /etc/sysctl.d/90-slash.conf <<'S'
net/netfilter/nf_conntrack_log_invalid = 255
net.netfilter.nf_conntrack_frag*_timeout = 12
S
put /etc/sysctl.d/99-last.conf <<'S'
net.netfilter.nf_conntrack_max = 222222
net.netfilter.nf_conntrack_buckets = 65536
S
ln -s /dev/null /etc/sysctl.d/10-nothing.conf
put /etc/sysctl.d/README <<'S'
net.netfilter.nf_conntrack_tcp_loose = 1
S

values() {
	for key in /proc/sys/net/netfilter/nf_conntrack_* /proc/sys/net/bridge/*; do
		case $key in *_count) ;; *) echo "$key $(cat "$key" 2>/dev/null)" ;; esac
	done
}
everything_gone() {
	modprobe -r br_netfilter bridge nf_conntrack
}
policy <<'P'
version = 1
[[rule]]
id = "size"
modules = ["nf_conntrack", "br_netfilter"]
action = "allow-sysctl"
P
modprobe nf_conntrack
modprobe br_netfilter
values >/run/default
everything_gone
guard enable >/dev/null
modprobe-guard nf_conntrack
last_record >/run/record
modprobe-guard br_netfilter
values >/run/ours
check ours_differ_from_default not cmp -s /run/default /run/ours
guard disable >/dev/null
everything_gone
modprobe nf_conntrack
modprobe br_netfilter
/lib/systemd/systemd-sysctl
values >/run/theirs
check same_as_systemd diff /run/theirs /run/ours

# What was there before is not set again.
echo 0 >/proc/sys/net/ipv4/conf/lo/arp_ignore
everything_gone
guard enable >/dev/null
modprobe-guard br_netfilter
check only_new equal "$(cat /proc/sys/net/ipv4/conf/lo/arp_ignore)" 0
check bridge equal "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables) $(cat /proc/sys/net/bridge/bridge-nf-call-arptables)" '0 1'
check recorded grep -q '"key":"net.netfilter.nf_conntrack_icmp_timeout","before":30,"after":11' /run/record
echo 'net.netfilter.nf_conntrack_tcp_loose = perhaps' >/etc/sysctl.d/99-wrong.conf
everything_gone
modprobe-guard nf_conntrack
check refused contains "$(last_record nf_conntrack_tcp_loose)" '"error":"/proc/sys/net/netfilter/nf_conntrack_tcp_loose: write'
finish
