# Whose thread becomes another program while it waits, which kills it, is not taken for that program.
# checks: known never_another stayed asked asks_another asks_known
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

# What it becomes waits for another module, as its thread did before.
cp /bin/swap /bin/asker
# Of another kind than the former ones.
cp /bin/swap /bin/swapper
swapper asks 60 /bin/asker
guard log --json | grep '"name":"crypto-asks[0-9]*",' >/run/records
check asked sh -c 'guard log --json | grep "\"name\":\"crypto-another[0-9]*\"," | grep -q "\"exe\":\"/bin/asker\""'
check asks_another not grep '"exe":"/bin/asker"' /run/records
check asks_known grep -q '"exe":"/bin/swapper"' /run/records
finish
