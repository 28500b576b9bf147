//! Resource limits (setrlimit(2)) at their least.

use std::io;

use super::Fault;
use super::stage::Stage;
use super::tracer::{Interruption, What};

/// A user who may have one process.
const USER: u32 = 65123;
/// Memory is taken away in such steps, bytes.
const STEP: u64 = 16 * 1024;

pub fn faults() -> Vec<Fault> {
    let mut faults: Vec<Fault> = [
        ("RTPRIO", libc::RLIMIT_RTPRIO),
        ("NICE", libc::RLIMIT_NICE),
        ("LOCKS", libc::RLIMIT_LOCKS),
        ("MEMLOCK", libc::RLIMIT_MEMLOCK),
        ("MSGQUEUE", libc::RLIMIT_MSGQUEUE),
        ("SIGPENDING", libc::RLIMIT_SIGPENDING),
        ("CORE", libc::RLIMIT_CORE),
        ("RSS", libc::RLIMIT_RSS),
        ("NPROC", libc::RLIMIT_NPROC),
    ]
    .into_iter()
    .map(|(name, limit)| Fault::new(format!("{name} is 0"), move |stage| limits(stage, limit, 0)))
    .collect();
    // A record has some 1,200 bytes, and the table of counts 263,168.
    for bytes in [0, 1, 100, 1000, 5000, 100_000] {
        faults.push(Fault::new(format!("FSIZE is {bytes}"), move |stage| {
            limits(stage, libc::RLIMIT_FSIZE, bytes);
            stage.expected.spool = bytes >= 5000;
            // The size is a file of the kernel's, which has no limit; here it has.
            stage.expected.sized = bytes > 100;
            // The kernel's log, too, is a device and no file.
            stage.expected.kernel_log = bytes >= 1000;
        }));
    }
    for descriptors in 0..12 {
        faults.push(Fault::new(format!("NOFILE is {descriptors}"), move |stage| {
            limits(stage, libc::RLIMIT_NOFILE, descriptors);
            // With less nothing can be opened, and nobody be told.
            if descriptors < 6 {
                (stage.expected.spool, stage.expected.syslog, stage.expected.kernel_log) = (false, false, false);
            }
            stage.look = Some(Box::new(|stage, ran| stage.as_it_says(ran, true)));
        }));
    }
    let program = size_of_program() / STEP;
    let memory = (program..program + 128).map(|steps| ("AS", libc::RLIMIT_AS, steps));
    for (name, limit, steps) in memory.chain((0..64).map(|steps| ("DATA", libc::RLIMIT_DATA, steps))) {
        faults.push(Fault::new(format!("{name} is {} KiB", steps * STEP / 1024), move |stage| {
            limits(stage, limit, steps * STEP);
            stage.interruption = Some(Interruption { at: usize::MAX, what: What::Count });
            stage.look = Some(Box::new(|stage, ran| stage.as_it_says(ran, true)));
        }));
    }
    faults.push(Fault::new("no process may be made", |stage| {
        stage.prepare = Some(Box::new(|| {
            set(libc::RLIMIT_NPROC, 1)?;
            // SAFETY: system calls on ourselves.
            nix::errno::Errno::result(unsafe { libc::setgid(USER) | libc::setuid(USER) })?;
            Ok(())
        }));
        // What takes our place answers for itself, and a user writes to no spool.
        stage.expected.spool = false;
        stage.expected.sized = false;
        stage.expected.kernel_log = false;
    }));
    faults
}

fn limits(stage: &mut Stage, limit: libc::__rlimit_resource_t, value: u64) {
    stage.prepare = Some(Box::new(move || set(limit, value)));
}

fn set(limit: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: reads a structure that lives until it returns.
    nix::errno::Errno::result(unsafe { libc::setrlimit(limit, &limits) })?;
    Ok(())
}

/// How much of the address space the helper takes before it runs: all of its segments to be loaded (elf(5)).
fn size_of_program() -> u64 {
    let program = std::fs::read(env!("CARGO_BIN_EXE_modprobe-guard")).unwrap();
    let word = |at: usize| u64::from_le_bytes(program[at..at + 8].try_into().unwrap());
    let (headers, count) = (word(32) as usize, usize::from(program[56]));
    let loaded = (0..count).map(|at| headers + at * 56).filter(|&header| program[header] == 1);
    loaded.map(|header| word(header + 40)).sum()
}
