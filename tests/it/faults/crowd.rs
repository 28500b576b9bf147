//! Fifty requests at once: as many as the kernel has under way before it lets others wait (MAX_KMOD_CONCURRENT,
//! kernel/module/kmod.c).

use modprobe_guard::audit::{self, Entry};
use modprobe_guard::host::Host;

use super::look::expect;
use super::stage::Stage;
use super::{Fault, loader};

const MANY: usize = 50;

pub fn faults() -> Vec<Fault> {
    vec![
        Fault::new("fifty at once", crowd),
        Fault::new("fifty at once, and no syslog", |stage| {
            stage.syslog = None;
            crowd(stage);
        }),
    ]
}

fn crowd(stage: &mut Stage) {
    stage.look = Some(Box::new(|stage, ran| {
        let all: Vec<_> = (0..MANY).map(|_| stage.start(None)).collect();
        let expected = if stage.is_blocked() { 1 } else { loader::STATUS };
        expect("status", &ran.status, &Some(expected))?;
        for started in all {
            expect("status", &stage.finish(started).status, &Some(expected))?;
        }
        expect("requests on record", &requests(stage)?, &(MANY + 1))
    }));
}

/// Requests that are on record: written, and counted.
pub fn requests(stage: &Stage) -> Result<usize, String> {
    let host = Host::at(&stage.path("/")).unwrap();
    let mut requests = 0;
    for entry in audit::entries_of_host(&host).unwrap() {
        requests += match entry.unwrap() {
            Entry::Record(_) => 1,
            Entry::Thinned(thinned) => thinned.thinned as usize,
            Entry::Foreign(line) => return Err(format!("no record: {line}")),
        };
    }
    Ok(requests)
}
