#!/bin/sh
# Builds (if need be), installs, arms and verifies modprobe-guard. Running it again changes nothing.
#
#   sudo install/install.sh [--profile NAME]         NAME: a file of conf/profiles, without .toml
#   sudo install/install.sh --divert                 also as /sbin/modprobe itself (LKRG, CONFIG_STATIC_USERMODEHELPER)
#   sudo install/install.sh --uninstall [--purge]    --purge: also edited policies and logs
#   DESTDIR=DIR install/install.sh [--profile NAME]  only puts the files below DIR
#
# Nothing is armed by way of sysctl.d or /etc/modprobe.d: initramfs builders copy those, and a helper path that points at
# nothing there can keep the root from being mounted. What `guard enable` writes for modprobe lies in /run/modprobe.d.
set -eu
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${DESTDIR:-}
while [ "$root" != "${root%/}" ]; do root=${root%/}; done
# DESTDIR=/ is this machine.
staging=${root:+yes}
helper=/usr/sbin/modprobe-guard
kernel_modprobe=/proc/sys/kernel/modprobe
armed=/run/modprobe-guard.armed
etc=/etc/modprobe-guard
lib=/usr/lib/modprobe-guard
units='modprobe-guard.service modprobe-guard-early.service modprobe-guard-flush.service modprobe-guard-flush.timer modprobe-guard-last-flush.service
    modprobe-guard-metrics.service modprobe-guard-metrics.timer modprobe-guard-divert.service modprobe-guard-divert.path'
papers='/usr/share/man/man8/guard.8 /usr/share/man/man8/modprobe-guard.8 /usr/share/man/man5/modprobe-guard.toml.5
    /usr/share/bash-completion/completions/guard /usr/share/zsh/vendor-completions/_guard
    /usr/share/zsh/site-functions/_guard /usr/share/fish/vendor_completions.d/guard.fish
    /usr/share/modprobe-guard/policy.schema.json /usr/share/modprobe-guard/tests.schema.json'
changed_units=

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

# --- what to do ------------------------------------------------------------------------------------------------------

profile=
divert=
uninstall=
purge=
while [ $# -gt 0 ]; do
    case $1 in
    --profile) [ $# -ge 2 ] || usage; profile=$2; shift ;;
    --profile=*) profile=${1#--profile=} ;;
    --divert) divert=yes ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    *) usage ;;
    esac
    shift
done
[ -z "$purge" ] || [ -n "$uninstall" ] || usage
[ -z "$profile$divert" ] || [ -z "$uninstall" ] || usage
[ -z "$divert" ] || [ -z "$staging" ] || die "--divert: takes a host, not a directory of files; run $lib/divert.sh there"
case $profile in */*) usage ;; esac
[ -n "$staging" ] || [ "$(id -u)" = 0 ] || die "$0: takes root: sudo $0"

# --- files -----------------------------------------------------------------------------------------------------------

# put SOURCE DESTINATION MODE: never half a file there; one that is the same stays. Status 1: it was the same.
put() {
    to=$root$2
    if cmp -s -- "$1" "$to" && [ "$(stat -c %a -- "$to")" = "$3" ]; then
        echo "unchanged  $to"
        return 1
    fi
    mkdir -p -- "${to%/*}"
    # In the same directory, so that mv is a rename: the kernel may run the helper at this very moment.
    temporary=$(mktemp -- "${to%/*}/.${to##*/}.XXXXXX")
    if ! { cat -- "$1" >"$temporary" && chmod "$3" "$temporary" && sync -- "$temporary" && mv -f -- "$temporary" "$to"; }; then
        rm -f -- "$temporary"
        die "$to: not written"
    fi
    if [ -z "$staging" ] && command -v restorecon >/dev/null; then
        restorecon -F -- "$to" || echo "install.sh: $to: restorecon failed; SELinux may not let it run" >&2
    fi
    echo "installed  $to"
}

remove() {
    if [ -e "$root$1" ] || [ -L "$root$1" ]; then
        rm -f -- "$root$1"
        echo "removed    $root$1"
    fi
}

