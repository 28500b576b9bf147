//! Whose host it is, and with that the commands that mend it.

use crate::host::Host;
use crate::text::Text;

/// Where dpkg keeps the lists of files that packages brought.
const DPKG_LISTS: &str = "/var/lib/dpkg/info";

/// Who made the host's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian and what is made of it, Ubuntu apart.
    Debian,
    /// Ubuntu: the rarer modules are in a package of their own.
    Ubuntu,
    /// Fedora, RHEL and what is made of them.
    Fedora,
    /// Any other.
    Other,
}

/// A host's distribution.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    /// Whose packages it has.
    pub family: Family,
}

impl Distribution {
    /// By os-release(5).
    pub fn of(host: &Host) -> Distribution {
        let read = |path| host.read(path, 64 << 10).ok();
        let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|line| line.trim().trim_matches(['"', '\'']).to_ascii_lowercase()).unwrap_or_default()
        };
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        let is = |wanted: &[&str]| names.split_ascii_whitespace().any(|name| wanted.contains(&name));
        let family = match () {
            () if is(&["ubuntu"]) => Family::Ubuntu,
            () if is(&["debian"]) || host.exists("/var/lib/dpkg/status") => Family::Debian,
            () if is(&["fedora", "rhel", "centos", "suse"]) || host.exists("/etc/redhat-release") => Family::Fedora,
            () => Family::Other,
        };
        Distribution { family }
    }

    /// Commands that bring the file of a module, `path`, of the kernel `kernel` back. `was_there` tells whether what is
    /// installed knows of it.
    pub fn bring(self, host: &Host, kernel: &str, path: Option<&str>, was_there: bool) -> Vec<String> {
        if let Some(package) = path.and_then(|path| owner(host, kernel, path)) {
            return vec![format!("apt-get install --reinstall -y {package}")];
        }
        match self.family {
            Family::Ubuntu if was_there => {
                vec![format!("apt-get install --reinstall -y linux-modules-{kernel} linux-modules-extra-{kernel}")]
            }
            Family::Ubuntu => vec![format!("apt-get install -y linux-modules-extra-{kernel}")],
            Family::Debian => vec![format!("apt-get install --reinstall -y {}", image(host, kernel))],
            Family::Fedora if was_there => {
                vec![format!("dnf reinstall -y kernel-core-{kernel} 'kernel-modules*-{kernel}'")]
            }
            Family::Fedora => vec![format!("dnf install -y kernel-modules-{kernel} kernel-modules-extra-{kernel}")],
            Family::Other => vec![format!("# install the package that holds the modules of kernel {kernel}, anew")],
        }
    }

    /// Commands that bring all modules of the kernel `kernel` back.
    pub fn bring_kernel(self, host: &Host, kernel: &str) -> Vec<String> {
        match self.family {
            Family::Ubuntu => {
                vec![format!("apt-get install --reinstall -y linux-image-{kernel} linux-modules-{kernel}")]
            }
            Family::Debian => vec![format!("apt-get install --reinstall -y {}", image(host, kernel))],
            Family::Fedora => {
                let packages = format!("kernel-core-{kernel} kernel-modules-{kernel}");
                vec![format!("dnf reinstall -y {packages} || dnf install -y {packages}")]
            }
            Family::Other => vec![format!("# install the package that holds the modules of kernel {kernel}, anew")],
        }
    }

    /// Commands that take `word` from the kernel command line, from the next boot on.
    pub fn boot_without(self, word: &str) -> Vec<String> {
        self.boot_with(word, "")
    }

    /// Commands that take `name` out of `word`, a list `KEY=NAME,NAME...` on the kernel command line.
    pub fn boot_without_name(self, word: &str, name: &str) -> Vec<String> {
        let (key, names) = word.split_once('=').unwrap_or((word, ""));
        let left: Vec<&str> = names.split(',').filter(|listed| *listed != name && !listed.is_empty()).collect();
        if left.is_empty() {
            self.boot_without(word)
        } else {
            self.boot_with(word, &format!("{key}={}", left.join(",")))
        }
    }

    /// Commands that put `new` in the place of `word` on the kernel command line, from the next boot on.
    fn boot_with(self, word: &str, new: &str) -> Vec<String> {
        let command = match self.family {
            Family::Fedora if new.is_empty() => format!("grubby --update-kernel=ALL --remove-args={}", quoted(word)),
            Family::Fedora => {
                format!("grubby --update-kernel=ALL --remove-args={} --args={}", quoted(word), quoted(new))
            }
            Family::Debian | Family::Ubuntu => {
                let escaped = |text: &str| -> String {
                    let special = |c: char| "\\/.*[]^$&".contains(c);
                    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
                };
                // What stands before the word ends another one, or begins the value.
                let (old, new) = (escaped(word), escaped(new));
                let script = format!("/^GRUB_CMDLINE_LINUX/s/\\([ \"'=]\\){old}\\([ \"']\\|$\\)/\\1{new}\\2/");
                format!("sed -i {} /etc/default/grub /etc/default/grub.d/*.cfg; update-grub", quoted(&script))
            }
            Family::Other if new.is_empty() => {
                format!("# take {} from the boot loader's kernel command line", quoted(word))
            }
            Family::Other => format!(
                "# put {} in the place of {} in the boot loader's kernel command line",
                quoted(new),
                quoted(word)
            ),
        };
        vec![command, "reboot".to_owned()]
    }

    /// The command that installs a package, named as Debian and as Fedora name it.
    pub fn install(self, debian: &str, fedora: &str) -> String {
        match self.family {
            Family::Debian | Family::Ubuntu => format!("apt-get install --reinstall -y {debian}"),
            Family::Fedora => format!("dnf reinstall -y {fedora} || dnf install -y {fedora}"),
            Family::Other => format!("# install {debian}, or {fedora}, anew"),
        }
    }
}

