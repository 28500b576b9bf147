//! Indexes and configurations with bytes that are others than depmod(8) or an administrator wrote: what modprobe would load
//! then is what we say, or we say what is damaged. Never less than modprobe loads, and never nothing for ever.
//!
//! `MODPROBE_GUARD_MUTATIONS` in the environment sets how many are made of each file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use modprobe_guard::host::Host;
use modprobe_guard::model::{Closure, IndexHealth};
use modprobe_guard::modules::{Flags, module_of_path, resolve};

use crate::index::write_indexes;
use crate::random::Random;

const RELEASE: &str = "6.1.0";
/// Of each file.
const MUTATIONS: usize = 60;
/// What modprobe is asked for after each.
const NAMES: [&str; 10] = [
    "iptable_nat",
    "nf-conntrack",
    "ipt_MASQUERADE",
    "symbol:nf_conntrack_max",
    "unix",
    "net-pf-1",
    "pci:v00008086d000010D3sv00",
    "nasty-1",
    "tun",
    "nothing",
];

/// The files that are changed, as depmod or an administrator wrote them.
const FILES: [&str; 8] = [
    "lib/modules/6.1.0/modules.dep.bin",
    "lib/modules/6.1.0/modules.alias.bin",
    "lib/modules/6.1.0/modules.symbols.bin",
    "lib/modules/6.1.0/modules.builtin.bin",
    "lib/modules/6.1.0/modules.builtin.alias.bin",
    "lib/modules/6.1.0/modules.softdep",
    "etc/modprobe.d/a.conf",
    "lib/modprobe.d/b.conf",
];

/// A host with a small index.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (file, text) in [
        (
            "dep",
            "kernel/x/nf_defrag_ipv4.ko:\nkernel/x/libcrc32c.ko:\nkernel/x/x_tables.ko:\nkernel/x/tun.ko:\n\
             kernel/x/nf_conntrack.ko: kernel/x/nf_defrag_ipv4.ko kernel/x/libcrc32c.ko\n\
             kernel/x/nf_nat.ko: kernel/x/nf_conntrack.ko kernel/x/nf_defrag_ipv4.ko kernel/x/libcrc32c.ko\n\
             kernel/x/ip_tables.ko: kernel/x/x_tables.ko\n\
             kernel/x/iptable_nat.ko: kernel/x/ip_tables.ko kernel/x/nf_nat.ko kernel/x/nf_conntrack.ko \
             kernel/x/nf_defrag_ipv4.ko kernel/x/libcrc32c.ko kernel/x/x_tables.ko\n\
             kernel/x/e1000e.ko:\n",
        ),
        (
            "alias",
            "alias ipt_MASQUERADE iptable_nat\nalias ip_conntrack nf_conntrack\nalias nfct_helper* nf_nat\n\
             alias pci:v00008086d000010D3sv* e1000e\nalias pci:v00008086d*sv0? tun\nalias net_pf_2 tun\n",
        ),
        ("symbols", "alias symbol:nf_conntrack_max nf_conntrack\nalias symbol:nf_nat_setup_info nf_nat\n"),
        ("builtin", "kernel/net/unix/unix.ko\nkernel/crypto/aes_generic.ko\n"),
        ("builtin.alias", "alias net_pf_1 unix\nalias crypto_aes* aes_generic\n"),
        ("softdep", "softdep nf_nat pre: tun post: e1000e\nsoftdep e1000e pre: libcrc32c\n"),
    ] {
        put(&format!("lib/modules/{RELEASE}/modules.{file}"), text);
    }
    let directory = root.path().join("lib/modules").join(RELEASE);
    write_indexes(&directory);
    // modprobe gives all dependencies up where the file of one is not there.
    for line in fs::read_to_string(directory.join("modules.dep")).unwrap().lines() {
        put(&format!("lib/modules/{RELEASE}/{}", line.split(':').next().unwrap()), "");
    }
    put(
        "etc/modprobe.d/a.conf",
        "# one\nalias nasty-1 nf-conntrack\nalias nasty-[0-9] nf-nat\nblacklist e1000e\ninstall tun /bin/echo $CMDLINE_OPTS\n\
         options nf-conntrack hashsize=1024\\\n acct=1\nsoftdep x_tables pre: unix post: tun\n",
    );
    put("lib/modprobe.d/b.conf", "install libcrc32c\t/bin/true\nremove tun /bin/false\nblacklist nf_nat\n");
    put("proc/cmdline", "");
    root
}