# Whether FILE is as we ship it, now or in the version that is installed: nobody's work is lost with it.
is_shipped() {
    for shipped in "$here"/conf/policy.toml "$here"/conf/profiles/*.toml "$root$lib"/policy.toml "$root$lib"/profiles/*.toml; do
        cmp -s -- "$1" "$shipped" && return 0
    done
    return 1
}

unit_directory() {
    if [ -n "$staging" ] || [ -d /usr/lib/systemd/system ]; then
        echo /usr/lib/systemd/system
    elif [ -d /lib/systemd/system ]; then
        echo /lib/systemd/system
    fi
}

# Where zsh looks for functions of packages: Debian's, or else.
zsh_directory() {
    if [ -n "$staging" ] || [ -d /usr/share/zsh/vendor-completions ] || [ -e /etc/debian_version ]; then
        echo /usr/share/zsh/vendor-completions
    else
        echo /usr/share/zsh/site-functions
    fi
}

has_systemd() {
    [ -z "$staging" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

# What a package has put there is the package manager's to replace and to take away: it would not know of either.
check_packages() {
    [ -z "$staging" ] && [ -e "$helper" ] || return 0
    for manager in 'dpkg-query -S' 'rpm -qf'; do
        if command -v "${manager%% *}" >/dev/null && $manager "$helper" >/dev/null 2>&1; then
            die "$helper: is a package's; upgrade or remove that (${manager%%-*}), or remove it and run this again; nothing was changed"
        fi
    done
}

has_selinux() {
    [ -z "$staging" ] && [ -e /sys/fs/selinux/enforce ] && command -v semodule >/dev/null
}

has_selinux_module() {
    ! has_selinux || semodule -l | grep -q '^modprobe-guard'
}

# Before anything is armed: what is made from then on gets its label by the module.
load_selinux_module() {
    has_selinux || return 0
    echo 'loading    the module for SELinux, which takes its time'
    semodule -X 200 -i "$lib/selinux/modprobe-guard.cil" ||
        echo 'install.sh: semodule: failed; what the guard records may be lost' >&2
    restorecon -RF /run/modprobe-guard /run/modprobe.d /var/log/modprobe-guard 2>/dev/null || :
}

# --- build -----------------------------------------------------------------------------------------------------------

# Cargo belongs to a person more often than to root, and so does target/: build as the one who ran sudo.
as_owner() {
    owner=$(stat -c %U -- "$here")
    if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] && [ "$owner" = "$SUDO_USER" ]; then
        sudo -u "$SUDO_USER" -H -- env PATH="$build_path" CARGO_TARGET_DIR="$target" "$@"
    else
        env PATH="$build_path" CARGO_TARGET_DIR="$target" "$@"
    fi
}

build() {
    build_path=$PATH
    for user in "${SUDO_USER:-}" "$(id -un)"; do
        user_home=$([ -z "$user" ] || getent passwd "$user" | cut -d: -f6)
        [ -z "$user_home" ] || build_path=$build_path:$user_home/.cargo/bin
    done
    build_path=$build_path:/usr/local/cargo/bin
    target=${CARGO_TARGET_DIR:-$here/target}
    cd -- "$here"
    if as_owner sh -c 'command -v cargo' >/dev/null; then
        as_owner cargo build --release --locked
        built=$target/$(as_owner rustc -vV | sed -n 's/^host: //p')/release
        return
    fi
    for built in "$target/$(uname -m)"-*/release; do
        if [ -x "$built/guard" ] && [ -x "$built/modprobe-guard" ]; then
            return
        fi
    done
    die "no cargo in $build_path and nothing built below $target: install Rust (rustup, or the package cargo)"
}

# --- install ---------------------------------------------------------------------------------------------------------

# Before anything is changed: may the profile be put in place?
check_profile() {
    [ -n "$profile" ] || return 0
    profile_file=$here/conf/profiles/$profile.toml
    if [ ! -f "$profile_file" ]; then
        names=$(cd -- "$here/conf/profiles" && printf '%s ' *.toml | sed 's/\.toml / /g')
        die "$profile: no such profile; there are: $names"
    fi
    policy=$root$etc/policy.toml
    if [ -e "$policy" ] && ! is_shipped "$policy"; then
        die "$policy: was edited and stays; nothing was changed. Move it away, or put your rules into $etc/policy.d/ instead"
    fi
}

