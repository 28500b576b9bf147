//! What resolving and deciding take alone, without a process around them: `cargo bench --bench decide -- TREE`, where
//! `TREE/lib/modules` holds one kernel's modules (`tests/vm/fetch-kernel generic` prints such a directory).
//!
//! Cold: modprobe.d is read and the index opened for one request, as the helper does. Warm: one more request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use modprobe_guard::host::Host;
use modprobe_guard::judge::Judge;
use modprobe_guard::model::{Action, Caller, Request, Requester};
use modprobe_guard::policy::{Source, parse};

const ROUNDS: usize = 2000;
const NAME: &str = "iptable_nat";

fn main() {
    // cargo bench puts an option of its own in front.
    let tree = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let tree = tree.expect("usage: cargo bench --bench decide -- TREE");
    let host = Host::at(tree.as_ref()).unwrap();
    let kernel = host.kernel().unwrap();
    let profile = include_bytes!("../conf/profiles/no-conntrack.toml").to_vec();
    let policy = parse(&[Source::new("no-conntrack.toml", profile)]).unwrap();
    let ask = |judge: &Judge| {
        let request = Request { name: NAME.into(), caller: Caller::Kernel };
        let judgement = judge.judge(request, &Requester::unknown());
        assert_eq!(judgement.verdict.carried_out, Action::Block);
    };
    let mut cold = Vec::with_capacity(ROUNDS);
    let mut warm = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let judge = Judge::new(&host, &kernel, &policy);
        ask(&judge);
        cold.push(began.elapsed());
        let began = Instant::now();
        ask(&judge);
        warm.push(began.elapsed());
    }
    for (label, mut times) in [("cold", cold), ("warm", warm)] {
        times.sort_unstable();
        let microseconds =
            |part: usize| times[ROUNDS * part / 4].as_nanos() as f64 / Duration::from_micros(1).as_nanos() as f64;
        println!(
            "{NAME}, {label}: {:.1} us ({:.1} to {:.1}, the middle half of {ROUNDS})",
            microseconds(2),
            microseconds(1),
            microseconds(3)
        );
    }
}
