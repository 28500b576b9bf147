# A boot came to its end: root mounted, armed, nothing failed.
# checks: root armed blocked allowed failed
. ./lib.sh
check root sh -c 'findmnt -n -o SOURCE,OPTIONS / | grep "^/dev/vda rw"'
check armed contains "$(guard status --json)" '"armed":true'
check blocked not modprobe nf_conntrack
check allowed perl -e 'exit !socket(S, 38, 5, 0)'
check failed equal "$(systemctl list-units --failed --plain --no-legend)" ''
finish
