#!/bin/sh
# Installs modprobe-guard, arms it and verifies that it works. Running it twice changes nothing.
#
#   sudo install/install.sh [--profile NAME]   build if need be, install, arm, verify
#   sudo install/install.sh --uninstall        disarm and remove all but your policy and your log
#   sudo install/install.sh --uninstall --purge    those too
#   DESTDIR=DIR install/install.sh [...]       only stage the files below DIR
#
# Where there is nothing to arm (a container, a kernel without loadable modules) it installs and says why.
set -eu
umask 022

here=$(cd "$(dirname "$0")/.." && pwd)
destdir=${DESTDIR:-}
units=usr/lib/systemd/system
profile=
action=install
purge=no
changed=0

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

profiles() {
	for file in "$here"/conf/profiles/*.toml; do
		basename "$file" .toml
	done | tr '\n' ' '
}

# put MODE SOURCE TARGET: whole or not at all, and only if something differs. A rename leaves running helpers alone.
put() {
	target=$destdir/$3
	if [ -f "$target" ] && cmp -s "$2" "$target" && [ "$(stat -c %a "$target")" = "$1" ]; then
		return 0
	fi
	mkdir -p "$(dirname "$target")"
	cp "$2" "$target.new.$$"
	chmod "$1" "$target.new.$$"
	[ "$(id -u)" -ne 0 ] || chown 0:0 "$target.new.$$"
	sync "$target.new.$$" 2>/dev/null || :
	mv -f "$target.new.$$" "$target"
	echo "installed /$3"
	changed=1
}

take() {
	[ -e "$destdir/$1" ] || [ -h "$destdir/$1" ] || return 0
	rm -f "$destdir/$1"
	echo "removed /$1"
	changed=1
}

# As the person who called sudo: root need not have a toolchain, and must not own what is in target/.
as_builder() {
	if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
		home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
		sudo -u "$SUDO_USER" -H env "PATH=$home/.cargo/bin:$PATH" "$@"
	else
		env "PATH=${HOME:-/root}/.cargo/bin:$PATH" "$@"
	fi
}

build() {
	(cd "$here" && as_builder cargo --version >/dev/null 2>&1) ||
		fail "cargo: not found; install a Rust toolchain (1.91 or later), then run this again"
	triple=$(cd "$here" && as_builder rustc -vV | sed -n 's/^host: //p')
	(cd "$here" && as_builder cargo build --release --locked --quiet) || fail "$here: the build failed"
	built=${CARGO_TARGET_DIR:-$here/target}/$triple/release
	[ -x "$built/guard" ] || fail "$built/guard: not there after the build; is CARGO_TARGET_DIR set elsewhere?"
}

# The profile becomes policy.toml, unless that is somebody's own work.
check_profile() {
	[ -n "$profile" ] || return 0
	[ -f "$here/conf/profiles/$profile.toml" ] || fail "--profile $profile: there is none; there are: $(profiles)"
	present=$destdir/etc/modprobe-guard/policy.toml
	[ -e "$present" ] || return 0
	for shipped in "$here"/conf/policy.toml "$here"/conf/profiles/*.toml; do
		if cmp -s "$shipped" "$present"; then
			return 0
		fi
	done
	fail "$present: holds a policy of your own; move it away, or take what you need from conf/profiles/$profile.toml"
}

install_files() {
	put 755 "$built/modprobe-guard" usr/sbin/modprobe-guard
	put 755 "$built/guard" usr/sbin/guard
	put 644 "$here/conf/policy.toml" usr/lib/modprobe-guard/policy.toml
	for file in "$here"/conf/profiles/*.toml; do
		put 644 "$file" "usr/lib/modprobe-guard/profiles/$(basename "$file")"
	done
	for file in "$here"/conf/systemd/*; do
		put 644 "$file" "$units/$(basename "$file")"
	done
	mkdir -p "$destdir/etc/modprobe-guard/policy.d" "$destdir/var/log/modprobe-guard"
	chmod 750 "$destdir/var/log/modprobe-guard"
	if [ -n "$profile" ]; then
		put 644 "$here/conf/profiles/$profile.toml" etc/modprobe-guard/policy.toml
	fi
}

is_systemd() {
	[ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

# Why there is nothing to arm here; nothing if there is.
cannot_arm() {
	if [ ! -e /proc/sys/kernel/modprobe ]; then
		echo "this kernel loads no modules (/proc/sys/kernel/modprobe is not there)"
	elif [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ] ||
		{ command -v systemd-detect-virt >/dev/null && systemd-detect-virt --quiet --container; }; then
		echo "this is a container: modules belong to its host, install there"
	elif [ "$(stat -f -c %T /proc/sys/kernel 2>/dev/null)" != proc ] || [ ! -w /proc/sys/kernel/modprobe ]; then
		echo "/proc/sys/kernel/modprobe can't be written: this is a container, or /proc/sys is mounted read-only"
	fi
}

arm() {
	reason=$(cannot_arm)
	if [ -n "$reason" ]; then
		/usr/sbin/guard apply
		echo "installed, not armed: $reason"
		return 0
	fi
	if is_systemd; then
		[ "$changed" -eq 0 ] || systemctl daemon-reload
		systemctl enable --quiet modprobe-guard.service modprobe-guard-flush.timer
		systemctl start modprobe-guard-flush.timer
		/usr/sbin/guard enable
		# So that a later stop of the unit disarms.
		systemctl start modprobe-guard.service
	else
		/usr/sbin/guard enable
		echo "no systemd here: run \`guard enable\` early at boot, before the network"
	fi
	/usr/sbin/guard status || fail "armed, but not sound: see above; guard disable gives the former helper back"
}

uninstall() {
	if [ -z "$destdir" ]; then
		if [ -x /usr/sbin/guard ] && [ -e /proc/sys/kernel/modprobe ]; then
			/usr/sbin/guard disable || fail "still armed; nothing removed"
			/usr/sbin/guard log --flush || echo "install.sh: some records may be left in /run/modprobe-guard" >&2
		fi
		if is_systemd && [ -e "/$units/modprobe-guard.service" ]; then
			systemctl disable --quiet --now modprobe-guard.service modprobe-guard-flush.timer || :
		fi
	fi
	for file in "$here"/conf/systemd/*; do
		take "$units/$(basename "$file")"
	done
	take usr/sbin/modprobe-guard
	take usr/sbin/guard
	rm -rf "$destdir/usr/lib/modprobe-guard"
	take etc/modprobe-guard/policy.bin
	for shipped in "$here"/conf/profiles/*.toml; do
		# A profile that nobody changed is ours, the rest is yours.
		if cmp -s "$shipped" "$destdir/etc/modprobe-guard/policy.toml"; then
			take etc/modprobe-guard/policy.toml
		fi
	done
	if [ "$purge" = yes ]; then
		rm -rf "$destdir/etc/modprobe-guard" "$destdir/var/log/modprobe-guard" "$destdir/run/modprobe-guard"
	else
		rmdir "$destdir/etc/modprobe-guard/policy.d" "$destdir/etc/modprobe-guard" \
			"$destdir/var/log/modprobe-guard" 2>/dev/null || :
	fi
	if [ -z "$destdir" ] && is_systemd; then
		systemctl daemon-reload
	fi
	echo "uninstalled"
}

while [ $# -gt 0 ]; do
	case $1 in
	--profile)
		[ $# -ge 2 ] || fail "--profile: a name is missing; there are: $(profiles)"
		profile=$2
		shift
		;;
	--profile=*) profile=${1#--profile=} ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	-h | --help)
		sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
		exit 0
		;;
	*) fail "$1: unknown option; see install.sh --help" ;;
	esac
	shift
done

[ -n "$destdir" ] || [ "$(id -u)" -eq 0 ] || fail "needs root: sudo $0"
if [ "$action" = uninstall ]; then
	uninstall
	exit 0
fi
check_profile
build
install_files
[ -n "$destdir" ] || arm
[ "$changed" -eq 1 ] || echo "unchanged: everything was installed already"
