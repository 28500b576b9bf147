//! An entry as a row of the page.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::super::people::{self, shown};
use super::super::summary::Name;
use super::Word;
use crate::audit::who::Who;
use crate::audit::{Entry, Thinned};
use crate::model::{Outcome, Parent, Record, Requester};
use crate::text::Text;

/// Texts are kept so far, bytes: whoever makes requests can make long ones.
const LONG: usize = 512;
/// A name is as long as in a group.
const NAME: usize = 128;
/// Parents, candidates and settings of one record are told so far.
const MOST: usize = 12;

/// A row.
#[derive(Debug, Serialize)]
pub struct Row {
    /// When it was made, or the last of those that were counted.
    pub time: Option<String>,
    /// When the first one was made, of requests that were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// So many requests.
    pub count: u64,
    /// As in a group of the summary.
    pub verdict: Word,
    pub request: Option<String>,
    pub who: Option<String>,
    pub who_is: &'static str,
    pub uid: Option<u32>,
    pub rule: Option<String>,
    /// The number of its host; counts tell none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<usize>,
    /// What came of it, in few words.
    pub outcome: String,
    /// Everything else, by what it is.
    pub details: Vec<(&'static str, String)>,
}

impl Row {
    /// The row of an entry; of a line that is neither record nor count there is none.
    pub fn new(entry: &Entry) -> Option<Row> {
        match entry {
            Entry::Record(record) => Some(Row::of_record(record)),
            Entry::Thinned(thinned) => Some(Row::of_count(thinned)),
            Entry::Foreign(_) => None,
        }
    }

    fn of_record(record: &Record) -> Row {
        let Record { request, requester, verdict, outcome, .. } = record;
        let name = Name::of(Who::of(requester));
        let loaded = join(outcome.iter().flat_map(|outcome| &outcome.loaded), " ", ToString::to_string);
        let came = match outcome {
            _ if !record.failures.is_empty() => {
                format!("failure: {}", join(&record.failures, "; ", |failure| shown(failure).to_string()))
            }
            Some(_) if !loaded.is_empty() => format!("loaded {loaded}"),
            Some(outcome) => format!("status {}", outcome.status),
            None => String::new(),
        };
        Row {
            time: record.time.as_deref().map(|time| cut(&shown(time), NAME)),
            since: None,
            count: 1,
            verdict: Word::of(verdict.action, verdict.enforced),
            request: Some(cut(&request.name, NAME)),
            who: name.text().map(|text| cut(text, NAME)),
            who_is: name.kind(),
            uid: Who::of(requester).uid,
            rule: verdict.rule.as_deref().map(|rule| cut(&shown(rule), 64)),
            host: None,
            outcome: shortened(came, LONG),
            details: details(record),
        }
    }

    fn of_count(thinned: &Thinned) -> Row {
        let Thinned { time, thinned, since, request, one_name, verdict, requester, .. } = thinned;
        let name = Name::of(requester.clone());
        Row {
            time: Some(cut(&shown(time), NAME)),
            since: Some(cut(&shown(since), NAME)),
            count: *thinned,
            verdict: Word::of(verdict.action, verdict.enforced),
            request: one_name.then(|| cut(&request.name, NAME)),
            who: name.text().map(|text| cut(text, NAME)),
            who_is: name.kind(),
            uid: requester.uid,
            rule: verdict.rule.as_deref().map(|rule| cut(&shown(rule), 64)),
            host: None,
            outcome: "counted, not written".to_owned(),
            details: Vec::new(),
        }
    }
}

/// The printable form, shortened.
pub fn cut(text: &Text, limit: usize) -> String {
    text.short(limit).to_string()
}

/// Everything that the columns do not tell, each with what it is. All texts are in their printable form.
fn details(record: &Record) -> Vec<(&'static str, String)> {
    let Record { requester, verdict, outcome, .. } = record;
    let Requester { confidence, found_by, task, .. } = requester;
    let found = match found_by {
        Some(found_by) => format!("{}, by {}", word(confidence), word(found_by)),
        None => word(confidence),
    };
    let line = |arguments: &Vec<Text>| join(arguments, " ", ToString::to_string);
    let parent = |parent: &Parent| {
        let Parent { pid, comm, exe } = parent;
        let or_unknown = |text: &Option<Text>| text.as_ref().map_or("?".to_owned(), ToString::to_string);
        format!("{}[{pid}] {}", or_unknown(comm), or_unknown(exe))
    };
    let mut decided = format!("by {}", shown(&verdict.source));
    if let Some(module) = &verdict.module {
        decided += &format!(", for {module}");
    }
    if let Some(reason) = &verdict.reason {
        decided += &format!(": {}", shown(reason));
    }
    let ended = |outcome: &Outcome| format!("status {}, after {} µs", outcome.status, outcome.duration_us);
    let host = [&record.host, &record.kernel].into_iter().flatten();
    let details = [
        ("who", people::who(requester)),
        ("known", found),
        ("command line", task.cmdline.as_ref().map(line).unwrap_or_default()),
        ("parents", join(&task.parents, ", ", parent)),
        ("login user", task.auid.map(|auid| auid.to_string()).unwrap_or_default()),
        ("asked by way of", word(&record.request.caller)),
        ("decided", decided),
        ("modules", join(&record.modules, " ", |module| module.name.to_string())),
        ("ended", outcome.as_ref().map(ended).unwrap_or_default()),
        ("loaded", join(outcome.iter().flat_map(|outcome| &outcome.loaded), " ", ToString::to_string)),
        ("settings", join(outcome.iter().flat_map(|outcome| &outcome.sysctl), ", ", people::change)),
        ("failures", join(&record.failures, "; ", |failure| shown(failure).to_string())),
        ("host", join(host, ", kernel ", ToString::to_string)),
    ];
    let told = details.into_iter().filter(|(_, text)| !text.is_empty());
    told.map(|(what, text)| (what, shortened(text, LONG))).collect()
}

fn join<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, between: &str, form: impl Fn(&T) -> String) -> String {
    items.into_iter().take(MOST).map(form).collect::<Vec<_>>().join(between)
}

/// The word that records have for it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What is in its printable form already, shortened.
pub fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}
