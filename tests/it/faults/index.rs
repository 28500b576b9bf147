//! The module index and modprobe.d: missing, cut, with other bytes, changing while they are read.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::stage::{Stage, index, modules};
use super::tracer::{Interruption, What};
use super::{Fault, Verdict, is_long};
use crate::random::Random;

/// A way to break the file at a path.
type Break = Box<dyn Fn(&mut Stage, &str) + Send + Sync>;

/// Fuzzed copies of each file.
const SEEDS: u64 = 6;
/// System calls during which a file is cut: all that a request makes until it is decided.
const CALLS: usize = 120;

pub fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, bytes) in index().iter().filter(|(name, _)| name.ends_with(".bin") || name == "modules.softdep") {
        let path = format!("{}/{name}", modules());
        let mut add = |what: String, breaks: Break| {
            let path = path.clone();
            faults.push(Fault::new(format!("{name}: {what}"), move |stage| {
                uncertain(stage);
                breaks(stage, &path);
            }));
        };
        add("missing".to_owned(), Box::new(|stage, path| fs::remove_file(stage.path(path)).unwrap()));
        add(
            "a directory".to_owned(),
            Box::new(|stage, path| {
                fs::remove_file(stage.path(path)).unwrap();
                fs::create_dir(stage.path(path)).unwrap();
            }),
        );
        add(
            "a FIFO".to_owned(),
            Box::new(|stage, path| {
                fs::remove_file(stage.path(path)).unwrap();
                mkfifo(&stage.path(path), Mode::S_IRWXU).unwrap();
            }),
        );
        for length in (0..bytes.len()).step_by(512) {
            add(format!("cut at {length}"), Box::new(move |stage, path| stage.file(path, &bytes[..length])));
        }
        for seed in 0..SEEDS * if is_long() { 50 } else { 1 } {
            let mut random = Random::new(seed);
            let mut fuzzed = bytes.clone();
            (0..1 + random.below(40)).for_each(|_| fuzzed[random.below(bytes.len())] = random.byte());
            add(
                format!("fuzzed with {seed}"),
                Box::new(move |stage, path| {
                    stage.file(path, &fuzzed);
                    // Other names may stand there now: what they say is what counts.
                    stage.look = Some(Box::new(|stage, ran| stage.as_it_says(ran, false)));
                }),
            );
        }
        for at in (1..CALLS).step_by(if is_long() { 1 } else { 8 }) {
            add(
                format!("cut at call {at}"),
                Box::new(move |stage, path| {
                    stage.interruption = Some(Interruption { at, what: What::Pause });
                    let path = path.to_owned();
                    stage.meanwhile = Some(Box::new(move |stage, _| {
                        let file = fs::File::options().write(true).open(stage.path(&path)).unwrap();
                        file.set_len(20).unwrap();
                    }));
                    stage.changes_elsewhere = true;
                }),
            );
        }
    }
    let all = |what: &str, breaks: fn(&Stage)| {
        Fault::new(format!("the index: {what}"), move |stage| {
            breaks(stage);
            stage.expected.index = false;
            stage.expected.says = "/lib/modules/";
        })
    };
    faults.extend([
        all("missing", |stage| fs::remove_dir_all(stage.path(&modules())).unwrap()),
        all("no /lib", |stage| fs::remove_dir_all(stage.path("/lib")).unwrap()),
        all("a file", |stage| {
            fs::remove_dir_all(stage.path(&modules())).unwrap();
            stage.file(&modules(), b"");
        }),
        all("of zeroes", |stage| {
            for (name, bytes) in index() {
                stage.file(&format!("{}/{name}", modules()), &vec![0; bytes.len()]);
            }
        }),
        Fault::new("modprobe.d: a file", |stage| stage.file("/etc/modprobe.d", b"")),
        Fault::new("modprobe.d: nonsense, a FIFO, a directory", |stage| {
            stage.file("/etc/modprobe.d/1.conf", &[0xff; 100_000]);
            fs::create_dir(stage.path("/etc/modprobe.d/2.conf")).unwrap();
            mkfifo(&stage.path("/etc/modprobe.d/3.conf"), Mode::S_IRWXU).unwrap();
        }),
    ]);
    faults
}

/// What the name two steps away stands for can be told or not; the others need no index to be decided.
fn uncertain(stage: &mut Stage) {
    if stage.verdict == Verdict::Dependency {
        stage.look = Some(Box::new(|stage, ran| stage.as_it_says(ran, true)));
    }
}
