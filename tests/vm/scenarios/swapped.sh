# Whose thread becomes another program while it waits, which kills it, is not taken for that program.
# checks: known never_another stayed
. /lib.sh

guard enable >/dev/null
for module in af_alg algif_hash; do modprobe $module; done
cp /bin/swap /bin/other
# What it becomes runs all the time, as one does who is about to wait for a module.
swap swap 60 /bin/other
# Of a kind the first twenty are written one by one, and of the rest some are counted.
guard log --json | grep '"name":"crypto-swap[0-9]*",' >/run/records
# Those who waited until they were answered, and those who were killed.
check known grep -q '"exe":"/bin/swap"' /run/records
check never_another not grep '"exe":"/bin/other"' /run/records
check stayed test "$(wc -l </run/records)" -ge 18
finish
