//! Waiting for what comes: inotify where it is to be had, else a look every quarter of a second.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::host::{Host, LOG_DIR, RUN};

/// How often one looks where nothing tells that there is something to see.
const BLIND: Duration = Duration::from_millis(250);
/// How often even so: a file system may change without telling (a mount over it, another host's).
const WATCHED: Duration = Duration::from_secs(5);
/// Many records in a row are one look.
const GATHER: Duration = Duration::from_millis(20);

/// Tells when there may be something new.
pub struct Watch {
    inotify: Option<Inotify>,
    directories: [PathBuf; 2],
    sees_all: bool,
}

impl Watch {
    /// Over the places where records of `host` come to lie.
    pub fn new(host: &Host) -> Watch {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        Watch { inotify, directories: [RUN, LOG_DIR].map(|path| host.shown(path)), sees_all: false }
    }

    /// From here on nothing is missed. To be called before every look: the directories may be missing at first, or may
    /// be removed and made again.
    pub fn arm(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        // What is waiting is what the look to come will see.
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let watched = self.directories.iter().filter(|path| inotify.add_watch(path.as_path(), flags).is_ok()).count();
        self.sees_all = watched == self.directories.len();
    }

    /// Waits until there may be something new. Says no if nobody reads `out` any more.
    pub fn wait(&self, out: &impl AsFd) -> bool {
        let limit = if self.sees_all { WATCHED } else { BLIND };
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // Of `out` only errors and hang-ups are heard.
        let mut waiting = vec![PollFd::new(out.as_fd(), PollFlags::empty())];
        waiting.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        let result = poll(&mut waiting, limit);
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let out = waiting.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if result.is_ok() && out.intersects(gone) {
            return false;
        }
        // Also where poll(2) itself fails: never a busy loop.
        std::thread::sleep(GATHER);
        true
    }
}