# What is armed must not change its mind by an upgrade: the new helper may not take the old policy in force, and then the
# files decide.
check_before_replacing() {
    [ -z "$staging" ] && [ -e "$kernel_modprobe" ] || return 0
    [ "$(cat "$kernel_modprobe")" = "$helper" ] || [ "$(readlink -f /sbin/modprobe)" = "$helper" ] || return 0
    "$built/modprobe-guard" --version >/dev/null || die "$built/modprobe-guard --version: failed, and the kernel runs it; nothing was changed"
    # Warnings, which it counts as findings as well, are no reason.
    case $("$built/guard" check) in
    sound:*) ;;
    *) die "the policy files are unsound, see above, and this machine is armed: mend them first; nothing was changed" ;;
    esac
}

install_files() {
    put "$built/modprobe-guard" "$helper" 755 || :
    put "$built/guard" /usr/sbin/guard 755 || :
    put "$here/install/divert.sh" "$lib/divert.sh" 644 || :
    put "$here/conf/policy.toml" "$lib/policy.toml" 644 || :
    for file in "$here"/conf/profiles/*.toml; do
        put "$file" "$lib/profiles/${file##*/}" 644 || :
    done
    for file in "$here"/conf/tests/*.toml; do
        put "$file" "$lib/tests/${file##*/}" 644 || :
    done
    # Nothing reads these there: they are for whoever runs Prometheus or rsyslog to take.
    put "$here/conf/prometheus/modprobe-guard.rules.yml" "$lib/prometheus/modprobe-guard.rules.yml" 644 || :
    for file in "$here"/conf/rsyslog/*.conf; do
        put "$file" "$lib/rsyslog/${file##*/}" 644 || :
    done
    mkdir -p -- "$root$etc/policy.d"
    if [ -n "$profile" ]; then
        put "$profile_file" "$etc/policy.toml" 644 || :
    fi
    directory=$(unit_directory)
    if [ -n "$directory" ]; then
        for unit in $units; do
            if put "$here/conf/systemd/$unit" "$directory/$unit" 644; then
                changed_units=yes
            fi
        done
    fi
    if put "$here/install/selinux/modprobe-guard.cil" "$lib/selinux/modprobe-guard.cil" 644 || ! has_selinux_module; then
        load_selinux_module
    fi
    install_papers
    mkdir -p -- "$root/var/log"
    [ -d "$root/var/log/modprobe-guard" ] || mkdir -m 750 -- "$root/var/log/modprobe-guard"
}

# Manual pages, completions, schemas for editors. A `guard` that does not run here (built for another machine) cannot write its own.
install_papers() {
    generated=$(mktemp -d)
    if "$built/guard" generate "$generated"; then
        for page in "$generated"/*.[58]; do
            put "$page" "/usr/share/man/man${page##*.}/${page##*/}" 644 || :
        done
        put "$generated/guard.bash" /usr/share/bash-completion/completions/guard 644 || :
        put "$generated/_guard" "$(zsh_directory)/_guard" 644 || :
        put "$generated/guard.fish" /usr/share/fish/vendor_completions.d/guard.fish 644 || :
        for schema in "$generated"/*.schema.json; do
            put "$schema" "/usr/share/modprobe-guard/${schema##*/}" 644 || :
        done
    else
        echo "install.sh: manual pages, completions and schemas: not installed, since $built/guard does not write them" >&2
    fi
    rm -rf -- "$generated"
}

# Why this machine cannot be armed; nothing if it can.
obstacle() {
    if [ ! -e "$kernel_modprobe" ]; then
        echo "$kernel_modprobe is not there: this kernel loads no modules, so there is nothing to guard"
    elif [ -e /.dockerenv ] || [ -e /run/.containerenv ] || { command -v systemd-detect-virt >/dev/null && systemd-detect-virt -cq; }; then
        echo "this is a container: modules are loaded by the host's kernel, and the guard belongs there"
    elif [ ! -w "$kernel_modprobe" ]; then
        echo "$kernel_modprobe cannot be written here: /proc/sys is read-only"
    fi
}

