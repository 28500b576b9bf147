//! What one run leaves to the next: how far the log was read, and what it came to.
//!
//! Of the log only what was added is read. What was told of the spool is told again from the log, so it is added to the
//! totals of the log each time and not kept with them. What is kept as well is what was published: where a power cut
//! takes records that were in memory only, a counter stays at what it was, since a lower one would be taken for a reset,
//! and all of it for an increase.

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::count;
use super::series::Values;
use crate::audit::since::{self, Place, Position};
use crate::audit::spool;
use crate::host::{Directory, Host, STATE_DIR};

const FILE: &str = "metrics.json";
const LOCK: &str = "metrics.lock";
/// A longer file is none of ours.
const LIMIT: usize = 4 << 20;
/// How long another run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far the log was read.
    position: Position,
    /// What it came to.
    totals: Values,
    /// What was told last.
    published: Values,
}

impl State {
    /// Reads what was added to the record of `host`. Returns what is to be published.
    ///
    /// # Errors
    /// Those of [`since::tell`]; the state is as it was then.
    pub fn go_on(&mut self, host: &Host, time: u64) -> io::Result<&Values> {
        let mut totals = self.totals.clone();
        let mut spooled = Vec::new();
        let position = since::tell(host, &self.position, |place, entry| match place {
            Place::Log => count::add(&mut totals, &entry, time),
            Place::Spool => spooled.push(entry),
        })?;
        let mut all = totals.clone();
        spooled.iter().for_each(|entry| count::add(&mut all, entry, time));
        for (series, &published) in &self.published.0 {
            let lost = published.saturating_sub(all.0.get(series).copied().unwrap_or_default());
            if lost > 0 {
                totals.add(series.clone(), lost);
                all.add(series.clone(), lost);
            }
        }
        *self = State { position, totals, published: all };
        Ok(&self.published)
    }

    /// What was published last.
    pub fn published(&self) -> &Values {
        &self.published
    }
}

/// Where the state lies, for this run alone as long as this lives.
pub struct Store {
    directory: Directory,
    _lock: File,
}

impl Store {
    /// Opens it, and makes it if it is missing.
    ///
    /// # Errors
    /// Those of [`Host::own_directory`] and of open(2); `WouldBlock` if another run is stuck.
    pub fn open(host: &Host) -> io::Result<Store> {
        let directory = host.own_directory(STATE_DIR, Some(Mode::S_IRWXU))?;
        let lock = directory.open(LOCK, OFlag::O_RDWR | OFlag::O_CREAT, Mode::S_IRUSR | Mode::S_IWUSR)?;
        spool::lock_alone(&lock, PATIENCE)?;
        Ok(Store { directory, _lock: lock })
    }

    /// The state; one that knows nothing if there is none.
    ///
    /// # Errors
    /// Those of open(2) and read(2); `InvalidData` if it is damaged.
    pub fn read(&self) -> io::Result<State> {
        match self.directory.open(FILE, OFlag::O_RDONLY, Mode::empty()) {
            Ok(file) => Ok(serde_json::from_slice(&crate::host::read_file(&file, LIMIT)?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes `state` what the next run finds, whole or not at all.
    ///
    /// # Errors
    /// Those of [`Directory::replace`].
    pub fn write(&self, state: &State) -> io::Result<()> {
        self.directory.replace(FILE, &serde_json::to_vec(state)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::series::Series;
    use super::*;
    use crate::audit::entry::samples::record;
    use crate::audit::{self, store};
    use crate::host::{LOG_DIR, RUN};

    fn machine() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        for directory in ["run", "var/log", "var/lib"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let host = Host::at(root.path()).unwrap();
        (root, host)
    }

    /// A run of its own: requests and blocks in sum.
    fn run(host: &Host) -> (u64, u64) {
        let store = Store::open(host).unwrap();
        let mut state = store.read().unwrap();
        let published = state.go_on(host, 7).unwrap();
        let sum = |name: &str| {
            let of_name = |(series, _): &(&Series, &u64)| series.name == name;
            published.0.iter().filter(of_name).map(|(_, value)| value).sum()
        };
        let sums = (sum("requests_total"), sum("blocks_total"));
        store.write(&state).unwrap();
        sums
    }

    #[test]
    fn counters_never_fall() {
        let (root, host) = machine();
        assert_eq!(run(&host), (0, 0));
        let ask = |times| (0..times).for_each(|_| audit::write(&host, &record(b"x", 0)));
        ask(3);
        assert_eq!(run(&host), (3, 3));
        assert_eq!(run(&host), (3, 3));
        store::flush(&host).unwrap();
        assert_eq!(run(&host), (3, 3));
        ask(2);
        assert_eq!(run(&host), (5, 5));
        // A power cut: what was in memory is gone, and what comes after it counts.
        fs::remove_dir_all(root.path().join(&RUN[1..])).unwrap();
        assert_eq!(run(&host), (5, 5));
        ask(1);
        assert_eq!(run(&host), (6, 6));
        store::flush(&host).unwrap();
        assert_eq!(run(&host), (6, 6));
        // The log goes by rotation, or by somebody's hand.
        fs::remove_dir_all(root.path().join(&LOG_DIR[1..])).unwrap();
        assert_eq!(run(&host), (6, 6));
        ask(1);
        store::flush(&host).unwrap();
        assert_eq!(run(&host), (7, 7));
        // Without its state it begins with what there is.
        fs::remove_file(root.path().join(&STATE_DIR[1..]).join(FILE)).unwrap();
        assert_eq!(run(&host), (1, 1));
    }

    #[test]
    fn requests_that_were_only_counted_come_in_once() {
        let (_root, host) = machine();
        (0..1000).for_each(|_| audit::write(&host, &record(b"x", 0)));
        let (before, _) = run(&host);
        assert!((20..1000).contains(&before));
        let directory = spool::directory(&host).unwrap();
        let mut table = audit::table::Table::lock(&directory, PATIENCE).unwrap();
        let later = audit::table::now() + 2 * audit::thinning::WINDOW;
        assert_eq!(table.bring_out_passed(&directory, later).unwrap().len(), 1);
        drop(table);
        assert_eq!(run(&host), (1000, 1000));
        store::flush(&host).unwrap();
        assert_eq!(run(&host), (1000, 1000));
    }

    #[test]
    fn a_part_that_cannot_be_read_leaves_everything() {
        let (root, host) = machine();
        audit::write(&host, &record(b"x", 0));
        assert_eq!(run(&host), (1, 1));
        let spool = root.path().join(&RUN[1..]).join(spool::SPOOL);
        fs::rename(&spool, spool.with_extension("kept")).unwrap();
        fs::create_dir(&spool).unwrap();
        let mut state = Store::open(&host).unwrap().read().unwrap();
        let before = state.clone();
        state.go_on(&host, 7).unwrap_err();
        assert_eq!(state, before);
        assert!(!state.published().0.is_empty());
    }

    #[test]
    fn damage_is_an_error_and_one_run_waits_for_another() {
        let (root, host) = machine();
        let store = Store::open(&host).unwrap();
        fs::write(root.path().join(&STATE_DIR[1..]).join(FILE), "{").unwrap();
        assert_eq!(store.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        store.write(&State::default()).unwrap();
        assert_eq!(store.read().unwrap(), State::default());
        let lock = store.directory.open(LOCK, OFlag::O_RDWR, Mode::empty()).unwrap();
        assert!(lock.try_lock().is_err());
        drop(store);
        lock.try_lock().unwrap();
    }
}
