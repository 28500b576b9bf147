#!/bin/sh
# The guard in modprobe's own place, and back. Installed as /usr/lib/modprobe-guard/divert.sh; `install.sh --divert`, the
# packages' scripts and modprobe-guard-divert.service run it.
#
#   divert.sh on    also once more, after an upgrade of kmod put its own back
#   divert.sh off   the real modprobe back, and no trace left
#
# There is a working modprobe in its place at every moment: what comes there is made beside it and renamed over it.
#
# In its place is a link to /usr/sbin/modprobe-guard, no copy and no hard link: an upgrade of ours renames a new file over
# that one and a hard link would keep the old, and SELinux goes by the label of the file that the link leads to. LKRG and
# the kernel go by the path alone. The real one goes to modprobe.unguarded in the same directory, where a relative link
# (../bin/kmod) leads to the same program; its name there does not matter, since argv[0] is what kmod goes by.
#
# dpkg is told of both (dpkg-divert): an upgrade of kmod then writes modprobe.unguarded and leaves ours alone. It knows
# paths by their text, and kmod's is /sbin/modprobe or /usr/sbin/modprobe by release, so both texts are diverted, each to a
# name of its own as it demands. rpm and pacman have no diversions, and write theirs over ours:
# modprobe-guard-divert.path sees that and has this script run again, which takes the new one for the real one.
# `guard status` says if ours is lost. What an upgrade did while no unit ran is seen at the next boot.
set -eu
umask 022

helper=/usr/sbin/modprobe-guard
place=/sbin/modprobe
real=/sbin/modprobe.unguarded
real_usr=/usr/sbin/modprobe.unguarded.usr
watch=modprobe-guard-divert.path
again=modprobe-guard-divert.service

die() {
    printf 'divert.sh: %s\n' "$*" >&2
    exit 1
}

# Whether FILE leads to the guard.
is_guard() {
    guard=$(stat -L -c %d:%i -- "$helper" 2>/dev/null) && [ "$(stat -L -c %d:%i -- "$1" 2>/dev/null)" = "$guard" ]
}

# In the same directory, so that mv is a rename; -T, so that a link to a directory is not followed.
take_place() {
    mv -fT -- "$1" "$2" || { rm -f -- "$1"; die "$2: not written"; }
}

# on_disk FILE: its name may get there before what it holds, and then the power may go.
on_disk() {
    [ -L "$1" ] || sync -- "$1" || die "$1: sync failed; is the disk well?"
}

# runs FILE: this very program may be denied here, or be another machine's.
runs() {
    "$1" --version >/dev/null 2>&1
}

# copy_of SOURCE DESTINATION: the link itself, or the file.
copy_of() {
    rm -f -- "$2.new"
    cp -a -- "$1" "$2.new" || die "$2.new: not written"
    on_disk "$2.new"
    take_place "$2.new" "$2"
}

# link TARGET: comes into modprobe's place.
link() {
    rm -f -- "$place.new"
    ln -s -- "$1" "$place.new" || die "$place.new: not written"
    take_place "$place.new" "$place"
}

has_dpkg() {
    command -v dpkg-divert >/dev/null && [ -d /var/lib/dpkg ]
}

has_systemd() {
    [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

# Whether kmod is a package of dpkg's: that may be here for other reasons.
knows_dpkg() {
    has_dpkg && { is_packaged /sbin/modprobe || is_packaged /usr/sbin/modprobe; }
}

# may_divert TEXT DESTINATION: nobody else diverts it.
may_divert() {
    case $(dpkg-divert --truename "$1") in
    "$1" | "$2") ;;
    *) die "$1: is diverted already: dpkg-divert --list $1; nothing was changed" ;;
    esac
}

# divert TEXT DESTINATION: has dpkg write there what packages have as TEXT. Not its own --rename: between its two steps
# there would be no modprobe.
divert() {
    [ "$(dpkg-divert --truename "$1")" = "$2" ] ||
        dpkg-divert --local --no-rename --quiet --divert "$2" --add "$1" || die "dpkg-divert --add $1: failed"
}

undivert() {
    [ "$(dpkg-divert --truename "$1")" != "$2" ] || dpkg-divert --local --no-rename --quiet --remove "$1" ||
        die "dpkg-divert --remove $1: failed; the real modprobe is back all the same"
}

# Whether a package has PATH, by that text. Diversions are answers too.
is_packaged() {
    LC_ALL=C dpkg-query -S "$1" 2>/dev/null | grep -qv '^local diversion '
}

# Where the real one belongs: by the text that its package has for it.
destination() {
    if knows_dpkg && ! is_packaged "$place"; then
        echo "$real_usr"
    else
        echo "$real"
    fi
}

# The real one as it lies there now, which may be none.
present() {
    for file in "$real" "$real_usr"; do
        if [ -e "$file" ] && ! is_guard "$file"; then
            echo "$file"
            return
        fi
    done
}

on() {
    [ -x "$helper" ] || die "$helper: not there; run install/install.sh"
    [ -e "$place" ] || die "$place: not there; install kmod"
    runs "$helper" || die "$helper --version: failed, so it would be no modprobe; nothing was changed"
    # Where /usr is mounted late, a link into it leads nowhere until then.
    [ "$(stat -L -c %d /sbin/.)" = "$(stat -L -c %d /usr/sbin/.)" ] ||
        die "$place: is not on the file system of $helper, which may come later at boot; nothing was changed"
    on_disk "$helper"
    if knows_dpkg; then
        may_divert /sbin/modprobe "$real"
        may_divert /usr/sbin/modprobe "$real_usr"
        divert /sbin/modprobe "$real"
        divert /usr/sbin/modprobe "$real_usr"
    fi
    if is_guard "$place"; then
        [ -n "$(present)" ] || die "$place: is the guard, and the real one is nowhere: install kmod again"
        echo "unchanged  $place: is the guard; the real one is $(present)"
    else
        # What dpkg put aside is the real one; else it is what has the place.
        if ! knows_dpkg || [ -z "$(present)" ]; then
            copy_of "$place" "$(destination)"
        fi
        link "$helper"
        runs "$place" || { copy_of "$(present)" "$place"; die "$place --version: failed as the guard; the real one is back"; }
        echo "diverted   $place: is the guard; the real one is $(present)"
    fi
    if has_systemd && ! knows_dpkg; then
        # No waiting: at boot this runs while others wait.
        { systemctl enable --quiet "$watch" "$again" && systemctl start --no-block "$watch"; } ||
            die "$watch: not started; without it an upgrade of kmod ends the divert"
    fi
}

off() {
    if has_systemd; then
        systemctl disable --now --quiet "$watch" "$again" 2>/dev/null || :
    fi
    if is_guard "$place" || [ ! -e "$place" ]; then
        found=$(present)
        if [ -n "$found" ]; then
            copy_of "$found" "$place"
        elif [ -L "$place" ]; then
            # Somebody took it away. kmod is modprobe if it is called so.
            kmod=$(command -v kmod) || die "$place: the real modprobe is nowhere, nor is kmod: install kmod again; nothing was changed"
            link "$kmod"
        fi
        echo "restored   $place"
    fi
    if has_dpkg; then
        undivert /sbin/modprobe "$real"
        undivert /usr/sbin/modprobe "$real_usr"
    fi
    rm -f -- "$real" "$real_usr"
}

# One at a time: the unit may run while a package goes.
if command -v flock >/dev/null; then
    exec 9<"${place%/*}"
    flock 9
fi
case $#:${1-} in
1:on) on ;;
1:off) off ;;
*)
    sed -n 's/^#   //p' "$0" >&2
    exit 2
    ;;
esac