arm() {
    why_not=$(obstacle)
    if [ -n "$why_not" ]; then
        # So that a dry run, and whoever arms later, finds it checked.
        /usr/sbin/guard apply || die "guard apply: the policy files are unsound, see above; the files are installed"
        echo "not armed: $why_not"
        echo "installed all the same; 'guard --dry-run NAME' and 'guard check' work"
        return 0
    fi
    # Before it is armed: `guard enable` leaves the kernel the path that it has of its own then.
    [ -z "$divert" ] || sh "$lib/divert.sh" on || die "$lib/divert.sh on: failed, see above; the files are installed"
    /usr/sbin/guard enable || die "guard enable: failed; the files are installed. When that is mended: guard enable"
    if has_systemd; then
        [ -z "$changed_units" ] || systemctl daemon-reload
        systemctl enable --now --quiet modprobe-guard.service modprobe-guard-flush.timer modprobe-guard-last-flush.service modprobe-guard-metrics.timer
    else
        echo "systemd is not running: have 'guard enable' run at boot, and 'guard log --flush' every minute"
    fi
    /usr/sbin/guard status || die "guard status: says that something is not as it should be; see above"
}

# --- uninstall -------------------------------------------------------------------------------------------------------

disarm() {
    if has_systemd; then
        # An active unit disarms when it stops; one that failed at its start does not, hence `guard disable` as well.
        # shellcheck disable=SC2086 # a list of names
        systemctl disable --now --quiet $units 2>/dev/null || :
    fi
    if [ -x /usr/sbin/guard ]; then
        /usr/sbin/guard log --flush || echo 'install.sh: guard log --flush: failed; records that are left: /run/modprobe-guard' >&2
        [ ! -e "$kernel_modprobe" ] || /usr/sbin/guard disable || :
    fi
    # Never take away a program that the kernel or modprobe is going to run, even if `guard` itself is broken.
    remove /run/modprobe.d/modprobe-guard.conf
    remove "$armed"
    sh "$here/install/divert.sh" off || die "$lib/divert.sh off: failed, see above; nothing was removed"
    if [ -e "$kernel_modprobe" ] && [ "$(cat "$kernel_modprobe")" = "$helper" ]; then
        former=/sbin/modprobe
        [ ! -f /run/modprobe-guard/former-helper ] || former=$(cat /run/modprobe-guard/former-helper)
        printf '%s\n' "$former" >"$kernel_modprobe" || die "$kernel_modprobe: still names $helper; nothing was removed"
        echo "restored   $kernel_modprobe: $former"
    fi
}

uninstall() {
    [ -n "$staging" ] || disarm
    directory=$(unit_directory)
    for unit in $units; do
        [ -z "$directory" ] || remove "$directory/$unit"
    done
    if has_systemd; then
        systemctl daemon-reload
    fi
    # While the shipped files are still there to compare with.
    if [ -e "$root$etc/policy.toml" ] && is_shipped "$root$etc/policy.toml"; then
        remove "$etc/policy.toml"
    fi
    remove "$etc/policy.bin"
    # Else it would be told as what is, forever.
    remove /var/lib/prometheus/node-exporter/modprobe-guard.prom
    remove "$helper"
    remove /usr/sbin/guard
    for paper in $papers; do
        remove "$paper"
    done
    rm -rf -- "$root$lib"
    if has_selinux && has_selinux_module; then
        semodule -X 200 -r modprobe-guard || echo 'install.sh: semodule -X 200 -r modprobe-guard: failed' >&2
    fi
    if [ -n "$purge" ]; then
        rm -rf -- "$root$etc" "$root/var/log/modprobe-guard" "$root/var/lib/modprobe-guard" "$root/run/modprobe-guard"
    fi
    for directory in "$etc/policy.d" "$etc" /usr/share/modprobe-guard /var/log/modprobe-guard; do
        [ ! -d "$root$directory" ] || rmdir -- "$root$directory" 2>/dev/null || echo "kept       $root$directory"
    done
}

check_packages
if [ -n "$uninstall" ]; then
    uninstall
    exit 0
fi
check_profile
build
check_before_replacing
install_files
[ -n "$staging" ] || arm
