//! The `install` lines of modprobe.d that have kmod ask us: how one is written, and how it is known again.
#![forbid(unsafe_code)]

use super::lines::Words;
use super::names::normalise;

/// Where the helper is installed.
pub const HELPER: &str = "/usr/sbin/modprobe-guard";

/// The line that makes modprobe(8), and whoever else uses libkmod, ask us before `module` is loaded, be it for its own
/// sake or for another one's. `None` if a shell or fnmatch(3) would take the name for more than a name; no build of the
/// kernel makes such a one.
///
/// kmod puts the module's options in the place of `$CMDLINE_OPTS` and hands the whole to `sh -c`
/// (`module_do_install_commands`, system(3)). `exec`, because there are shells that would stand between kmod and us: then
/// nobody could tell a request that was decided already from a new one.
pub fn install_line(module: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(module).ok().filter(|_| is_plain(module))?;
    Some(format!("install {name} exec {HELPER} --hook {name} $CMDLINE_OPTS"))
}

fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether a file holds nothing but comments and what [`install_line`] makes. Where the default blocks it has a line for
/// nearly every module, and a request should not wait until each was taken apart.
pub(super) fn are_hooks(file: &[u8]) -> bool {
    let is_comment = |line: &[u8]| line.first().is_none_or(|first| *first == b'#') && !line.contains(&b'\\');
    file.split(|byte| *byte == b'\n').all(|line| is_install_line(line).is_some() || is_comment(line))
}

fn is_install_line(line: &[u8]) -> Option<()> {
    let rest = line.strip_prefix(b"install ")?;
    let name = rest.get(..rest.iter().position(|byte| *byte == b' ')?).filter(|name| is_plain(name))?;
    let rest = rest.strip_prefix(name)?.strip_prefix(b" exec ")?.strip_prefix(HELPER.as_bytes())?;
    let rest = rest.strip_prefix(b" --hook ")?.strip_prefix(name)?;
    (rest == b" $CMDLINE_OPTS").then_some(())
}

/// Whether `command`, set for `module`, does nothing but ask us, who then load what modprobe would have loaded. With or
/// without `exec` and options, so that a line that a person wrote counts as well.
pub(super) fn is_hook(module: &[u8], command: &[u8]) -> bool {
    let words: Vec<&[u8]> = Words(command).collect();
    let words = words.strip_prefix(&[b"exec".as_slice()]).unwrap_or(&words);
    let ([program, hook, name] | [program, hook, name, b"$CMDLINE_OPTS"]) = words else { return false };
    *program == HELPER.as_bytes() && *hook == b"--hook" && normalise(name).is_some_and(|name| *name == *module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_known_again() {
        let line = install_line(b"nf_conntrack").unwrap();
        let command = line.strip_prefix("install nf_conntrack ").unwrap();
        assert!(is_hook(b"nf_conntrack", command.as_bytes()));
        assert!(are_hooks(format!("# x\n\n{line}\n{line}\n").as_bytes()) && are_hooks(b""));
        for other in [
            "install a b",
            "# \\",
            "alias a b",
            &format!("{line} "),
            &format!(" {line}"),
            &line.replace("k nf", "k xf"),
        ] {
            assert!(!are_hooks(format!("{line}\n{other}\n{line}").as_bytes()), "{other}");
        }
        for name in ["", "a b", "a;b", "a*", "a$b", "ä", "a\n", "[a]"] {
            assert_eq!(install_line(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn only_what_does_nothing_else_is_one() {
        for (command, expected) in [
            ("/usr/sbin/modprobe-guard --hook nf_nat", true),
            (" exec  /usr/sbin/modprobe-guard\t--hook nf-nat $CMDLINE_OPTS ", true),
            ("/usr/sbin/modprobe-guard --hook nf_conntrack $CMDLINE_OPTS", false),
            ("/usr/sbin/modprobe-guard --hook nf_nat $CMDLINE_OPTS && sysctl -p", false),
            ("/usr/sbin/modprobe-guard --hook nf_nat; true", false),
            ("/usr/sbin/modprobe-guard nf_nat", false),
            ("/tmp/modprobe-guard --hook nf_nat", false),
            ("true; exec /usr/sbin/modprobe-guard --hook nf_nat", false),
            ("/sbin/modprobe --ignore-install nf_nat", false),
            ("", false),
        ] {
            assert_eq!(is_hook(b"nf_nat", command.as_bytes()), expected, "{command}");
        }
    }
}
