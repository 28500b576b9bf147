//! Who asked, as a rule would name them: by what stays the same over boots, users and hosts.

use crate::model::Namespace;
use crate::policy::pattern;
use crate::policy::requester::check_path;
use crate::text::Text;

use super::line::{Requester, Str, Task, text};
use super::unit;

/// The requesters that one rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// By unit: patterns, sorted.
    Units(Vec<String>, Users),
    /// By container; the name as a pattern if it is one that somebody gave. The unit as a pattern, [`NO_UNIT`] if it is
    /// in none; none if no pattern can tell.
    Container { name: Option<String>, unit: Option<String>, userns: Option<Namespaces> },
    /// By executable: files of the host, sorted.
    Exes(Vec<String>, Users),
    /// Root, of whom nothing else is known that lasts: threads of the kernel, who was gone when it was looked at.
    Root,
    /// Found, but too uncertainly, or nothing about them is of the kind that a rule can name.
    Unnamed,
    /// Nobody was found.
    Unknown,
}

/// Which users a rule by unit or executable is about. What a person started is asked for its user: that root did it
/// once by hand gives nobody else the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Users {
    /// It runs as whatever user its unit says.
    Any,
    /// Root.
    Root,
    /// Others; what they may, root may as well.
    Others,
}

/// What everybody who made some requests was known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Common {
    /// Root of the host.
    pub is_root: bool,
    /// In the host's user namespace.
    pub is_in_host: bool,
}

impl Common {
    /// Of whoever made the request of a line: of several who may have, of all.
    pub(super) fn of(requester: Option<&Requester<'_>>) -> Common {
        let of = |facts: Facts<'_>| Common { is_root: facts.uid == Some(0), is_in_host: facts.userns == Some("host") };
        let Some(requester) = requester else { return Common::default() };
        let candidates = requester.candidates.iter().map(|task| of(Facts::of_task(task)));
        candidates.reduce(Common::and).unwrap_or_else(|| of(Facts::of_requester(requester)))
    }

    /// What both are.
    pub fn and(self, other: Common) -> Common {
        Common { is_root: self.is_root && other.is_root, is_in_host: self.is_in_host && other.is_in_host }
    }
}

/// Whose user namespace a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// The host's.
    Host,
    /// One of its own: any user can make such a container.
    Other,
}

/// As a pattern for units: none. systemd has each process of a user in one.
pub const NO_UNIT: &str = "!*";
/// So many candidates at most are named in one rule.
const MANY: usize = 8;
/// So many units at most.
const UNITS: usize = 32;
/// Paths below which nothing stays what it is.
const FLEETING: [&str; 7] = ["/memfd:", "/tmp/", "/var/tmp/", "/dev/", "/proc/", "/run/", "/sys/"];
/// The longest path that is taken for one.
const LONGEST: usize = 1024;

/// What is known of one task.
#[derive(Clone, Copy)]
struct Facts<'a> {
    exe: Option<&'a str>,
    unit: Option<&'a str>,
    container: Option<&'a str>,
    uid: Option<u32>,
    userns: Option<&'a str>,
    mntns: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn of_requester(requester: &'a Requester<'_>) -> Facts<'a> {
        let Requester { exe, unit, container, uid, userns, mntns, .. } = requester;
        Facts::new([exe, unit, container, userns, mntns], *uid)
    }

    fn of_task(task: &'a Task<'_>) -> Facts<'a> {
        let Task { exe, unit, container, uid, userns, mntns } = task;
        Facts::new([exe, unit, container, userns, mntns], *uid)
    }

    fn new([exe, unit, container, userns, mntns]: [&'a Option<Str<'_>>; 5], uid: Option<u32>) -> Facts<'a> {
        let [exe, unit, container, userns, mntns] = [exe, unit, container, userns, mntns].map(text);
        Facts { exe, unit, container, uid, userns, mntns }
    }
}

impl Who {
    /// Who made the request of a record. A rule that permits is certain only of whom the recorder found, or who ran us
    /// (`Who::is`, policy/requester.rs), and with `trusts_likely` of whoever else was found.
    pub(super) fn of(requester: Option<&Requester<'_>>, trusts_likely: bool) -> Who {
        let Some(requester) = requester else { return Who::Unknown };
        let found_by = text(&requester.found_by);
        let is_trusted = match text(&requester.confidence) {
            Some("exact") => true,
            Some("ambiguous") if matches!(found_by, Some("recorder" | "parent")) => true,
            Some("ambiguous" | "likely") => trusts_likely,
            Some("unknown") | None => return Who::Unknown,
            Some(_) => false,
        };
        if is_trusted { Who::named(requester) } else { Who::Unnamed }
    }

