//! Kernel modules as the host has them: the index, `modprobe.d`, and which modules are live.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Host, read_of};
use crate::modules::{Config, IndexFile, ReadAt, Source, Tree, is_module_file, module_of_path};

/// Directories of configuration files; of files with one name the first counts (modprobe.d(5)).
const MODPROBE_D: [&str; 5] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
/// Soft dependencies that stand in the modules; kmod reads it as one of the files of `modprobe.d`, by its name.
const MODULES_SOFTDEP: &str = "modules.softdep";
/// Directories below the modules' own that are looked into; real ones are some ten deep.
const DEEPEST: usize = 32;
/// A directory for each module that is there.
const SYS_MODULE: &str = "/sys/module";
/// The longest configuration file that is read, bytes; real ones have some thousands.
const LONGEST_FILE: usize = 4 << 20;
/// Mostly a configuration file has less than so many bytes.
const SHORT_FILE: usize = 4096;

impl Host {
    /// The module index of the kernel with the release `kernel`; opens nothing yet.
    pub fn modules(&self, kernel: &str) -> Tree {
        Tree::new(ModuleDirectory { host: self.clone(), path: module_directory(kernel) })
    }

    /// What `modprobe.d` and the kernel command line say, and a text for each file that could not be read.
    ///
    /// Files are those that end in `.conf` in the directories of modprobe.d(5), and `modules.softdep` of the kernel
    /// with the release `kernel`; all are read in the order of their names. A link to `/dev/null` hides the files of
    /// its name in later directories, as with modprobe.
    pub fn modprobe_config(&self, kernel: &str) -> (Config, Vec<String>) {
        let mut failures = Vec::new();
        let mut files: BTreeMap<OsString, (String, Vec<u8>)> = BTreeMap::new();
        let softdep = format!("{}/{MODULES_SOFTDEP}", module_directory(kernel));
        match self.read_config(Path::new(&softdep)) {
            Ok(bytes) => {
                files.insert(MODULES_SOFTDEP.into(), (self.shown(&softdep).display().to_string(), bytes));
            }
            // modprobe does without it as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failures.push(failure(&self.shown(&softdep), &error)),
        }
        for directory in MODPROBE_D {
            // Mostly the same directory once more, in which nothing is new.
            if directory == "/lib/modprobe.d" && self.link_target("/lib").is_some_and(|target| target == "usr/lib") {
                continue;
            }
            let names = match self.list(directory) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    failures.push(failure(&self.shown(directory), &error));
                    continue;
                }
            };
            for name in names {
                if !is_config_name(&name) || files.contains_key(&name) {
                    continue;
                }
                let path = Path::new(directory).join(&name);
                let shown = self.shown(directory).join(&name);
                let bytes = match self.read_config(&path) {
                    Ok(bytes) => bytes,
                    Err(_) if self.link_target(&path).is_some_and(|target| target == "/dev/null") => Vec::new(),
                    Err(error) => {
                        failures.push(failure(&shown, &error));
                        // A dead link or a directory hides nothing; a file that can't be read does.
                        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) {
                            continue;
                        }
                        Vec::new()
                    }
                };
                files.insert(name, (shown.display().to_string(), bytes));
            }
        }
        let files = files.values().map(|(path, bytes)| (path.clone(), bytes.as_slice()));
        (Config::parse(files, self.kernel_command_line()), failures)
    }

    /// Every module file of the kernel with the release `kernel`: paths by the module's name. Empty if there are none.
    pub fn module_files(&self, kernel: &str) -> BTreeMap<Vec<u8>, Vec<String>> {
        let mut files: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        let mut left = vec![(module_directory(kernel), 0)];
        while let Some((directory, depth)) = left.pop() {
            for (name, kind) in self.entries(&directory).unwrap_or_default() {
                // A link to a directory (`build`, `source`) leads out of here.
                if kind.is_dir() && depth < DEEPEST {
                    left.push((format!("{directory}/{}", name.to_string_lossy()), depth + 1));
                } else if !kind.is_dir() && is_module_file(name.as_bytes()) {
                    let path = format!("{directory}/{}", name.to_string_lossy());
                    let module = module_of_path(name.as_bytes()).unwrap_or_default();
                    files.entry(module).or_default().push(path);
                }
            }
        }
        files
    }

    /// The bytes of a configuration file; `/dev/null` has none.
    fn read_config(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        // Of a regular file one read brings all, unless there is too little room for it (read(2)); a pipe or a terminal has
        // no places to read from (pread(2)).
        let mut room = [0; SHORT_FILE];
        let bytes = match FileExt::read_at(&file, &mut room, 0) {
            Ok(length @ 1..SHORT_FILE) => room.get(..length).unwrap_or_default().to_vec(),
            _ => read_any_config(&file)?,
        };
        self.done_with(file);
        Ok(bytes)
    }

    /// Whether modules show in `/sys`.
    pub fn has_sysfs(&self) -> bool {
        *self.has_sysfs.get_or_init(|| self.is_directory(SYS_MODULE))
    }

    /// Whether `module` is loaded and initialised: `/sys/module/MODULE/initstate`, or `/proc/modules` without `/sys`.
    pub fn is_live(&self, module: &[u8]) -> bool {
        // The kernel takes any name for a module, but no such one makes a directory in /sys.
        if module.is_empty() || module.contains(&b'/') || module.starts_with(b".") {
            return false;
        }
        match self.line(Path::new(SYS_MODULE).join(OsStr::from_bytes(module)).join("initstate")) {
            Some(state) => state == b"live",
            None if self.has_sysfs() => false,
            None => {
                let modules = self.read("/proc/modules", LONGEST_FILE).unwrap_or_default();
                // NAME SIZE REFERENCES USERS STATE ADDRESS (proc_modules(5))
                let mut lines = modules.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b' '));
                lines.any(|mut fields| fields.next() == Some(module) && fields.nth(3) == Some(b"Live"))
            }
        }
    }
}

