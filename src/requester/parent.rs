//! Who asked, if a program ran us: our parent, less the shells and modprobes between that only run us.

use crate::host::Host;
use crate::model::{Caller, Confidence, FoundBy};
use crate::requester::{Candidate, Parent, Searched, task};

/// More than a shell, a modprobe and another shell there are not between.
const MAX_BETWEEN: usize = 4;
/// Executables that are shells.
const SHELLS: [&[u8]; 7] = [b"sh", b"dash", b"bash", b"busybox", b"ash", b"ksh", b"zsh"];
/// Executables that are modprobe: as kmod, by itself, and us in its place.
const MODPROBES: [&[u8]; 3] = [b"kmod", b"modprobe", b"modprobe-guard"];

/// The process that wanted us to run.
pub(super) fn search(host: &Host, caller: Caller, parent: Parent) -> (Searched, Vec<Candidate>) {
    let read = |pid: i32| (pid > 0).then(|| task::Stat::read(host, &pid.to_string())).flatten();
    let Some(mut started) = parent.started else { return (Searched::default(), Vec::new()) };
    let (mut pid, mut above) = (parent.pid, parent.grandparent);
    for _ in 0..MAX_BETWEEN {
        if !only_runs_us(host, caller, pid) {
            break;
        }
        // Above what the kernel started nobody asked; whoever is younger has the number after another.
        let is_above = |stat: &task::Stat| !stat.is_kernel_thread && stat.started <= started;
        let Some(next) = read(above).filter(is_above) else { break };
        (pid, above, started) = (above, next.parent, next.started);
    }
    // One that ended meanwhile leaves its number to somebody else, who started later.
    let candidate = Candidate::new(pid, pid, Some(started));
    let searched = Searched { confidence: Confidence::Exact, found_by: Some(FoundBy::Parent), ..Searched::default() };
    (searched, vec![candidate])
}

/// Whether its program does nothing but run us. Most are told by their executable; reading a command line is what others
/// make hang first.
fn only_runs_us(host: &Host, caller: Caller, pid: i32) -> bool {
    let task = pid.to_string();
    let exe = task::executable(host, &task);
    let exe = exe.as_ref().map(|exe| base_name(exe.as_bytes())).unwrap_or_default();
    let may = SHELLS.contains(&exe) || (runs_below_modprobe(caller) && MODPROBES.contains(&exe));
    may && task::command_line(host, &task).is_some_and(|line| {
        let line: Vec<&[u8]> = line.iter().map(|argument| argument.as_bytes()).collect();
        only_runs_modprobe(caller, &line)
    })
}

/// `sh -c 'modprobe …'`, and the modprobe whose `install` line ran us.
fn only_runs_modprobe(caller: Caller, line: &[&[u8]]) -> bool {
    match line {
        [shell, option, command, ..] if SHELLS.contains(&base_name(shell)) || base_name(shell) == b"-sh" => {
            let command = command.strip_prefix(b"exec ").unwrap_or(command);
            let program = command.split(|&byte| byte == b' ').next().unwrap_or_default();
            let is_option = option.starts_with(b"-") && !option.starts_with(b"--") && option.ends_with(b"c");
            let is_ours = matches!(base_name(program), b"modprobe" | b"modprobe-guard");
            is_option && is_ours && !command.iter().any(|byte| b";&|\n`".contains(byte))
        }
        [program, ..] => runs_below_modprobe(caller) && base_name(program) == b"modprobe",
        [] => false,
    }
}

/// An `install` line may run us, be it as what we are or in modprobe's place.
fn runs_below_modprobe(caller: Caller) -> bool {
    matches!(caller, Caller::Hook | Caller::Modprobe)
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::ParentKind;
    use crate::requester::task::tests::host;

    #[test]
    fn above_a_shell_is_who_started_it_if_that_is_still_the_one() {
        let (root, host) = host(&[("50", "S", 1, 40), ("40", "S", 1, 1)]);
        let file = |name: &str| root.path().join("proc").join(name);
        std::fs::remove_file(file("50/exe")).unwrap();
        std::os::unix::fs::symlink("/bin/dash", file("50/exe")).unwrap();
        std::fs::write(file("50/cmdline"), "sh\0-c\0modprobe x\0").unwrap();
        let stat = std::fs::read_to_string(file("40/stat")).unwrap();
        let parent = Parent { pid: 50, grandparent: 40, kind: ParentKind::Program, started: Some(7), we_started: None };
        for (started, expected) in [(6, (40, 6)), (7, (40, 7)), (8, (50, 7))] {
            std::fs::write(file("40/stat"), stat.replace(" 0 5 0 0", &format!(" 0 {started} 0 0"))).unwrap();
            let (searched, candidates) = search(&host, Caller::Xtables, parent);
            let [found] = &candidates[..] else { panic!("{candidates:?}") };
            assert_eq!(searched.confidence, Confidence::Exact);
            assert_eq!((found.pid, found.started_by), (expected.0, Some(expected.1)), "{started}");
        }
        // One that may be another by now is nobody.
        assert!(search(&host, Caller::Xtables, Parent { started: None, ..parent }).1.is_empty());
    }

    #[test]
    fn what_only_runs_us_is_passed_over() {
        for (line, hook, other) in [
            (&["sh", "-c", "/usr/sbin/modprobe-guard --hook nf_conntrack "][..], true, true),
            (&["/bin/bash", "-ec", "exec modprobe nf_nat"], true, true),
            (&["sh", "-c", "modprobe nf_nat; rm -r /tmp/x"], false, false),
            (&["sh", "-c", "modprobe a && b"], false, false),
            (&["sh", "/etc/rc.local"], false, false),
            (&["bash"], false, false),
            (&["sh", "-c", "iptables -t nat -L"], false, false),
            (&["/sbin/modprobe", "-q", "--", "nf_nat"], true, false),
            (&["modprobe", "nf_nat", "modprobe"], true, false),
            (&["kmod", "load", "x"], false, false),
            (&[], false, false),
        ] {
            let bytes: Vec<&[u8]> = line.iter().map(|argument| argument.as_bytes()).collect();
            assert_eq!(only_runs_modprobe(Caller::Hook, &bytes), hook, "{line:?}");
            assert_eq!(only_runs_modprobe(Caller::Modprobe, &bytes), hook, "{line:?}");
            assert_eq!(only_runs_modprobe(Caller::Xtables, &bytes), other, "{line:?}");
        }
    }
}
