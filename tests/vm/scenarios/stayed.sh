# Whose thread becomes another program while it waits, and stays on its way there, is not taken for that program.
# checks: never_another stayed nobody_was_cut_short
. /lib.sh

guard enable >/dev/null
for module in af_alg algif_hash fuse; do modprobe $module; done
cp /bin/swap /bin/other
# One that serves a file and never lets anybody close it.
mkdir -p /tmp/stall
stall /tmp/stall 9 /tmp/never >/run/said 2>&1 &
waited_for asked /run/said
swap stay 20 /bin/other /tmp/stall/file
guard log --json | grep '"name":"crypto-stay[0-9]*",' >/run/records
check never_another not grep '"exe":"/bin/other"' /run/records
check stayed test "$(wc -l </run/records)" -ge 13
check nobody_was_cut_short not sh -c 'dmesg | grep "own work took over"'
# shellcheck disable=SC2046 # one number each
kill -KILL $(grep -l '^stall$' /proc/[0-9]*/comm | sed 's/[^0-9]//g')
finish
