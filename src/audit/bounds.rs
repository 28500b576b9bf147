//! What the line of a record may take: most of what stands there, whoever asks has chosen.
#![forbid(unsafe_code)]

use std::io;

use crate::audit::entry;
use crate::model::{Record, Task};
use crate::text::{CUT, Text};

/// Bytes of a line, which are ten or twenty times as many as usual ones have. What reads records, and journald, takes this
/// much.
const MAX: usize = 64 << 10;

/// What is kept of each who asked.
struct Limits {
    /// Of a path or a name, bytes.
    text: usize,
    /// Of a command line, bytes.
    command_line: usize,
    /// Parents, the nearest.
    parents: usize,
}

/// One after the other, until it fits. A byte becomes five in a line, at most, and fifty may have asked.
const LIMITS: [Limits; 3] = [
    Limits { text: 128, command_line: 512, parents: 8 },
    Limits { text: 48, command_line: 64, parents: 2 },
    Limits { text: 16, command_line: 0, parents: 0 },
];

/// The line of `record` in the audit log, with its end. If it is too long, what is told of those who asked is shortened.
///
/// # Errors
/// As with [`entry::json`].
pub fn json(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = entry::json(record)?;
    let mut limits = LIMITS.iter();
    while line.len() > MAX
        && let Some(limits) = limits.next()
    {
        line = entry::json(&shortened(record, limits))?;
    }
    Ok(line)
}

fn shortened(record: &Record, limits: &Limits) -> Record {
    let mut record = Record { shortened: true, ..record.clone() };
    shorten(&mut record.requester.task, limits);
    record.requester.candidates.iter_mut().for_each(|task| shorten(task, limits));
    record
}

fn shorten(task: &mut Task, limits: &Limits) {
    let cut = |text: &mut Option<Text>| {
        if let Some(long) = text.take() {
            *text = Some(long.short(limits.text));
        }
    };
    task.parents.truncate(limits.parents);
    for parent in &mut task.parents {
        cut(&mut parent.exe);
    }
    [&mut task.exe, &mut task.unit, &mut task.container].into_iter().for_each(cut);
    if let Some(words) = &mut task.cmdline {
        let mut room = limits.command_line;
        let fits = |word: &&Text| {
            // An empty one takes room as well.
            room = room.saturating_sub(word.as_bytes().len().saturating_add(1));
            room > 0
        };
        let fitting = words.iter().take_while(fits).count();
        if fitting < words.len() {
            words.truncate(fitting);
            words.push(Text::from(CUT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::Entry;
    use crate::audit::entry::samples::record;
    use crate::model::Parent;

    /// As much as anybody can bring about, of bytes that take most room.
    fn worst() -> Task {
        let text = |length| Some(Text(vec![1; length]));
        let parent = Parent { pid: i32::MAX, comm: text(15), exe: text(512) };
        Task {
            pid: Some(i32::MAX),
            comm: text(15),
            exe: text(512),
            cmdline: Some(vec![Text(vec![1; 10]); 400]),
            unit: text(255),
            container: text(255),
            parents: vec![parent; 32],
            ..Task::default()
        }
    }

    #[test]
    fn a_line_is_bounded_however_much_there_is_to_tell() {
        for candidates in [0, 1, 8, 50] {
            let mut record = record(b"x", 7);
            record.requester.task = worst();
            record.requester.candidates = vec![worst(); candidates];
            let line = json(&record).unwrap();
            assert!(line.len() <= MAX && line.len() > MAX / 8, "{candidates}: {}", line.len());
            let Entry::Record(read) = Entry::parse(&line[..line.len() - 1]) else { panic!("foreign") };
            assert_eq!((read.shortened, read.requester.candidates.len()), (true, candidates));
            let asked = &read.requester.task;
            assert_eq!((asked.pid, &asked.comm), (Some(i32::MAX), &worst().comm));
            assert!(asked.exe.as_ref().unwrap().is_short(), "{candidates}");
            let words = asked.cmdline.iter().flatten().map(|word| word.as_bytes().len()).sum::<usize>();
            assert!(words <= LIMITS[0].command_line + CUT.len(), "{candidates}: {words}");
        }
    }

    #[test]
    fn usual_ones_are_whole() {
        let mut record = record(b"x", 7);
        let words = Task { cmdline: Some(vec!["-a".into(); 20]), ..record.requester.task.clone() };
        record.requester.candidates = vec![words; 50];
        assert_eq!(json(&record).unwrap(), entry::json(&record).unwrap());
        assert!(!json(&record).unwrap().windows(9).any(|window| window == b"shortened"));
    }
}
