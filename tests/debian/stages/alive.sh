# After a power cut: it boots, and what the policy allows is loaded; the package can be mended.
# checks: root helper allowed mended
. ./lib.sh
check root sh -c 'findmnt -n -o OPTIONS / | grep "^rw"'
# Ours and whole, or the kernel's own.
check helper sh -c '
	helper=$(cat /proc/sys/kernel/modprobe)
	[ "$helper" = "$(cat /root/former)" ] || { [ "$helper" = /usr/sbin/modprobe-guard ] && modprobe-guard --version; }'
check allowed perl -e 'exit !socket(S, 38, 5, 0)'
# A package that was cut off while it was unpacked dpkg wants installed again, not configured.
mended() {
	dpkg --configure -a
	dpkg -i ./modprobe-guard_0.1.0-1_amd64.deb || return 1
	equal "$(cat /proc/sys/kernel/modprobe)" /usr/sbin/modprobe-guard && rmmod af_alg && perl -e 'exit !socket(S, 38, 5, 0)'
}
check mended mended
finish