    /// Whoever it was that made all the requests of a count. How well they were known it does not tell.
    pub(super) fn of_counted(requester: Option<&Requester<'_>>) -> Who {
        let Some(requester) = requester else { return Who::Unknown };
        let unit = text(&requester.unit);
        match unit.and_then(unit::container) {
            Some(id) => Who::container(&Text::from(id).to_string(), unit, None),
            None => Who::named(requester),
        }
    }

    fn named(requester: &Requester<'_>) -> Who {
        let mut candidates = requester.candidates.iter().map(|task| Who::of_task(Facts::of_task(task)));
        match candidates.next() {
            None => Who::of_task(Facts::of_requester(requester)),
            Some(first) => candidates.fold(first, Who::and),
        }
    }

    fn of_task(facts: Facts<'_>) -> Who {
        let Facts { exe, unit, container, uid, userns, mntns } = facts;
        if let Some(container) = container {
            return Who::container(container, unit, userns);
        }
        let users = if uid == Some(0) { Users::Root } else { Users::Others };
        if let Some(unit) = unit.and_then(unit_pattern) {
            let users = if unit::is_a_persons(&unit) { users } else { Users::Any };
            return Who::Units(vec![unit], users);
        }
        // In a mount namespace of its own a path names a file that may not be the host's.
        match exe.filter(|_| mntns != Some("other")).and_then(host_file) {
            Some(path) => Who::Exes(vec![path], users),
            None if users == Users::Root => Who::Root,
            None => Who::Unnamed,
        }
    }

    fn container(container: &str, unit: Option<&str>, userns: Option<&str>) -> Who {
        let userns = match userns {
            Some("host") => Some(Namespaces::Host),
            Some("other") => Some(Namespaces::Other),
            _ => None,
        };
        let is_name = |name: &&str| {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\'));
            is_plain && !name.is_empty() && name.len() <= 128 && !matches!(*name, "true" | "false")
        };
        let name = Some(container).filter(|name| !unit::is_id(name)).filter(is_name).map(pattern::literal);
        Who::Container { name, unit: unit.map_or(Some(NO_UNIT.to_owned()), unit_pattern), userns }
    }

    /// One rule that holds for both, if a rule can name them together.
    fn and(self, other: Who) -> Who {
        let union = |mut ours: Vec<String>, theirs: Vec<String>| {
            ours.extend(theirs);
            ours.sort_unstable();
            ours.dedup();
            ours
        };
        let both = match (self, other) {
            (ours, theirs) if ours == theirs => ours,
            (Who::Units(ours, users), Who::Units(theirs, others)) => {
                Who::Units(union(ours, theirs), if users == others { users } else { Users::Any })
            }
            (Who::Exes(ours, users), Who::Exes(theirs, others)) => {
                Who::Exes(union(ours, theirs), if users == others { users } else { Users::Others })
            }
            _ => Who::Unnamed,
        };
        match &both {
            Who::Units(names, _) | Who::Exes(names, _) if names.len() > MANY => Who::Unnamed,
            _ => both,
        }
    }

