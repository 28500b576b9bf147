# A kernel whose memory nobody may read: no recorder, and the record says so.
# checks: locked likely says status not_installed
. /lib.sh

guard enable >/dev/null
mount -t securityfs security /sys/kernel/security
echo confidentiality >/sys/kernel/security/lockdown
check locked grep -q '\[confidentiality\]' /sys/kernel/security/lockdown
likely() {
	for attempt in 1 2 3 4 5 6 7 8 9 10; do
		said=$(ask --uid 1000 socket 9)
		pid=${said#pid=}
		record=$(last_record '"name":"net-pf-9"')
		case $record in *"\"confidence\":\"likely\""*"\"pid\":${pid%% *},"*) return 0 ;; *'"confidence":"likely"'*) break ;; esac
	done
	echo "attempt $attempt, $said: $record"
	return 1
}
check likely likely
check says contains "$record" '"recorder":"the recorder holds no such request"'
check status contains "$(guard status)" 'recorder does not work: the kernel was locked down'
guard disable >/dev/null
check not_installed contains "$(guard enable)" 'no recorder: the kernel is locked down (confidentiality)'
finish
