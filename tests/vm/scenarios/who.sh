# Rules that ask who: what passes for the host's dockerd and what does not.
# checks: sound host_file link copy renamed other_root mounted_over private_tmp upgraded removed forged_deleted forged_descriptor ancestor ancestor_not unit container not_container user other_user user_namespace recorder_lost refused refused_stays caller
. /lib.sh

modprobe af_alg
modprobe algif_hash
mount -t cgroup2 cgroup /sys/fs/cgroup
docker=/sys/fs/cgroup/system.slice/docker.service
box=/sys/fs/cgroup/system.slice/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope
mkdir -p $docker $box
cp /bin/ask /usr/bin/dockerd
cp /bin/busybox /usr/bin/busybox-daemon
ln -s /usr/bin /usr/links
guard enable >/dev/null
policy <<'P'
version = 1
[[rule]]
id = "docker"
requests = ["crypto-exe*"]
requester = { exe = "/usr/links/dockerd" }
action = "allow"
[[rule]]
id = "daemon"
requests = ["crypto-exe*", "crypto-anc*"]
requester = { ancestor = ["/usr/bin/busybox-daemon"] }
action = "allow"
[[rule]]
id = "nobody"
requests = ["crypto-exe*", "crypto-anc*"]
action = "block"
[[rule]]
id = "unit"
requests = ["crypto-unit*"]
requester = { unit = ["docker.*"] }
action = "block"
[[rule]]
id = "boxed"
requests = ["crypto-box*"]
requester = { container = "0123456789ab" }
action = "block"
[[rule]]
id = "users"
requests = ["crypto-uid*"]
requester = { uid = ["!0", "!1000-1999"] }
action = "block"
[[rule]]
id = "nested"
requests = ["crypto-userns*"]
requester = { userns = "other" }
action = "block"
[[rule]]
id = "by-hand"
modules = ["vsock"]
requester = { caller = ["modprobe", "hook"] }
action = "block"
P
check sound guard status

# runs PID: waits until that process runs dockerd
runs() {
	until readlink "/proc/$1/exe" | grep -q dockerd; do :; done
}
# rule NAME: the rule that decided over the last request for NAME
rule() {
	last_record "\"name\":\"crypto-$1\"" | sed -E 's/.*"rule":"?([^",]*)"?,.*/\1/'
}
# decided RULE NAME COMMAND...: what is found out too late on a busy machine permits nobody, and we ask again.
decided() {
	wanted=$1 name=$2
	shift 2
	for attempt in 1 2 3 4 5; do
		"$@" alg hash "$name" >/dev/null
		[ "$(rule "$name")" != "$wanted" ] || return 0
	done
	equal "attempt $attempt: $(rule "$name")" "$wanted"
}
check host_file decided docker exe1 dockerd
check link decided docker exe2 /usr/links/dockerd
cp /usr/bin/dockerd /tmp/dockerd
/tmp/dockerd alg hash exe3 >/dev/null
check copy equal "$(rule exe3)" nobody
ln -s /bin/ask /tmp/link
(cd /tmp && rm dockerd && mv link dockerd && ./dockerd alg hash exe4 >/dev/null)
check renamed equal "$(rule exe4)" nobody
mkdir -p /mnt/usr/bin
cp /bin/ask /mnt/usr/bin/dockerd
unshare -m chroot /mnt /usr/bin/dockerd alg hash exe5 >/dev/null
check other_root equal "$(rule exe5)" nobody
unshare -m sh -c 'mount --bind /bin/ask /usr/bin/dockerd; /usr/bin/dockerd alg hash exe6' >/dev/null
check mounted_over equal "$(rule exe6)" nobody
check private_tmp decided docker exe7 unshare -m sh -c 'mount -t tmpfs tmp /tmp; /usr/bin/dockerd "$@"' sh