    /// One rule by unit for all of `requesters`, if each is known by that and they run as the same users.
    pub fn all_units<'a>(requesters: impl IntoIterator<Item = &'a Who>) -> Option<Who> {
        let mut all: Option<(Vec<String>, Users)> = None;
        for who in requesters {
            let Who::Units(units, users) = who else { return None };
            let (names, ours) = all.get_or_insert_with(|| (Vec::new(), *users));
            if ours != users {
                return None;
            }
            names.extend(units.iter().cloned());
        }
        let (mut names, users) = all?;
        names.sort_unstable();
        names.dedup();
        (names.len() <= UNITS).then_some(Who::Units(names, users))
    }

    /// What of `common` a rule about them has to ask for as well: whatever others, whom it was not made for, could meet
    /// it without.
    pub fn beside(&self, common: Common) -> Common {
        match self {
            // Anybody can run that, in a user namespace of their own as well.
            Who::Units(_, Users::Others) | Who::Exes(_, Users::Others) => Common { is_root: false, ..common },
            Who::Container { unit: None, .. } => Common { is_in_host: false, ..common },
            Who::Container { unit: Some(unit), .. } if unit == NO_UNIT => Common { is_in_host: false, ..common },
            _ => Common::default(),
        }
    }

    /// Whether a rule can name them.
    pub fn is_named(&self) -> bool {
        !matches!(self, Who::Unnamed | Who::Unknown)
    }

    /// The same, whatever user they run as.
    pub fn of_all_users(&self) -> Option<Who> {
        match self {
            Who::Units(units, Users::Root) => Some(Who::Units(units.clone(), Users::Others)),
            Who::Exes(exes, Users::Root) => Some(Who::Exes(exes.clone(), Users::Others)),
            _ => None,
        }
    }

    /// Words for a comment; what came from records is in its printable form.
    pub fn shown(&self) -> String {
        let of = |names: &[String], users: Users| {
            let names: Vec<String> = names.iter().map(|name| Text::from(name.as_str()).to_string()).collect();
            let users = match users {
                Users::Any => "",
                Users::Root => " as root",
                Users::Others => " as any user",
            };
            names.join(" or ") + users
        };
        match self {
            Who::Units(names, users) | Who::Exes(names, users) => of(names, *users),
            Who::Container { name, unit, userns } => {
                let name = name.as_deref().map_or("containers".to_owned(), |name| format!("container {name}"));
                let name = match unit.as_deref() {
                    Some(NO_UNIT) => name + " in no unit",
                    Some(unit) => name + " in " + &Text::from(unit).to_string(),
                    None => name,
                };
                match userns {
                    None => name,
                    Some(Namespaces::Host) => name + " without a user namespace of their own",
                    Some(Namespaces::Other) => name + " with a user namespace of their own",
                }
            }
            Who::Root => "root, of whom no more is known".to_owned(),
            Who::Unnamed => "requesters that no rule can name for certain".to_owned(),
            Who::Unknown => "unknown requesters".to_owned(),
        }
    }
}

/// The pattern for a unit in the printable form.
fn unit_pattern(unit: &str) -> Option<String> {
    unit::pattern(std::str::from_utf8(&Text::unescape(unit)?.0).ok()?)
}

impl From<Namespaces> for Namespace {
    fn from(namespaces: Namespaces) -> Namespace {
        match namespaces {
            Namespaces::Host => Namespace::Host,
            Namespaces::Other => Namespace::Other,
        }
    }
}