/// The package of a Debian kernel's modules: from 7 on they are apart from the image.
fn image(host: &Host, kernel: &str) -> String {
    let modules = format!("linux-modules-{kernel}");
    let is_apart = host.exists(format!("{DPKG_LISTS}/{modules}.list"));
    if is_apart { modules } else { format!("linux-image-{kernel}") }
}

/// The kernel package that brought `path`, if dpkg says so.
fn owner(host: &Host, kernel: &str, path: &str) -> Option<String> {
    let merged = path.strip_prefix("/usr").unwrap_or(path);
    host.list(DPKG_LISTS).unwrap_or_default().into_iter().find_map(|name| {
        let package = name.to_str()?.strip_suffix(".list")?.to_owned();
        let package_of_kernel = package.contains(kernel);
        let list = package_of_kernel.then(|| host.read(format!("{DPKG_LISTS}/{package}.list"), 16 << 20).ok())??;
        let lines = list.split(|&byte| byte == b'\n');
        let mut lines = lines.map(|line| line.strip_prefix(b"/usr").unwrap_or(line));
        lines.any(|line| line == merged.as_bytes()).then_some(package)
    })
}

/// `word` for a shell: in single quotes if it holds anything that a shell would understand.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// [`quoted`] for names that may hold any bytes: what is not printable makes the command a remark.
pub fn quoted_name(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) if !name.chars().any(char::is_control) => quoted(name),
        _ => format!("'{}'", Text::from(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn hosts_are_told_apart() {
        for (text, family) in [
            ("ID=debian\n", Family::Debian),
            ("PRETTY_NAME=\"x\"\nID=ubuntu\nID_LIKE=debian\n", Family::Ubuntu),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Family::Ubuntu),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Family::Fedora),
            ("ID=fedora\n", Family::Fedora),
            ("ID=alpine\n", Family::Other),
            ("\u{0}\n=\nID", Family::Other),
        ] {
            let (_root, host) = host(&[("etc/os-release", text)]);
            assert_eq!(Distribution::of(&host).family, family, "{text}");
        }
    }

    #[test]
    fn the_package_that_brought_a_file_is_known() {
        let list = "/.\n/lib\n/lib/modules/6.1.0/kernel/net/x.ko\n";
        let (_root, host) = host(&[
            ("etc/os-release", "ID=debian\n"),
            ("var/lib/dpkg/info/linux-image-6.1.0.list", list),
            ("var/lib/dpkg/info/linux-image-5.10.list", list),
        ]);
        let distribution = Distribution::of(&host);
        for path in ["/lib/modules/6.1.0/kernel/net/x.ko", "/usr/lib/modules/6.1.0/kernel/net/x.ko"] {
            let fix = distribution.bring(&host, "6.1.0", Some(path), true);
            assert_eq!(fix, ["apt-get install --reinstall -y linux-image-6.1.0"]);
        }
    }

    #[test]
    fn one_name_of_several_leaves_the_kernel_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("grub");
        for (line, word, name, expected) in [
            (
                "\"quiet module_blacklist=a,nf_conntrack,b\"",
                "module_blacklist=a,nf_conntrack,b",
                "nf_conntrack",
                "\"quiet module_blacklist=a,b\"",
            ),
            ("\"module_blacklist=nf_conntrack quiet\"", "module_blacklist=nf_conntrack", "nf_conntrack", "\" quiet\""),
            ("\"x.module_blacklist=a\"", "module_blacklist=a", "a", "\"x.module_blacklist=a\""),
            ("'modprobe.blacklist=a'", "modprobe.blacklist=a", "a", "''"),
        ] {
            std::fs::write(&file, format!("GRUB_CMDLINE_LINUX_DEFAULT={line}\n")).unwrap();
            let commands = Distribution { family: Family::Debian }.boot_without_name(word, name);
            let command =
                commands[0].replace("/etc/default/grub /etc/default/grub.d/*.cfg; update-grub", file.to_str().unwrap());
            assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success());
            let found = std::fs::read_to_string(&file).unwrap();
            assert_eq!(found, format!("GRUB_CMDLINE_LINUX_DEFAULT={expected}\n"), "{command}");
            let commands = Distribution { family: Family::Fedora }.boot_without_name(word, name);
            assert!(commands[0].starts_with("grubby --update-kernel=ALL --remove-args="), "{commands:?}");
        }
    }

    #[test]
    fn words_for_a_shell_are_quoted() {
        for (word, expected) in
            [("a-b.c=1", "a-b.c=1"), ("a b", "'a b'"), ("a'b", "'a'\\''b'"), ("", "''"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted_name(b"a\nb"), "'a\\x0ab'");
    }
}
