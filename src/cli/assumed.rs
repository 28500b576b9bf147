//! The requester that a dry run makes up, by `--as KEY=VALUE`.
#![forbid(unsafe_code)]

use crate::model::{Caller, Confidence, Files, FoundBy, Known, Namespace, Parent, Requester, Task};
use crate::policy::requester::{CALLERS, check_path, range};
use crate::text::Text;

/// Who is taken to ask, and how.
#[derive(Debug, PartialEq)]
pub struct Assumed {
    /// Who.
    pub requester: Requester,
    /// How the request comes.
    pub caller: Caller,
}

/// What `--as` may say of each key, for messages.
const KEYS: [(&str, &str); 9] = [
    ("exe", "an absolute path: exe=/usr/bin/dockerd"),
    ("ancestor", "an absolute path: ancestor=/usr/bin/dockerd"),
    ("unit", "a unit's whole name, or none: unit=docker.service"),
    ("container", "true, false, or a name or id: container=web"),
    ("uid", "a number up to 4294967294: uid=1000"),
    ("auid", "a number up to 4294967294, or none: auid=1000"),
    ("userns", "host or other"),
    ("caller", "kernel, xtables, modprobe or hook"),
    ("confidence", "exact, likely, ambiguous or unknown"),
];

impl Default for Assumed {
    /// The kernel on behalf of its first user, on the host itself.
    fn default() -> Assumed {
        let known = Known { container: true, ..Known::default() };
        let task = Task { uid: Some(0), euid: Some(0), userns: Some(Namespace::Host), known, ..Task::default() };
        let requester = Requester { confidence: Confidence::Assumed, task, ..Requester::unknown() };
        Assumed { requester, caller: Caller::Kernel }
    }
}

impl Assumed {
    /// What `facts`, each `KEY=VALUE`, make of the default.
    ///
    /// # Errors
    /// What cannot be meant, and what can.
    pub fn of(facts: &[String]) -> Result<Assumed, String> {
        let mut assumed = Assumed::default();
        let mut seen: Vec<&str> = Vec::new();
        for fact in facts {
            let (key, value) = fact.split_once('=').unwrap_or((fact, ""));
            let Some((key, possible)) = KEYS.into_iter().find(|(known, _)| *known == key) else {
                let known = KEYS.map(|(known, _)| known).join(", ");
                return Err(format!("{}: unknown key `{}`; known: {known}", Text::from(&**fact), Text::from(key)));
            };
            if key != "ancestor" && seen.contains(&key) {
                return Err(format!("{}: `{key}` is given twice; only `ancestor` can be", Text::from(&**fact)));
            }
            seen.push(key);
            assumed.add(key, value).ok_or_else(|| format!("{}: write {possible}", Text::from(&**fact)))?;
        }
        // Of nobody there is nothing to say.
        if assumed.requester.confidence == Confidence::Unknown {
            if let Some(key) = seen.iter().find(|key| !matches!(**key, "confidence" | "caller")) {
                return Err(format!("confidence=unknown: nothing is known of such a requester; leave `{key}` out"));
            }
            assumed.requester = Requester::unknown();
        }
        Ok(assumed)
    }

    fn add(&mut self, key: &str, value: &str) -> Option<()> {
        let Assumed { requester, caller } = self;
        let task = &mut requester.task;
        match key {
            "exe" => {
                let path = path(value)?;
                task.exe = Some(Text::from(value));
                task.known.exe = Files { are: vec![path], complete: true };
            }
            "ancestor" => {
                task.known.ancestors.are.push(path(value)?);
                task.known.ancestors.complete = true;
                task.parents.push(Parent { exe: Some(Text::from(value)), ..Parent::default() });
            }
            "unit" => {
                task.unit = match value {
                    "none" => None,
                    // No unit is called anything else, and no rule would match it.
                    _ if value.contains('.') && !value.contains('/') => Some(Text::from(value)),
                    _ => return None,
                };
                task.known.unit = true;
            }
            "container" => {
                task.container = match value {
                    "" => return None,
                    "false" => None,
                    // `true` too, as a name that no rule may give.
                    _ => Some(Text::from(value)),
                };
                task.known.container = true;
            }
            "uid" => {
                task.uid = Some(id(value)?);
                task.euid = task.uid;
            }
            "auid" => {
                task.auid = if value == "none" { None } else { Some(id(value)?) };
                task.known.auid = true;
            }
            "userns" => {
                task.userns = Some(word(value, &[("host", Namespace::Host), ("other", Namespace::Other)])?);
            }
            "caller" => *caller = word(value, &CALLERS)?,
            _ => {
                let words = &[
                    ("exact", (Confidence::Exact, Some(FoundBy::Recorder))),
                    ("likely", (Confidence::Likely, Some(FoundBy::Stack))),
                    ("ambiguous", (Confidence::Ambiguous, Some(FoundBy::Stack))),
                    ("unknown", (Confidence::Unknown, None)),
                ];
                (requester.confidence, requester.found_by) = word(value, words)?;
            }
        }
        Some(())
    }
}

fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning)
}

fn path(value: &str) -> Option<String> {
    check_path(value).ok().map(|()| value.to_owned())
}

