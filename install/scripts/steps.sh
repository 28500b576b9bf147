# What packages do at installation and removal, for dpkg and rpm alike. install/package puts it into each of their
# scripts: while a package comes or goes there is no file to rely on.
# shellcheck shell=sh disable=SC2034

helper=/usr/sbin/modprobe-guard
kernel_modprobe=/proc/sys/kernel/modprobe
# There while a guard in modprobe's own place is to decide.
armed=/run/modprobe-guard.armed
etc=/etc/modprobe-guard
units='modprobe-guard.service modprobe-guard-flush.timer modprobe-guard-last-flush.service modprobe-guard-metrics.timer'
# What the last of them leaves; it would be told as what is, forever.
prom=/var/lib/prometheus/node-exporter/modprobe-guard.prom

has_systemd() {
    [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

# Whether the kernel is ours to arm: a chroot shows the settings of the machine around it, and a container those of its
# host. Where the root of process 1 is not to be seen, it is taken for ours: the worse mistake is to take away a helper
# that the kernel still has.
is_this_machine() {
    [ -w "$kernel_modprobe" ] && [ ! -e /.dockerenv ] && [ ! -e /run/.containerenv ] || return 1
    first=$(stat -L -c %d:%i /proc/1/root/. 2>/dev/null) || first=
    [ -z "$first" ] || [ "$first" = "$(stat -L -c %d:%i /.)" ] || return 1
    ! { command -v systemd-detect-virt >/dev/null && systemd-detect-virt --container --quiet; }
}

is_armed() {
    is_this_machine && [ "$(cat "$kernel_modprobe")" = "$helper" ]
}

has_selinux() {
    [ -e /sys/fs/selinux/enforce ] && is_this_machine && command -v semodule >/dev/null
}

# Directories, units, and the policy in force. A host that is armed stays so, one that was disarmed as well; nothing
# that goes wrong here leaves a package half installed.
settle() {
    # rpm leaves it to chance when what a file holds gets to the disk; its name may be there before.
    sync "$helper" || :
    mkdir -p "$etc/policy.d"
    # install.sh's are not compressed, and would be found before ours, and outlive us.
    rm -f /usr/share/man/man8/guard.8 /usr/share/man/man8/modprobe-guard.8 /usr/share/man/man5/modprobe-guard.toml.5
    [ -d /var/log/modprobe-guard ] || mkdir -m 750 /var/log/modprobe-guard
    # Before anything is armed: what is made from then on gets its label by the module.
    if has_selinux; then
        semodule -X 200 -i /usr/lib/modprobe-guard/selinux/modprobe-guard.cil ||
            echo "modprobe-guard: semodule: failed; what the guard records may be lost" >&2
        restorecon -RF /run/modprobe-guard /run/modprobe.d /var/log/modprobe-guard 2>/dev/null || :
    fi
    was_armed=
    ! { is_armed || [ -e "$armed" ]; } || was_armed=yes
    if has_systemd; then
        systemctl daemon-reload || :
        for unit in $units; do
            ! systemctl is-enabled --quiet "$unit" 2>/dev/null || start "$unit" ||
                echo "modprobe-guard: $unit: did not start; see systemctl status $unit" >&2
        done
    elif is_this_machine; then
        echo "modprobe-guard: systemd is not running: have 'guard enable' run at boot, and 'guard log --flush' every minute"
    fi
    # What the former version put in force this one may not read, and then the files would decide.
    [ -z "$was_armed" ] || guard apply ||
        echo "modprobe-guard: nothing was applied, see above; mend the files, then: guard apply" >&2
}

# Never take away a program that the kernel or modprobe is going to run, even if `guard` itself is broken.
disarm() {
    if has_systemd; then
        # shellcheck disable=SC2086 # a list of names
        systemctl stop $units || :
    fi
    rm -f "$prom"
    is_this_machine || return 0
    guard log --flush || echo "modprobe-guard: records that are left: /run/modprobe-guard" >&2
    # An active unit disarms when it stops; one that failed at its start does not.
    guard disable || :
    rm -f /run/modprobe.d/modprobe-guard.conf "$armed"
    if is_armed; then
        former=/sbin/modprobe
        [ ! -f /run/modprobe-guard/former-helper ] || former=$(cat /run/modprobe-guard/former-helper)
        printf '%s\n' "$former" >"$kernel_modprobe"
        ! is_armed || { echo "modprobe-guard: $kernel_modprobe still names $helper, which therefore stays" >&2; return 1; }
    fi
    ! has_selinux || semodule -X 200 -r modprobe-guard || echo "modprobe-guard: semodule -X 200 -r modprobe-guard: failed" >&2
    # Unless there are records that no disk took.
    [ -s /run/modprobe-guard/audit.jsonl ] || [ -e /run/modprobe-guard/audit.jsonl.flushing ] || rm -rf /run/modprobe-guard
}

# The real modprobe has its place back before ours goes, also in an image, which no kernel runs.
undivert() {
    sh /usr/lib/modprobe-guard/divert.sh off || :
    [ "$(readlink -f /sbin/modprobe)" != "$(readlink -f "$helper")" ] ||
        { echo "modprobe-guard: /sbin/modprobe is still the guard, which therefore stays" >&2; return 1; }
}
