//! Who made requests, as far as one can say it of all of them: what a count keeps, and what a summary goes by.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::model::{Requester, Task};
use crate::text::Text;

/// The identity of a requester in short, its texts shortened if they are very long. What is absent was not known, or
/// was not the same for all that this is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Real user id.
    pub uid: Option<u32>,
    /// Path of the executable.
    pub exe: Option<Text>,
    /// systemd unit.
    pub unit: Option<Text>,
    /// Container id, if there is no unit.
    pub container: Option<Text>,
    /// The name it gave itself, if there is nothing better.
    pub comm: Option<Text>,
}

impl Who {
    /// Of a requester; of several candidates what they have in common.
    pub fn of(requester: &Requester) -> Who {
        let mut candidates = requester.candidates.iter();
        let Some(first) = candidates.next() else { return Who::of_task(&requester.task) };
        candidates.fold(Who::of_task(first), |who, task| who.common(&Who::of_task(task)))
    }

    fn of_task(task: &Task) -> Who {
        let text = |text: &Option<Text>, is_wanted: bool, limit| {
            text.as_ref().filter(|_| is_wanted).map(|text| text.short(limit))
        };
        let (exe, unit) = (text(&task.exe, true, 128), text(&task.unit, true, 96));
        let container = text(&task.container, unit.is_none(), 64);
        let comm = text(&task.comm, exe.is_none() && unit.is_none() && container.is_none(), 16);
        Who { uid: task.uid, exe, unit, container, comm }
    }

    /// What is the same in both.
    #[must_use]
    pub fn common(self, other: &Who) -> Who {
        fn both<T: PartialEq>(one: Option<T>, other: &Option<T>) -> Option<T> {
            one.filter(|one| other.as_ref() == Some(one))
        }
        Who {
            uid: both(self.uid, &other.uid),
            exe: both(self.exe, &other.exe),
            unit: both(self.unit, &other.unit),
            container: both(self.container, &other.container),
            comm: both(self.comm, &other.comm),
        }
    }
}

/// Where in the kernel the request was made, without the offset, which differs between builds.
pub fn symbol(requester: &Requester) -> Option<&[u8]> {
    requester.call_site.as_ref()?.0.split(|&byte| byte == b'+').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Confidence;

    #[test]
    fn several_candidates_are_what_they_have_in_common() {
        let task = |uid, exe: &str, unit: &str| Task {
            uid: Some(uid),
            exe: Some(Text::from(exe)),
            unit: Some(Text::from(unit)),
            comm: Some(Text::from("comm")),
            container: Some(Text::from("4711")),
            ..Task::default()
        };
        let of =
            |candidates| Who::of(&Requester { confidence: Confidence::Ambiguous, candidates, ..Requester::unknown() });
        let one = of(vec![task(0, "/a", "x")]);
        let expected = Who { uid: Some(0), exe: Some(Text::from("/a")), unit: Some(Text::from("x")), ..Who::default() };
        assert_eq!(one, expected);
        assert_eq!(of(vec![task(0, "/a", "x"); 3]), expected);
        assert_eq!(of(vec![task(0, "/a", "x"), task(0, "/b", "x")]), Who { exe: None, ..expected.clone() });
        assert_eq!(of(vec![task(0, "/a", "x"), task(7, "/b", "y")]), Who::default());
        assert_eq!(Who::of(&Requester::unknown()), Who::default());
    }

    #[test]
    fn the_weaker_names_stand_in_for_the_stronger() {
        let mut task = Task {
            unit: Some(Text::from("u")),
            container: Some(Text::from("c")),
            comm: Some(Text::from("name of more than sixteen bytes")),
            ..Task::default()
        };
        let of = |task: &Task| Who::of(&Requester { task: task.clone(), ..Requester::unknown() });
        assert_eq!(of(&task), Who { unit: Some(Text::from("u")), ..Who::default() });
        task.unit = None;
        assert_eq!(of(&task), Who { container: Some(Text::from("c")), ..Who::default() });
        task.container = None;
        assert_eq!(of(&task), Who { comm: Some(Text::from("name of more …")), ..Who::default() });
    }
}
