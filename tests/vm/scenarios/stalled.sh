# Who becomes another program for ever is looked at by nobody for long: neither by those who ask for the same, nor by its own
# children, with the recorder and without. (On 5.10 whoever reads its stack waits for it, on a 6.18 who reads nearly anything;
# the others here show what they have.)
# checks: stuck others others_killable again child child_record no_recorder no_recorder_record nobody_was_cut_short
. /lib.sh

guard enable >/dev/null
modprobe fuse
# As udev has it.
chmod 666 /dev/fuse
mkdir -p /tmp/stall
chown 1000:1000 /tmp/stall

# Its request is answered by somebody else, and so it stays open for those who look later.
helper=$(cat /proc/sys/kernel/modprobe)
echo /bin/busybox >/proc/sys/kernel/modprobe
setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urm stall /tmp/stall 9 /tmp/go >/run/said 2>&1 &
waited_for asked /run/said
echo "$helper" >/proc/sys/kernel/modprobe
asker=$(sed -n 's/^asked //p' /run/said)
stalled=$(grep -l '^stall$' /proc/[0-9]*/comm | sed 's/[^0-9]//g')
touch /tmp/go
check stuck sh -c '. /lib.sh; waited_for stuck /run/said && not grep panicked /run/said'
# What waits for a second after its request may have been killed while it waited.
sleep 1

# asks CONFIDENCE: another who asks for the same is answered, and known for who it is, as surely as that (an extended
# regular expression) says.
asks() {
	said=$(timeout -s KILL 60 ask socket 9 3) || return 1
	pid=${said#pid=}
	record=$(last_record "\"pid\":${pid%% *},")
	echo "$record" | grep -E "\"confidence\":\"($1)\"" && contains "$record" '"exe":"/bin/ask"'
}
check others asks exact
# From here on only a kill would wake it: it sleeps as one does who waits for a module.
kill -USR1 "$asker"
check others_killable asks exact
check again asks exact

touch /tmp/go.child
check child waited_for child /run/said
child=$(sed -n 's/^child //p' /run/said)
child_record() {
	tries=0
	until contains "$(last_record "\"pid\":$child,")" '"confidence":"exact"'; do
		sleep 0.1
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
	done
}
check child_record child_record

rm -r /sys/fs/bpf/modprobe-guard
# Where nobody can look at it it may have been the stalled one.
check no_recorder asks 'likely|ambiguous'
check no_recorder_record contains "$(last_record net-pf-9)" '"found_by":"stack"'
check nobody_was_cut_short not sh -c 'dmesg | grep "own work took over"'

# shellcheck disable=SC2086 # one number each
kill -KILL $stalled
finish
