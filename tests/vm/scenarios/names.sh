# A thousand names of every kind of byte, asked for by an unprivileged user: each is told of exactly once.
# checks: armed all_answered told_of_each names_as_shown one_line_each nothing_foreign nothing_came_in kernel_log_clean
# kernels: 6.1 newest
. /lib.sh

trace=/sys/kernel/tracing
check armed guard enable
ask alg hash warm-up >/dev/null
mount -t tracefs tracefs $trace
# Names of tasks are not needed, and to record them the kernel would patch its scheduler, which emulators get wrong.
echo 0 >$trace/options/record-cmd
echo 1 >$trace/events/module/module_request/enable
before=$(guard log --json | wc -l)
modules=$(cut -d' ' -f1 /proc/modules)
setpriv --reuid 1000 --clear-groups hostile 340 7 >/run/shown
echo 0 >$trace/events/module/module_request/enable
# What the kernel counts: the two names of each, and on some kernels a third that is not hostile.
asked=$(grep -c ': module_request: ' $trace/trace)
check all_answered [ "$asked" -ge "$(wc -l </run/shown)" ]
guard log --json | tail -n +$((before + 1)) >/run/log
# Those beyond the first of a kind in a minute may be counted instead of written.
written=$(grep -cv '"thinned":' /run/log)
counted=$(sed -n 's/.*"thinned":\([0-9]*\).*/\1/p' /run/log | awk '{ sum += $1 } END { print sum + 0 }')
# On a machine so slow that our own work takes over 2 s, an answer is given without its record, and the kernel log says so.
late=$(dmesg | grep -c 'modprobe-guard: own work took over 2 s')
check told_of_each [ "$((written + counted))" -le "$asked" -a "$((written + counted + late))" -ge "$asked" ]
sed -n '/"thinned":/d; s/.*"request":{"name":"\(crypto-q.*\)","caller":"kernel"}.*/\1/p' /run/log | sed 's/\\"/"/g; s/\\\\/\\/g' >/run/names
check names_as_shown sh -c '[ "$(sort -u /run/names | wc -l)" -ge 10 ] && ! grep -vxFf /run/shown /run/names'
check one_line_each equal "$(grep -cv '^{"v":1,.*}$' /run/log)" 0
check nothing_foreign equal "$(guard log 2>&1 | grep -c 'no record')" 0
check nothing_came_in equal "$(cut -d' ' -f1 /proc/modules)" "$modules"
# What a name broke off a line would begin with another word.
dmesg | grep -E 'modprobe-guard|verdict=|crypto-q' >/run/dmesg
check kernel_log_clean sh -c 'grep -q "modprobe-guard\[" /run/dmesg && ! grep -vE "modprobe-guard(\[[0-9]*\]: verdict=[a-z-]* |: own work took over)" /run/dmesg'
finish