/// `bytes` with a slip or two.
fn changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.byte(),
            2 if at < bytes.len() => bytes[at] = *random.pick(b"\0 \n\\*?[]-_:/#ax\x20\x40\x60\x80"),
            3 => bytes.truncate(at),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at.min(bytes.len()), *random.pick(b"\0 \n\\*?[]-_:/#a\x20\x80")),
        }
    }
    bytes
}

/// What `modprobe -D` says.
#[derive(Debug)]
enum Modprobe {
    /// Modules with files, commands and modules of the image, each once, sorted.
    Loads(Vec<Vec<u8>>),
    Refuses,
    /// A signal ended it, or the time did.
    Dies,
}

fn modprobe(root: &Path, name: &str) -> Modprobe {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60", "modprobe", "-D", "-S", RELEASE, "-d"]).arg(root);
    for directory in ["etc", "lib"] {
        command.arg("-C").arg(root.join(directory).join("modprobe.d"));
    }
    let output = command.arg("--").arg(OsStr::from_bytes(name.as_bytes())).output().unwrap();
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => {
            let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let mut said: Vec<Vec<u8>> = lines.filter_map(of_line).collect();
            said.sort();
            said.dedup();
            Modprobe::Loads(said)
        }
        (Some(code), None) if code < 124 => Modprobe::Refuses,
        _ => Modprobe::Dies,
    }
}

/// The module of `insmod PATH OPTIONS`, if there is such a file, and of `builtin NAME`. What `install COMMAND` would run
/// has its own tests.
fn of_line(line: &[u8]) -> Option<Vec<u8>> {
    if let Some(name) = line.strip_prefix(b"builtin ") {
        return Some(name.to_vec());
    }
    let path = line.strip_prefix(b"insmod ")?.split(|&byte| byte == b' ').next()?;
    Path::new(OsStr::from_bytes(path)).is_file().then(|| module_of_path(path))?
}

/// The same of ours.
fn ours(closure: &Closure) -> Vec<Vec<u8>> {
    let runs_instead = |name: &[u8]| closure.commands.iter().any(|command| command.module.as_bytes() == name);
    let names = closure.modules.iter().map(|module| module.name.as_bytes().to_vec());
    let mut names: Vec<Vec<u8>> = names.filter(|name| !runs_instead(name)).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn what_modprobe_makes_of_damage_we_make_of_it_or_tell() {
    let mutations = std::env::var("MODPROBE_GUARD_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap());
    let root = host();
    let mut random = Random::new(7);
    let (mut same, mut refused, mut told, mut fewer, mut died) = (0, 0, 0, 0, 0);
    for file in FILES {
        let path = root.path().join(file);
        let sound = fs::read(&path).unwrap();
        for mutation in 0..=mutations {
            // The first is the file as it should be.
            let bytes = if mutation == 0 { sound.clone() } else { changed(&sound, &mut random) };
            fs::write(&path, &bytes).unwrap();
            for name in [NAMES[random.below(NAMES.len())], NAMES[random.below(NAMES.len())], "iptable_nat"] {
                let host = Host::at(root.path()).unwrap();
                let (config, failures) = host.modprobe_config(RELEASE);
                let closure = resolve(name.as_bytes(), Flags::default(), &host.modules(RELEASE), &config, |_| false);
                let is_told = closure.index != IndexHealth::Intact || !failures.is_empty();
                let is_ours = |name: &Vec<u8>| closure.modules.iter().any(|module| module.name.as_bytes() == *name);
                match modprobe(root.path(), name) {
                    Modprobe::Loads(theirs) if theirs == ours(&closure) => same += 1,
                    Modprobe::Refuses if !closure.is_known() => refused += 1,
                    _ if is_told => told += 1,
                    // A file that is not there takes all dependencies away from modprobe, which then fails.
                    Modprobe::Loads(theirs) if theirs.iter().all(is_ours) && mutation > 0 => fewer += 1,
                    Modprobe::Refuses if mutation > 0 => fewer += 1,
                    Modprobe::Dies if mutation > 0 => died += 1,
                    modprobe => panic!("{file}: {}\n{name}: {modprobe:?}\n{closure:?}", bytes.escape_ascii()),
                }
            }
        }
        fs::write(&path, &sound).unwrap();
    }
    let all = same + refused + told + fewer + died;
    println!(
        "mutated: {all} names compared with modprobe -D: {same} the same, {refused} known to neither, {told} told as \
         damaged, {fewer} of which modprobe loads less, {died} on which it dies"
    );
    assert!(same > all / 2 && refused > all / 50 && told > all / 100 && fewer < all / 10);
}
