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
