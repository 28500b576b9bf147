//! What we say a name would load, against what `modprobe -D` says: for every name of a whole kernel.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use modprobe_guard::host::Host;
use modprobe_guard::model::{self, Closure, IndexHealth, ModuleState};
use modprobe_guard::modules::{Config, Flags, resolve};
use modprobe_guard::text::Text;

use crate::kernel::Kernel;
use crate::random::Random;

/// Least number of names for which the comparison counts as one with a whole kernel.
const WHOLE: usize = 15_000;

/// A configuration that tries what modprobe.d(5) allows and what it does not.
const NASTY: [(&str, &str); 5] = [
    ("etc/modprobe.d/50-hidden.conf", "# hides the other one of this name\n"),
    ("usr/lib/modprobe.d/50-hidden.conf", "install nf_conntrack /bin/never\nalias nasty-hidden nf_conntrack\n"),
    ("run/modprobe.d/a-first.conf", "install nf-nat /bin/first $CMDLINE_OPTS\nsoftdep ext4 post: crc32c-generic\n"),
    (
        "lib/modprobe.d/z-late.conf",
        "install nf_nat /bin/late\nsoftdep xfs pre: nf-nat\nsoftdep ext4 pre: xfs\nblacklist ip_tables",
    ),
    (
        "etc/modprobe.d/nasty.conf",
        concat!(
            "# comment alias nasty-1 ext4\n",
            "   # alias nasty-1 ext4\n",
            "alias nasty-1 nf-conntrack\n",
            "alias\tnasty-2 \t xfs  trailing words\n",
            "alias nasty-[0-9] nf-nat\n",
            "alias nasty-wrapped \\\n   ext4\n",
            "alias nasty-wrap\\\nped-2 e\\xt4\n",
            "alias nasty-* usb-storage\n",
            "alias nasty-? nasty-1\n",
            "alias nasty-off off\n",
            "alias nasty-] ext4\n",
            "alias nasty-[ ext4\n",
            "alias nasty-dot ext4.ko\n",
            "alias nasty-none\n",
            "alias nasty-builtin unix\n",
            "alias net-pf-10 xfs\n",
            "alias crypto-crc32c* crc32c-intel\n",
            "alias pci:v00008086d* e1000e\n",
            "alias iptable-raw iptable-nat\n",
            "alias ext3 btrfs\n",
            "alias fs-ext2 ext2-removed\n",
            "blacklist usb-storage\nblacklist e1000e extra\nblacklist nf_conntrack\nblacklist off\nblacklist e1000e]\n",
            "blacklist floppy\nblacklist btusb\nblacklist snd*\nblacklist\n",
            "install nasty-bare /bin/echo bare $MODPROBE_MODULE \n",
            "install nasty-bare.dot /bin/echo dot\n",
            "remove nasty-removed /bin/echo removed\n",
            "install xt-[a-m]* \t /bin/echo matched\n",
            "install xt_conntrack /bin/echo never reached\n",
            "install tcp_bbr\ninstall tcp_bic \n",
            "install tun\t/bin/echo a\\\n b\n",
            "install vfat echo masked\n",
            "softdep vfat pre: nls-cp437\n",
            "softdep fat pre: nasty-nothing\n",
            "install fat echo runs\n",
            "softdep nf-conntrack pre: nf-nat post: xt_conntrack nf-conntrack\n",
            "softdep nf_nat pre: iptable-nat post: nf_conntrack\n",
            "softdep nf_nat pre: loop\n",
            "softdep nf_defrag_ipv4 pre: nf_defrag_ipv6 post: nasty-1\n",
            "softdep nf_defrag_ipv6 pre: nf_defrag_ipv4 post: symbol:nf_register_net_hook\n",
            "softdep x_tables post: ip-tables arp_tables pre: nasty-bare\n",
            "softdep snd* pre: snd-seq\n",
            "softdep loop  pre: dm-mod\n",
            "softdep dm-mod   pre: loop   post:   loop \n",
            "softdep md-mod pre:\n",
            "softdep usbcore pre: usb-common post: [ ] nasty-] \n",
            "softdep mii\tpost:\tnasty-builtin\tnasty-removed\r\n",
            "softdep crc16 pre: fs-ext4 crypto-crc32c\n",
            "options nf-conntrack hashsize=1024\texpect_hashsize=1\n",
            "options nf_conntrack  acct=1\n",
            "options tun debug=1\noptions tun\noptions tun]\n",
            "include /etc/modprobe.d/other\nnonsense here\n\\\n\\\n\n",
            "weakdep ext4 loop\n",
            "alias nasty-nul before\0after\n",
            "alias nasty-backslash back\\\\slash\n",
            "alias nasty-last loop",
        ),
    ),
];

