//! The parents of a task, up to init.

use crate::host::Host;
use crate::model::Parent;
use crate::requester::task::{MAX_PATH, Stat, executable, is_changing, some_thread};

/// At most so many parents are followed: deeper trees exist, but nobody reads them.
const MAX_PARENTS: usize = 32;
/// So often somebody may get another parent while his parents are looked at.
const TRIES: u32 = 8;

/// One that is a parent of somebody.
#[derive(Clone)]
struct Ancestor {
    is: Parent,
    /// Its own parent.
    parent: i32,
    /// Start, in clock ticks since boot.
    started: u64,
}

/// Finds parents of tasks of one moment: what they have in common is read once.
pub struct Ancestors<'a> {
    host: &'a Host,
    known: Vec<Ancestor>,
}

impl Ancestors<'_> {
    /// Reads nothing yet.
    pub fn new(host: &Host) -> Ancestors<'_> {
        Ancestors { host, known: Vec::new() }
    }

    /// The parents of `child`, of which this is known, nearest first, and whether somebody keeps some of them from us.
    pub fn of(&mut self, child: &str, stat: &Stat) -> (Vec<Parent>, bool) {
        let (mut parents, mut child) = (Vec::new(), child.to_owned());
        let (mut pid, mut started, mut tries) = (stat.parent, stat.started, TRIES);
        while pid > 0 {
            if parents.len() >= MAX_PARENTS {
                return (parents, true);
            }
            let known = self.known.iter().find(|one| one.is.pid == pid).cloned();
            // Whoever is younger than its child has the number after another.
            if let Some(ancestor) = known.or_else(|| self.read(pid)).filter(|one| one.started <= started) {
                parents.push(ancestor.is);
                (child, pid, started) = (pid.to_string(), ancestor.parent, ancestor.started);
                continue;
            }
            // It may have ended since it was read whose child this is: then it is another one's now.
            let now = Stat::read(self.host, &child).map_or(pid, |stat| stat.parent);
            if now == pid || tries == 0 {
                return (parents, now != pid || is_changing(&pid.to_string()));
            }
            (pid, tries) = (now, tries.saturating_sub(1));
        }
        (parents, false)
    }

    fn read(&mut self, pid: i32) -> Option<Ancestor> {
        if is_changing(&pid.to_string()) {
            return None;
        }
        let stat = Stat::read(self.host, &pid.to_string())?;
        let exe = executable(self.host, &some_thread(self.host, pid, &stat)).map(|path| path.short(MAX_PATH));
        let is = Parent { pid, comm: Some(stat.comm), exe };
        let read = Ancestor { is, parent: stat.parent, started: stat.started };
        self.known.push(read.clone());
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::apart;
    use crate::requester::task::Describer;
    use crate::requester::task::tests::host;

    #[test]
    fn who_has_parents_that_nobody_can_see_hides() {
        let paths: Vec<_> = (1..=40).map(|pid| (format!("{pid}"), format!("{pid}/task/{pid}"), pid - 1)).collect();
        let tasks: Vec<_> = paths
            .iter()
            .flat_map(|(process, thread, parent)| [(&**process, "S", 1, *parent), (&**thread, "S", 1, *parent)])
            .collect();
        let (_root, host) = host(&tasks);
        let own = i32::try_from(MAX_PARENTS).unwrap() + 1;
        for (pid, hides) in [(own - 1, false), (own, false), (own + 1, true)] {
            let task = Describer::new(&host).describe(pid, pid).unwrap();
            assert_eq!(
                (task.parents.len().min(MAX_PARENTS), task.known.hides),
                ((pid as usize - 1).min(MAX_PARENTS), hides)
            );
        }
        // One of them becomes another program for ever.
        let describe = || Describer::new(&host).describe(9, 9).unwrap();
        for (hangs, hides) in [
            (c"/proc/8/stat", true),
            (c"/proc/3/exe", true),
            (c"/proc/20/stat", false),
            (c"/proc/9/task/9/loginuid", false),
        ] {
            let task = apart::ask(&host.opened(), || (apart::hang(hangs), describe()).1).unwrap();
            assert_eq!(task.known.hides, hides, "{hangs:?}");
        }
    }

    #[test]
    fn who_is_younger_is_nobodys_parent() {
        let (root, host) = host(&[("9", "S", 1, 8), ("9/task/9", "S", 1, 8), ("8", "S", 1, 1), ("1", "S", 1, 0)]);
        let file = root.path().join("proc/8/stat");
        let stat = std::fs::read_to_string(&file).unwrap();
        for (started, expected) in [(5, vec![8, 1]), (4, vec![8]), (6, vec![])] {
            std::fs::write(&file, stat.replace(" 0 5 0 0", &format!(" 0 {started} 0 0"))).unwrap();
            let task = Describer::new(&host).describe(9, 9).unwrap();
            assert_eq!(task.parents.iter().map(|parent| parent.pid).collect::<Vec<_>>(), expected, "{started}");
            assert!(!task.known.hides);
        }
        // Its parent has ended since, and it is somebody else's child.
        std::fs::remove_dir_all(root.path().join("proc/8")).unwrap();
        let stat = Stat { parent: 8, ..Stat::read(&host, "9").unwrap() };
        let write = |parent: i32| {
            let stat = format!("9 (x) S {parent} 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 5 0 0");
            std::fs::write(root.path().join("proc/9/stat"), stat).unwrap();
        };
        for (now, expected) in [(1, vec![1]), (8, vec![]), (7, vec![])] {
            write(now);
            let (parents, hides) = Ancestors::new(&host).of("9", &stat);
            assert_eq!((parents.iter().map(|parent| parent.pid).collect::<Vec<_>>(), hides), (expected, false));
        }
    }
}