# Replaced while it runs, then removed.
/usr/bin/dockerd --after /run/go8 alg hash exe8 >/dev/null &
runs $!
cp /bin/ask /usr/bin/new
mv -f /usr/bin/new /usr/bin/dockerd
touch /run/go8
wait $!
check upgraded equal "$(rule exe8)" docker
/usr/bin/dockerd --after /run/go9 alg hash exe9 >/dev/null &
running=$!
runs $running
rm /usr/bin/dockerd
touch /run/go9
wait $running
check removed equal "$(rule exe9)" docker
cp /bin/ask /usr/bin/dockerd

# Another file of that path that is deleted too: in a mount namespace of its own, and run from there by us.
mkdir -p /root/bin
cp /bin/ask /root/bin/dockerd
unshare -m sh -c 'mount --bind /root/bin /usr/bin; /usr/bin/dockerd --after /run/go10 alg hash exe10 & until readlink /proc/$!/exe | grep -q dockerd; do :; done; rm /root/bin/dockerd; touch /run/go10; wait' >/dev/null
check forged_deleted equal "$(rule exe10)" nobody
cp /bin/ask /root/bin/dockerd
unshare -m sh -c 'mount --bind /root/bin /usr/bin; echo $$ >/run/there; while [ ! -e /run/go12 ]; do sleep 0.1; done' &
there=$!
waited_for '^[0-9]' /run/there
"/proc/$(cat /run/there)/root/usr/bin/dockerd" --after /run/go11 alg hash exe11 >/dev/null &
running=$!
runs $running
rm /root/bin/dockerd
touch /run/go11
wait $running
check forged_descriptor equal "$(rule exe11) $(last_record crypto-exe11 | grep -o '"exe":"/usr/bin/dockerd (deleted)"')" 'nobody "exe":"/usr/bin/dockerd (deleted)"'
touch /run/go12
wait $there

check ancestor decided daemon anc1 /usr/bin/busybox-daemon sh -c 'ask "$@"; :' sh
sh -c 'ask alg hash anc2; :' >/dev/null
check ancestor_not equal "$(rule anc2)" nobody

sh -c "echo \$\$ >$docker/cgroup.procs; ask alg hash unit1; :" >/dev/null
ask alg hash unit2 >/dev/null
check unit equal "$(rule unit1) $(rule unit2)" 'unit null'
sh -c "echo \$\$ >$box/cgroup.procs; ask alg hash box1; :" >/dev/null
check container equal "$(rule box1)" boxed
ask alg hash box2 >/dev/null
check not_container equal "$(rule box2)" null
ask --uid 2000 alg hash uid1 >/dev/null
check other_user equal "$(rule uid1)" users
ask --uid 1000 alg hash uid2 >/dev/null
ask alg hash uid3 >/dev/null
check user equal "$(rule uid2) $(rule uid3)" 'null null'
unshare -U ask alg hash userns1 >/dev/null
ask alg hash userns2 >/dev/null
check user_namespace equal "$(rule userns1) $(rule userns2)" 'nested null'
check caller sh -c '! modprobe-guard --hook vsock 2>/dev/null && ask socket 40 >/dev/null && grep -q "^vsock " /proc/modules'

# Without the recorder nobody is known exactly enough to be permitted; who is to be stopped is stopped.
rm /sys/fs/bpf/modprobe-guard/*
dockerd alg hash exe20 >/dev/null
recorder_lost() {
	! guard status >/run/status || return 1
	contains "$(cat /run/status)" 'permits only whom we know exactly' || return 1
	equal "$(rule exe20)" nobody
}
check recorder_lost recorder_lost

# A kernel that gives one answer to all: rules that ask who are refused.
mkdir -p /boot
echo 'CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS=y' >"/boot/config-$(uname -r)"
echo '# changed' >>/etc/modprobe-guard/policy.toml
check refused sh -c '. /lib.sh; ! guard enable 2>/run/said && contains "$(cat /run/said)" CONFIG_MODULE_DEBUG_AUTOLOAD_DUPS'
check refused_stays contains "$(cat /run/said)" 'the policy in force stays'
finish