fn id(value: &str) -> Option<u32> {
    let (id, _) = range(value).ok()?;
    (!value.contains('-')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: &[&str]) -> Result<Assumed, String> {
        Assumed::of(&facts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn task(fact: &str) -> Task {
        of(&[fact]).unwrap().requester.task
    }

    #[test]
    fn without_a_word_it_is_root_on_the_host_and_no_more_is_known() {
        let Assumed { requester, caller } = of(&[]).unwrap();
        assert_eq!((requester.confidence, requester.found_by, caller), (Confidence::Assumed, None, Caller::Kernel));
        let known = Known { container: true, ..Known::default() };
        let expected = Task { uid: Some(0), euid: Some(0), userns: Some(Namespace::Host), known, ..Task::default() };
        assert_eq!(requester.task, expected);
    }

    #[test]
    fn what_is_said_is_known() {
        let exe = task("exe=/usr/bin/a=b");
        assert_eq!(exe.exe, Some("/usr/bin/a=b".into()));
        assert_eq!(exe.known.exe, Files { are: vec!["/usr/bin/a=b".into()], complete: true });
        assert_eq!(exe.known.ancestors, Files::default());
        let parents = of(&["ancestor=/a", "ancestor=/b"]).unwrap().requester.task;
        assert_eq!(parents.known.ancestors, Files { are: vec!["/a".into(), "/b".into()], complete: true });
        let shown: Vec<_> = parents.parents.iter().map(|parent| parent.exe.clone().unwrap().to_string()).collect();
        assert_eq!(shown, ["/a", "/b"]);
        for (fact, unit, known) in
            [("unit=a.service", Some("a.service"), true), ("unit=none", None, true), ("uid=1", None, false)]
        {
            assert_eq!((task(fact).unit, task(fact).known.unit), (unit.map(Text::from), known), "{fact}");
        }
        for (fact, container) in
            [("container=true", Some("true")), ("container=false", None), ("container=web", Some("web"))]
        {
            assert_eq!((task(fact).container, task(fact).known.container), (container.map(Text::from), true), "{fact}");
        }
        assert_eq!((task("uid=1000").uid, task("uid=1000").euid), (Some(1000), Some(1000)));
        for (fact, auid, known) in [("auid=7", Some(7), true), ("auid=none", None, true), ("uid=7", None, false)] {
            assert_eq!((task(fact).auid, task(fact).known.auid), (auid, known), "{fact}");
        }
        assert_eq!(task("userns=other").userns, Some(Namespace::Other));
        for (word, caller) in [
            ("kernel", Caller::Kernel),
            ("xtables", Caller::Xtables),
            ("modprobe", Caller::Modprobe),
            ("hook", Caller::Hook),
        ] {
            assert_eq!(of(&[&format!("caller={word}")]).unwrap().caller, caller);
        }
    }

    #[test]
    fn how_well_it_is_known_can_be_said() {
        for (word, confidence, found_by) in [
            ("exact", Confidence::Exact, Some(FoundBy::Recorder)),
            ("likely", Confidence::Likely, Some(FoundBy::Stack)),
            ("ambiguous", Confidence::Ambiguous, Some(FoundBy::Stack)),
        ] {
            let requester = of(&[&format!("confidence={word}"), "uid=5"]).unwrap().requester;
            assert_eq!((requester.confidence, requester.found_by, requester.task.uid), (confidence, found_by, Some(5)));
        }
        let Assumed { requester, caller } = of(&["confidence=unknown", "caller=xtables"]).unwrap();
        assert_eq!((requester, caller), (Requester::unknown(), Caller::Xtables));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_what_can() {
        let keys = "exe, ancestor, unit, container, uid, auid, userns, caller, confidence";
        for (facts, error) in [
            (&["comm=x"][..], format!("comm=x: unknown key `comm`; known: {keys}")),
            (&["x\u{1b}"], format!("x\\x1b: unknown key `x\\x1b`; known: {keys}")),
            (&["unit"], "unit: write a unit's whole name, or none: unit=docker.service".into()),
            (&["unit=docker"], "unit=docker: write a unit's whole name, or none: unit=docker.service".into()),
            (&["exe=a"], "exe=a: write an absolute path: exe=/usr/bin/dockerd".into()),
            (&["ancestor=/a/"], "ancestor=/a/: write an absolute path: ancestor=/usr/bin/dockerd".into()),
            (&["container="], "container=: write true, false, or a name or id: container=web".into()),
            (&["uid=root"], "uid=root: write a number up to 4294967294: uid=1000".into()),
            (&["uid=4294967295"], "uid=4294967295: write a number up to 4294967294: uid=1000".into()),
            (&["uid=1-2"], "uid=1-2: write a number up to 4294967294: uid=1000".into()),
            (&["uid=+1"], "uid=+1: write a number up to 4294967294: uid=1000".into()),
            (&["auid=-1"], "auid=-1: write a number up to 4294967294, or none: auid=1000".into()),
            (&["userns=mine"], "userns=mine: write host or other".into()),
            (&["caller=me"], "caller=me: write kernel, xtables, modprobe or hook".into()),
            (&["confidence=assumed"], "confidence=assumed: write exact, likely, ambiguous or unknown".into()),
            (&["uid=1", "uid=1"], "uid=1: `uid` is given twice; only `ancestor` can be".into()),
            (
                &["uid=1", "confidence=unknown"],
                "confidence=unknown: nothing is known of such a requester; leave `uid` out".into(),
            ),
        ] {
            assert_eq!(of(facts), Err(error), "{facts:?}");
        }
    }
}
