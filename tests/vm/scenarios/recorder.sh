# Who asked, exactly: what the kernel writes down, for many at once, and what is left when it is taken away.
# memory: 1536
# checks: installed works different_exact different_all same_candidates same_then_exact killed_never_another among_many nowait stuck_described stuck_no_cmdline userns sums again second_misses_none second_wrote pins_gone pins_gone_says back no_bpffs removed gone
. /lib.sh

guard enable >/run/said
check installed contains "$(cat /run/said)" 'recorder: at the kernel'
for module in af_alg algif_hash nfnetlink; do modprobe $module; done

# requests of the kernel that the recorder has seen
seen() {
	guard status --json | sed -E 's/.*"recorder":\{"works":true,"requests":([0-9]+).*/\1/'
}
# Columns from records of storm's names: process, thread and user by the name; confidence, process, thread, user by the record.
columns() {
	guard log --json | sed -nE 's/.*"name":"crypto-s([0-9]+)\.([0-9]+)\.([0-9]+)\.[0-9]+(-all)?","caller":"kernel"\},"requester":\{"confidence":"([a-z]+)".*,"pid":([0-9]+|null),"tid":([0-9]+|null),.*"uid":([0-9]+|null),"euid":.*/\1 \2 \3 \5 \6 \7 \8/p'
}
check works equal "$(seen)" 0

storm different 50 2
columns >/run/different
# shellcheck disable=SC2016 # for awk
check different_exact awk '$4 != "exact" || $1 != $5 || $2 != $6 || $3 != $7 { print; bad = 1 } END { exit bad }' /run/different
# Each asks twice; a kind's first twenty are always written, and each user is a kind. Who is out of time on a machine as
# busy as this one has said so.
late=$(dmesg | grep -c 'own work took over')
lines=$(wc -l </run/different)
check different_all test "$lines" -le 200 -a "$((lines + late))" -ge 200

storm same 20 samename | sort >/run/same
same_candidates() {
	# Those that were counted instead of written name nobody.
	guard log --json | grep '"name":"crypto-samename"' | grep -v '"thinned":' >/run/records
	grep -q . /run/records || return 1
	# Whoever is named is one of those that asked; nobody is named alone twice.
	grep -oE '"pid":[0-9]+,"tid":[0-9]+' /run/records | sed -E 's/[^0-9]+/ /g; s/^ //' | sort -u | grep -vxFf /run/same && return 1
	grep '"confidence":"exact"' /run/records | sed -E 's/.*"tid":([0-9]+).*/\1/' | sort | uniq -d | grep . && return 1
	not grep -vE '"confidence":"(exact|ambiguous)"' /run/records
}
check same_candidates same_candidates
sleep 1
said=$(ask --uid 4000 alg hash samename)
pid=${said#pid=}
check same_then_exact contains "$(last_record '"name":"crypto-samename"')" "\"confidence\":\"exact\",\"found_by\":\"recorder\",\"call_site\":\"crypto"
check among_many sh -c '. /lib.sh; storm among 500; contains "$(last_record ".2999.0\"")" "\"comm\":\"storm\",\"exe\":\"/bin/storm\""'

storm killed 20
# Nobody waits for the answers of those who were killed: they come when they come.
answers() {
	columns | awk '$3 >= 3000 && $3 < 4000' | wc -l
}
killed_never_another() {
	tries=0
	until [ "$(answers)" -ge 10 ] || [ $tries -ge 300 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	columns | awk '$3 >= 3000 && $3 < 4000 { n++ } $3 >= 3000 && $3 < 4000 && $4 == "exact" && ($1 != $5 || $2 != $6 || $3 != $7) { print; bad = 1 } END { exit bad || n < 10 }'
}
check killed_never_another killed_never_another

said=$(ask group 8)
pid=${said#pid=}
# Nobody waits for the answer: it is there when it is there.
settled() {
	tries=0
	until [ -n "$(last_record "$1")" ]; do
		sleep 0.1
		tries=$((tries + 1))
		[ $tries -lt 300 ] || return 1
	done
	contains "$(last_record "$1")" "$2"
}
check nowait settled '"name":"nfnetlink-subsys-7"' "\"pid\":${pid%% *},"

storm stuck &
wait $!
record=$(last_record '.0.0"')
check stuck_described contains "$record" '"exe":"/bin/storm","cmdline":null,"uid":0'
check stuck_no_cmdline contains "$record" '"confidence":"exact"'
unshare -U ask alg hash inside >/dev/null
check userns contains "$(last_record '"crypto-inside"')" '"userns":"other","mntns":"host","netns":"host"'

sums() {
	# What is written, counted, or told to the kernel's log because we were out of time.
	guard log --json | awk '/"thinned":/ { sub(/.*"thinned":/, ""); sum += $1; next } /"caller":"kernel"/ { sum++ } END { print sum + 0 }' >/run/sum
	sum=$(cat /run/sum)
	late=$(dmesg | grep -c 'own work took over')
	# Whose time runs out once its record is written has both.
	[ "$sum" -le "$(seen)" ] && [ "$((sum + late))" -ge "$(seen)" ] || echo "written $sum, late $late, seen $(seen)"
}
check sums equal "$(sums)" ''

late=$(dmesg | grep -c 'own work took over')
check again contains "$(guard enable)" 'recorder: there already'
# Its second program alone: no task that has to make way in the midst of it keeps others out. Users that did not ask before.
rm /sys/fs/bpf/modprobe-guard/link-1
storm different 50 2 5000
storm different 50 2 6000
columns | awk '$3 >= 5000' >/run/second
# shellcheck disable=SC2016 # for awk
check second_misses_none awk '$4 != "exact" || $1 != $5 || $2 != $6 || $3 != $7 { print; bad = 1 } END { exit bad }' /run/second
late=$(($(dmesg | grep -c 'own work took over') - late))
lines=$(wc -l </run/second)
check second_wrote test "$lines" -le 400 -a "$((lines + late))" -ge 400
guard enable >/dev/null
rm /sys/fs/bpf/modprobe-guard/requests-2
check pins_gone named likely net-pf-9 --uid 1000 socket 9
check pins_gone_says contains "$(cat /run/record)" '"recorder":"/sys/fs/bpf/modprobe-guard/requests-2: open: No such file'
guard enable >/dev/null
ask socket 12 >/dev/null
check back contains "$(last_record '"name":"net-pf-12"')" '"confidence":"exact"'
umount -l /sys/fs/bpf
check no_bpffs named likely net-pf-36 --uid 1000 socket 36
guard enable >/dev/null
ask socket 3 >/dev/null
check removed sh -c '. /lib.sh; contains "$(last_record "net-pf-3\"")" "\"found_by\":\"recorder\"" && contains "$(guard disable)" "recorder: taken out"'
check gone not ls /sys/fs/bpf/modprobe-guard
finish