/// One way of asking: options of modprobe, and a configuration as its directories.
struct Asked<'a> {
    kernel: &'a Kernel,
    /// Root of the configuration.
    root: &'a Path,
    flags: Flags,
}

impl Asked<'_> {
    /// The lines of `modprobe -D`, each once; `None` if it knows no such name.
    fn modprobe(&self, name: &[u8]) -> Option<Vec<String>> {
        let mut command = Command::new("modprobe");
        command.arg("-D").arg("-d").arg(&self.kernel.root).arg("-S").arg(&self.kernel.release);
        for directory in ["etc", "run", "usr/local/lib", "usr/lib", "lib"] {
            command.arg("-C").arg(self.root.join(directory).join("modprobe.d"));
        }
        command.args(self.flags.ignore_install.then_some("-i")).args(self.flags.use_blacklist.then_some("-b"));
        let output = command.arg("--").arg(OsStr::from_bytes(name)).output().expect("modprobe does not run");
        let mut lines = Vec::new();
        for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let line = match line.strip_prefix("insmod ") {
                Some(rest) => {
                    let (path, options) = rest.split_once(' ').unwrap_or((rest, ""));
                    let file = path.rsplit('/').next().unwrap();
                    format!("insmod {} {options}", file.split('.').next().unwrap().replace('-', "_"))
                }
                None => line.into_owned(),
            };
            push_once(&mut lines, line.trim_end().to_owned());
        }
        output.status.success().then_some(lines)
    }

    /// Whether `closure` says the same as these lines.
    fn agrees(&self, closure: &Closure, config: &Config, modprobe: Option<&[String]>) -> bool {
        let Some(modprobe) = modprobe else { return !closure.is_known() };
        let options = |module: &[u8]| -> String {
            config.options_of(module).map(|(text, _)| format!(" {}", String::from_utf8_lossy(text))).collect()
        };
        let install = |command: &model::Command| {
            format!("install {}{}", raw(&command.command), options(command.module.as_bytes())).trim_end().to_owned()
        };
        let (mut lines, mut bare) = (Vec::new(), Vec::new());
        for command in &closure.commands {
            if !closure.modules.iter().any(|module| module.name == command.module) {
                push_once(&mut bare, install(command));
            }
        }
        for module in &closure.modules {
            let command = closure.commands.iter().find(|command| command.module == module.name);
            let line = match (command, module.state) {
                (Some(command), _) => install(command),
                (None, ModuleState::Builtin) => format!("builtin {}", raw(&module.name)),
                (None, _) => format!("insmod {}{}", raw(&module.name), options(module.name.as_bytes())),
            };
            push_once(&mut lines, line.trim_end().to_owned());
        }
        // A module that is loaded by its command first and by itself later has its place where the command is.
        let again = |line: &String| {
            let module = line.strip_prefix("insmod ").and_then(|rest| rest.split(' ').next());
            closure.commands.iter().any(|command| module.is_some_and(|module| command.module == *module))
        };
        let (theirs_bare, theirs): (Vec<_>, Vec<_>) =
            modprobe.iter().filter(|line| !again(line)).cloned().partition(|line| bare.contains(line));
        closure.index == IndexHealth::Intact && lines == theirs && bare == theirs_bare
    }

    /// Compares all `names` and reports how many.
    fn compare(&self, title: &str, names: &[Vec<u8>]) {
        let next = AtomicUsize::new(0);
        let tally = Mutex::new((Vec::new(), 0, 0, 0));
        let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let tree = Host::at(&self.kernel.root).unwrap().modules(&self.kernel.release);
                    let (config, failures) = Host::at(self.root).unwrap().modprobe_config(&self.kernel.release);
                    assert!(failures.is_empty(), "{failures:?}");
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let closure = resolve(name, self.flags, &tree, &config, |_| false);
                        let modprobe = self.modprobe(name);
                        let mut tally = tally.lock().unwrap();
                        tally.1 += usize::from(modprobe.is_some());
                        tally.2 += closure.modules.len();
                        tally.3 += closure.commands.len() + closure.blacklisted.len();
                        if !self.agrees(&closure, &config, modprobe.as_deref()) {
                            tally.0.push(format!("{}\n  modprobe {modprobe:?}\n  we {closure:?}", name.escape_ascii()));
                        }
                    }
                });
            }
        });
        let (differences, known, modules, others) = tally.into_inner().unwrap();
        println!(
            "parity, {title}: {} names compared with modprobe -D, {known} known to it, {modules} modules, {others} commands and blacklisted, {} differences",
            names.len(),
            differences.len()
        );
        let shown: Vec<_> = differences.iter().take(20).map(String::as_str).collect();
        assert!(differences.is_empty(), "{title}: {} differ\n{}", differences.len(), shown.join("\n"));
    }
}

