//! modprobe.d, modules.softdep and the kernel command line. That kmod reads them so is compared elsewhere
//! (tests/it/mutated.rs); here: what is said of a line is true of that line.
//!
//! Input: a name, ended by NUL; the kernel command line, ended by NUL; files, each ended by a form feed.

use std::io;

use modprobe_guard::modules::{Config, Flags, IndexFile, ReadAt, Source, Tree, resolve};

/// No module index at all: what is known is what the configuration says.
struct Nothing;

impl Source for Nothing {
    fn open(&self, _: IndexFile) -> io::Result<Box<dyn ReadAt>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn directory(&self) -> String {
        "/lib/modules/none".to_owned()
    }
}

pub fn check(mut data: &[u8]) {
    let name = super::until_nul(&mut data);
    let kernel_line = super::until_nul(&mut data);
    let files: Vec<&[u8]> = data.split(|&byte| byte == 0x0c).collect();
    let read = |files: &[Vec<u8>]| {
        let named =
            files.iter().enumerate().map(|(at, bytes)| (format!("/etc/modprobe.d/{at}.conf"), bytes.as_slice()));
        Config::parse(named, kernel_line)
    };
    let plain: Vec<Vec<u8>> = files.iter().map(|bytes| bytes.to_vec()).collect();
    // A line in front says nothing and moves the others by one.
    let lower: Vec<Vec<u8>> = files.iter().map(|bytes| [b"# a remark\n", *bytes].concat()).collect();
    let (config, moved) = (read(&plain), read(&lower));
    let tree = Tree::new(Nothing);
    for flags in [Flags::default(), Flags { ignore_install: true, use_blacklist: true }] {
        let one = resolve(name, flags, &tree, &config, |_| false);
        let other = resolve(name, flags, &tree, &moved, |_| false);
        assert_eq!(one.modules, other.modules);
        for (command, moved) in one.commands.iter().zip(&other.commands) {
            assert_eq!((&command.module, &command.command), (&moved.module, &moved.command));
            let (at, line) = place(&command.source).unwrap();
            assert_eq!(place(&moved.source), Some((at, line + 1)), "{}", command.source);
            assert!(line <= plain[at].split(|&byte| byte == b'\n').count(), "{}", command.source);
        }
        assert_eq!(one.commands.len(), other.commands.len());
    }
    for line in config.lines_on(name) {
        assert!(place(&line.source).is_some() || line.source == "kernel command line", "{}", line.source);
    }
    let _ =
        (config.is_about(name), config.blacklisted(name), config.installed_by(name), config.options_of(name).count());
}

/// File and line.
fn place(source: &str) -> Option<(usize, usize)> {
    let (file, line) = source.strip_prefix("/etc/modprobe.d/")?.split_once(".conf:")?;
    Some((file.parse().ok()?, line.parse().ok()?))
}
