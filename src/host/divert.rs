//! The guard in modprobe's own place (`install.sh --divert`), and whether the kernel asks us, by whichever path.
//!
//! There, being modprobe, we are run whether the guard is armed or not. So a file in `/run` says that it is: without one
//! (before `guard enable`, after `guard disable`, in an initramfs, in a chroot, after a reboot without our unit) the guard
//! is nothing but the way to the real modprobe, as if it had never been put there.

use std::io::ErrorKind;
use std::path::Path;

use nix::fcntl::OFlag;

use super::{HELPER, Host, KERNEL_MODPROBE};

/// Where everybody looks for modprobe: the kernel, libxtables, LKRG's list, scripts.
pub const MODPROBE: &str = "/sbin/modprobe";
/// Where the real modprobe lies meanwhile, beside its own place: a relative link leads there to the same program. The
/// second is for a package that calls the same directory `/usr/sbin`, since dpkg knows paths by their text.
pub const REAL: [&str; 2] = ["/sbin/modprobe.unguarded", "/usr/sbin/modprobe.unguarded.usr"];
/// There while a guard in modprobe's place is to decide. Not in [`super::RUN`], which only root may look into: whoever has
/// the right to load modules is to see it.
pub const ARMED: &str = "/run/modprobe-guard.armed";

/// What stands in modprobe's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divert {
    /// What the distribution put there.
    No,
    /// The guard.
    InPlace,
    /// Something else, though the guard was put there.
    Lost,
}

impl Host {
    /// Where the real modprobe lies, if it had to give up its place.
    pub fn real_modprobe(&self) -> Option<&'static str> {
        REAL.into_iter().find(|path| self.exists(path))
    }

    /// Whether a guard in modprobe's place is to decide. It is, unless there is certainly no such file: want of memory or
    /// of descriptors must not let anything past.
    pub fn decides_in_place(&self) -> bool {
        match self.open_with(Path::new(ARMED), OFlag::O_PATH) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    /// What stands in modprobe's place.
    pub fn divert(&self) -> Divert {
        match self.is_guard(MODPROBE) {
            true => Divert::InPlace,
            false if self.real_modprobe().is_some() => Divert::Lost,
            false => Divert::No,
        }
    }

    /// Whether `path` leads to the installed helper.
    pub fn is_guard(&self, path: &str) -> bool {
        matches!((self.identity(path), self.identity(HELPER)), (Ok(one), Ok(other)) if one.is_same_file(&other))
    }

    /// Whether the kernel asks us, and gets a verdict.
    pub fn is_armed(&self) -> bool {
        let helper = self.line(KERNEL_MODPROBE).and_then(|path| String::from_utf8(path).ok());
        helper.is_some_and(|path| path == HELPER || (self.decides_in_place() && self.is_guard(&path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn who_stands_where() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path.trim_start_matches('/'));
        for directory in ["sbin", "usr/sbin", "run", "proc/sys/kernel"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        let host = Host::at(root.path()).unwrap();
        fs::write(path(MODPROBE), "real").unwrap();
        fs::write(path(HELPER), "guard").unwrap();
        fs::write(path(KERNEL_MODPROBE), "/sbin/modprobe\n").unwrap();
        assert_eq!((host.divert(), host.is_armed()), (Divert::No, false));
        fs::write(path(ARMED), "").unwrap();
        assert!(!host.is_armed(), "the kernel runs another program");

        fs::rename(path(MODPROBE), path(REAL[0])).unwrap();
        assert_eq!(host.divert(), Divert::Lost);
        symlink(HELPER, path(MODPROBE)).unwrap();
        assert_eq!((host.divert(), host.is_armed()), (Divert::InPlace, true));
        assert_eq!(host.real_modprobe(), Some(REAL[0]));
        fs::remove_file(path(ARMED)).unwrap();
        assert!(!host.is_armed());
        fs::write(path(KERNEL_MODPROBE), format!("{HELPER}\n")).unwrap();
        assert!(host.is_armed(), "by the other path it needs no leave");
    }
}
