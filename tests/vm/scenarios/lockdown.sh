# A kernel whose memory nobody may read: a recorder that is there goes on (or, on 5.10, is blind and says so), none is made.
# checks: locked right honest not_installed right_without says
. /lib.sh

guard enable >/dev/null
mount -t securityfs security /sys/kernel/security
echo confidentiality >/sys/kernel/security/lockdown
check locked grep -q '\[confidentiality\]' /sys/kernel/security/lockdown
# right CONFIDENCES: the record names whoever asked. A search for waiting tasks that was cut short names nobody, and we ask
# again; a wrong one it never names.
right() {
	for attempt in 1 2 3 4 5 6 7 8 9 10; do
		said=$(ask --uid 1000 socket 9)
		pid=${said#pid=}
		record=$(last_record '"name":"net-pf-9"' | tee /run/record)
		echo "$record" | grep -qE "\"confidence\":\"($1)\".*\"pid\":${pid%% *}," && return 0
		echo "$record" | grep -qE '"confidence":"(exact|likely)"' && break
	done
	echo "attempt $attempt, $said: $record"
	return 1
}
check right right 'exact|likely'
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
check right_without right likely
check says contains "$(cat /run/record)" '"recorder":"/sys/fs/bpf/modprobe-guard/requests-1: open: '
finish
