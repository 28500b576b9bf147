//! Each system call of a request fails once, in several ways; and a request is killed before each.

use super::look::expect;
use super::stage::{Ran, Stage};
use super::tracer::{Interruption, What};
use super::{Fault, Verdict, is_long, loader, stage};

const ERRORS: [(&str, i32); 4] =
    [("EIO", libc::EIO), ("ENOMEM", libc::ENOMEM), ("EINTR", libc::EINTR), ("EMFILE", libc::EMFILE)];
/// What is on record where modprobe could not be looked at, or runs and could not be waited for.
const UNCERTAIN: [&str; 2] = ["/sbin/modprobe: open: ", "what it did is unknown"];
/// Moments at which a request is killed.
const KILLS: usize = 50;

pub fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for verdict in Verdict::ALL {
        let calls = calls_of(verdict);
        for at in 1..=calls {
            for (name, error) in ERRORS {
                // Of the others one for each call; all of all take their time.
                if is_long() || ERRORS[at % ERRORS.len()].1 == error || [libc::EIO, libc::ENOMEM].contains(&error) {
                    let fault = Fault::new(format!("call {at} gives {name}"), move |stage| {
                        stage.interruption = Some(Interruption { at, what: What::Error(error) });
                        stage.look = Some(Box::new(move |stage, ran| {
                            stage.as_it_says(ran, true)?;
                            // Memory that is short for a moment is no reason to refuse, but where nobody can say whether
                            // a modprobe is there; of one that is not waited for the mark may come later.
                            let refused = ran.followed.is_launched && !stage.is_blocked() && stage.marks().0.is_none();
                            let records: Vec<String> = stage.records()?.iter().map(ToString::to_string).collect();
                            let says = |text: &&str| records.iter().any(|record| record.contains(text));
                            let is_certain = !UNCERTAIN.iter().any(says);
                            expect(
                                "refused for want of memory",
                                &(refused && is_certain && error == libc::ENOMEM),
                                &false,
                            )
                        }));
                    });
                    faults.push(fault.only(verdict));
                }
            }
        }
        for at in (1..=calls).step_by(if is_long() { 1 } else { calls.div_ceil(KILLS) }) {
            let fault = Fault::new(format!("killed at call {at}"), move |stage| {
                stage.interruption = Some(Interruption { at, what: What::Kill });
                stage.look = Some(Box::new(killed));
            });
            faults.push(fault.only(verdict));
        }
    }
    faults
}

/// How many system calls a whole request makes.
fn calls_of(verdict: Verdict) -> usize {
    let counted = std::thread::spawn(move || {
        stage::own_mounts();
        let mut stage = Stage::new(verdict);
        stage.interruption = Some(Interruption { at: usize::MAX, what: What::Count });
        stage.ask().followed.calls
    });
    let calls = counted.join().unwrap();
    assert!(calls > 50, "{calls}");
    calls
}

/// One that was killed has left everything whole: the next request finds nothing in its way.
fn killed(stage: &Stage, ran: &Ran) -> Result<(), String> {
    expect("status", &ran.status, &Some(128 + libc::SIGKILL))?;
    let before = stage.records()?.len();
    expect("records of the one that was killed", &(before <= 1), &true)?;
    // What it started may still be about to leave its mark.
    let next = stage.finish(stage.start(None));
    let expected = if stage.is_blocked() { 1 } else { loader::STATUS };
    expect("status of the next", &next.status, &Some(expected))?;
    expect("records", &stage.records()?.len(), &(before + 1))?;
    if stage.is_blocked() {
        expect("marks", &stage.marks(), &(None, false))?;
    }
    Ok(())
}