/// The file of the host that an executable's path names, as `exe` in a rule wants it; of one that was replaced while it
/// ran, the path that it had (` (deleted)`, `d_path` of fs/d_path.c). None if no rule could name it, if it is gone
/// tomorrow, or if it would not be seen as it is.
fn host_file(exe: &str) -> Option<String> {
    if exe.replace(r"\\", "").contains('\\') {
        return None;
    }
    let path = String::from_utf8(Text::unescape(exe)?.0).ok()?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let lasts = !FLEETING.iter().any(|place| path.starts_with(place)) && !path.ends_with('…');
    (lasts && path.len() <= LONGEST && check_path(path).is_ok()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Who {
        Who::of(Some(&serde_json::from_str(json).unwrap()), false)
    }

    fn exact(rest: &str) -> Who {
        of(&format!("{{\"confidence\":\"exact\",\"found_by\":\"recorder\",{rest}}}"))
    }

    fn units(unit: &str, users: Users) -> Who {
        Who::Units(vec![unit.to_owned()], users)
    }

    fn exes(exe: &str, users: Users) -> Who {
        Who::Exes(vec![exe.to_owned()], users)
    }

    fn in_docker(userns: Option<Namespaces>) -> Who {
        Who::Container { name: None, unit: Some("docker-*.scope".into()), userns }
    }

    fn no_unit() -> Option<String> {
        Some(NO_UNIT.to_owned())
    }

    #[test]
    fn by_unit_then_executable_then_root() {
        let id = "0123456789abcdef".repeat(4);
        let container = |rest: &str| format!("\"unit\":\"docker-{id}.scope\",\"container\":\"{id}\"{rest}");
        for (facts, who) in [
            (
                r#""unit":"docker.service","exe":"/usr/sbin/iptables","uid":0"#.to_owned(),
                units("docker.service", Users::Any),
            ),
            (r#""unit":"session-3.scope","exe":"/usr/sbin/nft","uid":0"#.into(), units("session-*.scope", Users::Root)),
            (r#""unit":"user@1000.service","uid":1000"#.into(), units("user@*.service", Users::Others)),
            (r#""unit":"session-c1.scope""#.into(), units("session-*.scope", Users::Others)),
            (container(""), in_docker(None)),
            (container(r#","userns":"other""#), in_docker(Some(Namespaces::Other))),
            (container(r#","userns":"host""#), in_docker(Some(Namespaces::Host))),
            (r#""container":"web""#.into(), Who::Container { name: Some("web".into()), unit: no_unit(), userns: None }),
            (r#""container":"we\\x0ab""#.into(), Who::Container { name: None, unit: no_unit(), userns: None }),
            (r#""container":"true","unit":"x""#.into(), Who::Container { name: None, unit: None, userns: None }),
            (r#""exe":"/usr/sbin/nft","uid":0"#.into(), exes("/usr/sbin/nft", Users::Root)),
            (r#""exe":"/usr/sbin/nft (deleted)","uid":5"#.into(), exes("/usr/sbin/nft", Users::Others)),
            (r#""exe":"/usr/sbin/nft","uid":0,"mntns":"other""#.into(), Who::Root),
            (r#""exe":"/usr/sbin/nft","uid":7,"mntns":"other""#.into(), Who::Unnamed),
            (r#""unit":"a\\x0ab.service","exe":"/usr/bin/x""#.into(), exes("/usr/bin/x", Users::Others)),
            (r#""exe":"/memfd:x (deleted)","uid":1"#.into(), Who::Unnamed),
            (r#""exe":"/tmp/.mount_x/y","uid":0"#.into(), Who::Root),
            (r#""exe":"/usr/bin/\\xff","uid":1"#.into(), Who::Unnamed),
            (r#""exe":"/usr/bin/a\\x0ab","uid":1"#.into(), Who::Unnamed),
            (r#""exe":"/usr/bin/*","uid":1"#.into(), Who::Unnamed),
            (r#""exe":"/usr/bin/\\xe2\\x80\\xae","uid":1"#.into(), Who::Unnamed),
            (r#""exe":"/usr/bin/ä\\\\b","uid":1"#.into(), exes("/usr/bin/ä\\b", Users::Others)),
            (r#""exe":null,"uid":0"#.into(), Who::Root),
            (r#""pid":7"#.into(), Who::Unnamed),
        ] {
            assert_eq!(exact(&facts), who, "{facts}");
        }
    }

    #[test]
    fn who_is_not_certain_is_not_named() {
        let task = |unit: &str| format!("{{\"unit\":\"{unit}\"}}");
        let several = |found_by: &str, units: &[&str]| {
            let tasks: Vec<String> = units.iter().map(|unit| task(unit)).collect();
            of(&format!(
                "{{\"confidence\":\"ambiguous\",\"found_by\":\"{found_by}\",\"candidates\":[{}]}}",
                tasks.join(",")
            ))
        };
        assert_eq!(several("recorder", &["a.service", "a.service"]), units("a.service", Users::Any));
        let both = Who::Units(vec!["a.service".into(), "b.service".into()], Users::Any);
        assert_eq!(several("recorder", &["b.service", "a.service"]), both);
        assert_eq!(several("stack", &["a.service", "a.service"]), Who::Unnamed);
        assert_eq!(several("recorder", &["a.service", ""]), Who::Unnamed);
        let many: Vec<String> = (b'a'..=b'z').map(|letter| format!("{}.service", char::from(letter))).collect();
        assert_eq!(several("recorder", &many.iter().map(String::as_str).collect::<Vec<_>>()), Who::Unnamed);
        for (confidence, trusting, who) in [
            ("likely", false, Who::Unnamed),
            ("likely", true, units("a.service", Users::Any)),
            ("unknown", true, Who::Unknown),
            ("certain", true, Who::Unnamed),
        ] {
            let json = format!("{{\"confidence\":\"{confidence}\",\"found_by\":\"stack\",\"unit\":\"a.service\"}}");
            assert_eq!(Who::of(Some(&serde_json::from_str(&json).unwrap()), trusting), who, "{confidence}");
        }
        assert_eq!(Who::of(None, true), Who::Unknown);
    }

    #[test]
    fn a_count_tells_of_a_container_by_its_unit() {
        let id = "0123456789abcdef".repeat(4);
        let of = |json: &str| Who::of_counted(Some(&serde_json::from_str(json).unwrap()));
        assert_eq!(of(&format!("{{\"unit\":\"docker-{id}.scope\",\"exe\":\"/bin/x\"}}")), in_docker(None));
        assert_eq!(of("{\"unit\":\"a.service\"}"), units("a.service", Users::Any));
        assert_eq!(of("{}"), Who::Unnamed);
    }
}