fn raw(text: &Text) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

fn push_once(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

/// A root with these files of configuration and what modprobe reads besides them.
fn configured(kernel: &Kernel, files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: PathBuf, bytes: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for (path, text) in files {
        write(root.path().join(path), text.as_bytes());
    }
    let softdep = fs::read(kernel.directory().join("modules.softdep")).unwrap();
    write(root.path().join("lib/modules").join(&kernel.release).join("modules.softdep"), &softdep);
    write(root.path().join("proc/cmdline"), &fs::read("/proc/cmdline").unwrap());
    root
}

/// Names that nobody gave a module: made up, and made from `names` by a slip or two.
fn strange(names: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(3);
    let mut strange = Vec::new();
    while strange.len() < count {
        let mut name = random.pick(names).clone();
        match random.below(4) {
            0 => name = (0..=random.below(55)).map(|_| random.byte()).collect(),
            1 => name.truncate(random.below(name.len() + 1)),
            2 => name.extend(random.text(b"-_*?[]\\x0", 4)),
            _ => {
                let at = random.below(name.len());
                name[at] = *random.pick(b"-_*?[]\\:. \xff");
            }
        }
        // modprobe takes a path for a file to load; no argument holds a NUL.
        if !name.contains(&0) && !name.starts_with(b"/") && !name.starts_with(b"./") {
            strange.push(name);
        }
    }
    strange
}

#[test]
fn every_name_of_a_kernel_loads_what_modprobe_loads() {
    let kernel = Kernel::unpacked();
    let names = kernel.names();
    assert!(names.len() >= WHOLE, "only {} names: take a generic kernel image", names.len());
    let root = configured(&kernel, &[]);
    Asked { kernel: &kernel, root: root.path(), flags: Flags::default() }.compare("every name", &names);
}

#[test]
fn strange_names_load_what_modprobe_loads() {
    let kernel = Kernel::unpacked();
    let root = configured(&kernel, &[]);
    let names = strange(&kernel.names(), 3000);
    Asked { kernel: &kernel, root: root.path(), flags: Flags::default() }.compare("strange names", &names);
}

#[test]
fn a_nasty_configuration_means_what_it_means_to_modprobe() {
    let kernel = Kernel::unpacked();
    let root = configured(&kernel, &NASTY);
    let own = "nasty-1 nasty-2 nasty-7 nasty-x nasty-wrapped nasty-wrapped-2 nasty-off nasty-dot nasty-none nasty-builtin \
        nasty-bare nasty-bare.dot nasty-removed nasty-nul nasty-backslash nasty-last nasty-hidden nasty- nasty_* ip-tables \
        net-pf-10 crypto-crc32c pci:v00008086d000010D3sv iptable-raw fs-ext2 off ext3 fs-ext4 nft-expr-ct xt_conntrack";
    let own: BTreeSet<Vec<u8>> = own.split_whitespace().map(|name| name.as_bytes().to_vec()).collect();
    let all = kernel.names();
    let modules: Vec<_> = all.iter().filter(|name| !name.contains(&b':')).cloned().collect();
    let aliases: Vec<_> = all.iter().filter(|name| name.contains(&b':')).step_by(15).cloned().collect();
    let names: Vec<_> = own.into_iter().chain(modules).chain(aliases).collect();
    let asked = |flags| Asked { kernel: &kernel, root: root.path(), flags };
    asked(Flags::default()).compare("nasty configuration", &names);
    let fewer: Vec<_> =
        names.iter().enumerate().filter(|(at, _)| *at < 100 || at % 4 == 0).map(|(_, name)| name.clone()).collect();
    asked(Flags { ignore_install: true, ..Flags::default() }).compare("nasty configuration, -i", &fewer);
    asked(Flags { use_blacklist: true, ..Flags::default() }).compare("nasty configuration, -b", &fewer);
}
