# shellcheck shell=bash
# What the host's scripts share. Sourced, never run.

# shellcheck disable=SC2034 # for those who source this
vm=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$vm/../.." && pwd)
# Everything that is downloaded or built for the guests; removing it is always safe.
cache=$repository/target/vm
mkdir -p "$cache"

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# locked NAME: no other process is past this line with the same name until ours ends.
locked() {
	exec {lock}>"$cache/$1.lock"
	flock "$lock"
}

# program ROOT NAME...: copies programs of this machine to below ROOT, with the libraries they need.
program() {
	local root=$1 name path library
	shift
	for name; do
		path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "$name") || die "$name: not installed; tests/run installs it"
		mkdir -p "$root$(dirname "$path")"
		cp -L "$path" "$root$path"
		for library in $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
			mkdir -p "$root$(dirname "$library")"
			cp -Lu "$library" "$root$library"
		done
	done
}
