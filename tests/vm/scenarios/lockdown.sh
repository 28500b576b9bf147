# A kernel whose memory nobody may read: a recorder that is there goes on (or, on 5.10, is blind and says so), none is made.
# checks: locked right honest not_installed right_without says
. /lib.sh

guard enable >/dev/null
mount -t securityfs security /sys/kernel/security
echo confidentiality >/sys/kernel/security/lockdown
check locked grep -q '\[confidentiality\]' /sys/kernel/security/lockdown
check right named 'exact|likely' net-pf-9 --uid 1000 socket 9
honest() {
	record=$(cat /run/record)
	case $record in
	*'"exact"'*) contains "$(guard status)" 'recorder works' ;;
	*) contains "$record" '"recorder":"the recorder holds no such request"' && contains "$(guard status)" 'recorder does not work: the kernel was locked down' ;;
	esac
}
check honest honest
guard disable >/dev/null
check not_installed contains "$(guard enable)" 'no recorder: the kernel is locked down (confidentiality)'
check right_without named likely net-pf-9 --uid 1000 socket 9
check says contains "$(cat /run/record)" '"recorder":"/sys/fs/bpf/modprobe-guard/requests-2: open: '
finish
