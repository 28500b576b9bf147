//! What the scheduler knows of a process of ours: read without allocating, and fit for signal handlers
//! (signal-safety(7)).

use std::ffi::CStr;
use std::io::Write;

use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags};

/// How long a process, ourselves if none is named, has waited for a processor in all, nanoseconds: the second number of
/// `/proc/PID/schedstat` (Documentation/scheduler/sched-stats.rst). 0 if that can't be read.
pub fn run_delay(pid: Option<Pid>) -> i64 {
    let mut text = [0; 64];
    second_number(read(pid, "schedstat", &mut text))
}

/// Whether a process waits for nothing but a processor: state `R` of `/proc/PID/stat`, behind the name, which may hold
/// anything.
pub fn is_runnable(pid: Pid) -> bool {
    let mut text = [0; 256];
    let stat = read(Some(pid), "stat", &mut text);
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|end| stat.get(end + 2));
    state == Some(&b'R')
}

fn read<'a>(pid: Option<Pid>, file: &str, room: &'a mut [u8]) -> &'a [u8] {
    let mut path = [0; 32];
    let written = match pid {
        Some(pid) => write!(&mut path[..], "/proc/{pid}/{file}\0"),
        None => write!(&mut path[..], "/proc/self/{file}\0"),
    };
    let read = || {
        written.ok()?;
        let path = CStr::from_bytes_until_nul(&path).ok()?;
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        rustix::io::read(file, &mut *room).ok()
    };
    let length = read().unwrap_or(0);
    room.get(..length).unwrap_or_default()
}

fn second_number(text: &[u8]) -> i64 {
    let digits = text.iter().skip_while(|&&byte| byte != b' ').skip(1).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: i64, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_without_a_processor_is_the_second_number() {
        for (text, expected) in [
            (&b"12345 678900 17\n\0\0"[..], 678_900),
            (b"1 2", 2),
            (b"1", 0),
            (b"", 0),
            (b"1  2", 0),
            (b"1 99999999999999999999 2", i64::MAX),
        ] {
            assert_eq!(second_number(text), expected);
        }
        // Whoever runs this test waited at some time, and not for years.
        let year = 365 * 24 * 3600 * 1_000_000_000;
        assert!((1..year).contains(&run_delay(None)));
        assert!((1..year).contains(&run_delay(Some(Pid::this()))));
        assert_eq!(run_delay(Some(Pid::from_raw(i32::MAX))), 0);
    }

    #[test]
    fn who_runs_can_and_who_sleeps_cannot() {
        let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut runner = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let of = |child: &std::process::Child| is_runnable(Pid::from_raw(i32::try_from(child.id()).unwrap()));
        // Each needs a moment to come to that.
        while of(&sleeper) || !of(&runner) {
            std::thread::yield_now();
        }
        for child in [&mut sleeper, &mut runner] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!is_runnable(Pid::from_raw(i32::MAX)));
    }
}
