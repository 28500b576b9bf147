//! Shared libraries, without which modprobe can't be started or can't unpack.

use super::Case;

/// Where shared libraries lie, or directories named after an architecture that hold them.
const LIBRARIES: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// Whether the tree holds libraries at all: one that holds none tells nothing.
pub fn are_collected(case: &Case) -> bool {
    find(case, "libc.so.6").is_some()
}

/// The library `name`, wherever the loader looks by default.
pub fn find(case: &Case, name: &str) -> Option<String> {
    LIBRARIES.iter().find_map(|directory| {
        let below = case.host.list(directory).unwrap_or_default();
        let below = below.iter().filter_map(|name| name.to_str()).filter(|name| name.contains("-linux-"));
        let places = std::iter::once((*directory).to_owned()).chain(below.map(|name| format!("{directory}/{name}")));
        places.map(|place| format!("{place}/{name}")).find(|path| case.host.exists(path))
    })
}

/// The command that installs the package of a library which kmod uses.
pub fn bring(case: &Case, name: &str) -> String {
    let (debian, fedora) = match name.split(".so").next().unwrap_or_default() {
        "liblzma" => ("liblzma5", "xz-libs"),
        "libzstd" => ("libzstd1", "libzstd"),
        "libz" => ("zlib1g", "zlib"),
        "libcrypto" => ("libssl3", "openssl-libs"),
        "libkmod" => ("libkmod2", "kmod-libs"),
        _ => ("libc6", "glibc"),
    };
    case.distribution.install(debian, fedora)
}