fn module_directory(kernel: &str) -> String {
    format!("/lib/modules/{kernel}")
}

fn is_config_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() > b".conf".len() && !name.starts_with(b".") && name.ends_with(b".conf")
}

/// The bytes of what may be any file; `/dev/null` has none.
fn read_any_config(file: &File) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.file_type().is_char_device() && metadata.rdev() == nix::sys::stat::makedev(1, 3) {
        return Ok(Vec::new());
    }
    read_of(file, &metadata, LONGEST_FILE)
}

fn failure(shown: &Path, error: &io::Error) -> String {
    format!("{}: cannot read: {error}", shown.display())
}

/// `/lib/modules/KERNEL`.
struct ModuleDirectory {
    host: Host,
    path: String,
}

impl Source for ModuleDirectory {
    fn open(&self, file: IndexFile) -> io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(self.host.open(Path::new(&self.path).join(file.name()))?))
    }

    fn directory(&self) -> String {
        self.host.shown(&self.path).display().to_string()
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;
    use crate::model::IndexHealth;
    use crate::modules::{Flags, resolve};

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Root {
            Root(tempfile::tempdir().unwrap())
        }

        fn path(&self, path: &str) -> std::path::PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.path(path), text).unwrap();
        }

        fn host(&self) -> Host {
            Host::at(self.0.path()).unwrap()
        }
    }

    fn options(config: &Config) -> Vec<String> {
        config.options_of(b"m").map(|(text, _)| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn earlier_directories_win_and_names_order() {
        let root = Root::new();
        for (path, text) in [
            ("etc/modprobe.d/b.conf", "options m etc"),
            ("usr/lib/modprobe.d/b.conf", "options m hidden"),
            ("usr/lib/modprobe.d/a.conf", "options m usr-lib"),
            ("run/modprobe.d/c.conf", "options m run"),
            ("usr/local/lib/modprobe.d/z.conf", "options m local"),
            ("lib/modprobe.d/b2.conf", "options m lib"),
            ("lib/modprobe.d/c.conf", "options m hidden"),
            ("lib/modules/6.1/modules.softdep", "options m softdep-file"),
            ("etc/modprobe.d/.x.conf", "options m dotted"),
            ("etc/modprobe.d/x.conf~", "options m backup"),
            ("etc/modprobe.d/.conf", "options m bare"),
            ("proc/cmdline", "quiet m.line=1\n"),
        ] {
            root.write(path, text);
        }
        let (config, failures) = root.host().modprobe_config("6.1");
        assert_eq!(options(&config), ["usr-lib", "etc", "lib", "run", "softdep-file", "local", "line=1"]);
        assert_eq!(failures, [""; 0]);
        let expected = root.path("usr/lib/modprobe.d/a.conf:1").display().to_string();
        assert_eq!(config.options_of(b"m").next().unwrap().1, expected);
    }

    #[test]
    fn where_lib_is_usr_lib_it_is_read_once_and_any_other_as_well() {
        for (lib, expected, reads) in
            [("usr/lib", &["usr-lib"][..], 1), ("opt", &["usr-lib", "lib"], 2), ("./usr/lib", &["usr-lib"], 2)]
        {
            let root = Root::new();
            root.write("usr/lib/modprobe.d/a.conf", "options m usr-lib");
            root.write("opt/modprobe.d/b.conf", "options m lib");
            for directory in ["usr/lib", "opt"] {
                fs::create_dir(root.path(directory).join("modprobe.d/dead.conf")).unwrap();
            }
            symlink(lib, root.path("lib")).unwrap();
            let (config, failures) = root.host().modprobe_config("6.1");
            assert_eq!(options(&config), expected);
            assert_eq!(failures.len(), reads);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_counts() {
        let root = Root::new();
        for name in ["dead", "directory", "fifo", "good", "long", "null"] {
            root.write(&format!("lib/modprobe.d/{name}.conf"), &format!("options m {name}"));
        }
        let etc = |name: &str| root.path(&format!("etc/modprobe.d/{name}.conf"));
        symlink("nowhere", etc("dead")).unwrap();
        fs::create_dir(etc("directory")).unwrap();
        nix::unistd::mkfifo(&etc("fifo"), Mode::S_IRUSR).unwrap();
        // Somebody has written into it.
        let mut writer = File::options().read(true).write(true).open(etc("fifo")).unwrap();
        writer.write_all(b"options m fifo").unwrap();
        File::create(etc("long")).unwrap().set_len(LONGEST_FILE as u64 + 1).unwrap();
        let (config, failures) = root.host().modprobe_config("6.1");
        assert_eq!(options(&config), ["dead", "directory", "good", "null"]);
        let failed = ["dead", "directory", "fifo", "long"].map(|name| etc(name).display().to_string());
        assert_eq!(failures.len(), failed.len(), "{failures:?}");
        for (text, path) in failures.iter().zip(&failed) {
            assert!(text.starts_with(path) && text.contains(": cannot read: "), "{text}");
        }
    }

    #[test]
    fn a_file_of_any_length_is_read_whole() {
        let root = Root::new();
        for length in [0, 1, SHORT_FILE - 1, SHORT_FILE, SHORT_FILE + 1, 10 * SHORT_FILE] {
            root.write("etc/modprobe.d/a.conf", &"x".repeat(length));
            let read = root.host().read_config(Path::new("/etc/modprobe.d/a.conf")).unwrap();
            assert_eq!((read.len(), read.iter().all(|&byte| byte == b'x')), (length, true));
        }
    }

    #[test]
    fn a_link_to_dev_null_hides() {
        assert_eq!(Host::this().read_config(Path::new("/dev/null")).unwrap(), b"");
        assert!(Host::this().read_config(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn live_is_what_sys_says_or_else_proc() {
        let root = Root::new();
        root.write("proc/modules", "a 1 0 - Live 0x0\nb 1 0 - Loading 0x0\nc 1 1 a,b, Live 0x0 (E)\n");
        let live = |names: &[&str]| names.iter().map(|name| root.host().is_live(name.as_bytes())).collect::<Vec<_>>();
        assert_eq!(live(&["a", "b", "c", "d", "", "a 1"]), [true, false, true, false, false, false]);
        root.write("sys/module/b/initstate", "live\n");
        root.write("sys/module/c/initstate", "coming\n");
        root.write("sys/module/d/parameters/x", "1\n");
        assert_eq!(
            live(&["a", "b", "c", "d", "c/../b", "../module/b", "."]),
            [false, true, false, false, false, false, false]
        );
    }

    #[test]
    fn an_index_that_is_no_file_is_told() {
        let root = Root::new();
        fs::create_dir_all(root.path("lib/modules/6.1/modules.dep.bin")).unwrap();
        nix::unistd::mkfifo(&root.path("lib/modules/6.1/modules.alias.bin"), Mode::S_IRUSR).unwrap();
        let (tree, config) = (root.host().modules("6.1"), Config::default());
        let IndexHealth::Partial(texts) = resolve(b"x", Flags::default(), &tree, &config, |_| false).index else {
            panic!("not told");
        };
        for (text, name) in texts.iter().zip(["modules.dep.bin", "modules.alias.bin", "modules.builtin.bin"]) {
            assert!(text.starts_with(&root.path("lib/modules/6.1").join(name).display().to_string()), "{text}");
        }
        assert_eq!(texts.len(), 3);
        let absent = resolve(b"x", Flags::default(), &root.host().modules("5.10"), &config, |_| false).index;
        assert!(matches!(absent, IndexHealth::Missing(_)));
    }
}
