//! `swap NAME COUNT PROGRAM [FILE]`: COUNT processes, one after the other, of which each asks for a module by one thread
//! and becomes PROGRAM by another while the first one waits, each a little later than the one before. The kernel kills
//! who waits for that, and PROGRAM takes over its number. PROGRAM, a copy of this one, runs (`spin`) until it is killed; if it
//! is called `asker` it asks for another module before that. Each is killed after LIVES milliseconds, 300 if none are given.
//! With FILE they have that open, which is closed on the way: if its server never says that it may be, they stay where
//! they are, and are left behind. Before them three ask and wait for their answers. The names that are asked for are NAME
//! followed by a number.
//!
//! `swap one DELAY NAME PROGRAM [FILE]`: one of them, so many times half a millisecond later.
//! `swap wait NAME`: only asks.
//! `swap stuck NAME PROGRAM FILE`: asks, and then tries to become PROGRAM, alone; SIGUSR1 has it wait for the server of FILE as one
//! waits for a module.

mod alg;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

const SIGUSR1: i32 = 10;

extern "C" fn ignore(_: i32) {}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["spin", number] => {
            if std::env::args().next().is_some_and(|name| name.ends_with("/asker")) {
                let _ = alg::ask(b"hash", format!("another{number}").as_bytes());
            }
            loop {
                std::hint::spin_loop();
            }
        }
        ["wait", name] => {
            let _ = alg::ask(b"hash", name.as_bytes());
        }
        ["stuck", name, program, file] => {
            let _file = File::open(file).expect("open");
            // SAFETY: a handler that does nothing. A signal that is handled lets a wait for a file server go on till the end.
            unsafe { signal(SIGUSR1, ignore) };
            let _ = alg::ask(b"hash", name.as_bytes());
            panic!("{program}: {}", Command::new(program).args(["spin", "0"]).exec());
        }
        ["one", number, name, program, rest @ ..] => {
            let _file = rest.first().map(|file| File::open(file).expect("open"));
            swap(number.parse().expect("a number"), name, program)
        }
        [name, count, program, rest @ ..] => {
            let ours = std::env::current_exe().expect("/proc");
            let count = count.parse::<u64>().expect("a number");
            for number in count..count + 3 {
                Command::new(&ours).args(["wait", &format!("{name}{number}")]).status().expect("fork");
            }
            let lives = std::env::var("LIVES").map_or(300, |text| text.parse().expect("milliseconds"));
            for number in 0..count {
                let arguments = ["one", &number.to_string(), &format!("{name}{number}"), program];
                let mut child = Command::new(&ours).args(arguments).args(rest).spawn().expect("fork");
                std::thread::sleep(Duration::from_millis(lives));
                let _ = child.kill();
                let _ = if rest.is_empty() { child.wait().map(Some) } else { child.try_wait() };
            }
        }
        _ => panic!("usage: swap NAME COUNT PROGRAM [FILE]"),
    }
}

/// Who asks is the first thread: its number is the one that PROGRAM gets.
fn swap(number: u64, name: &str, program: &str) -> ! {
    let program = program.to_owned();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_micros(500 * number));
        panic!("{program}: {}", Command::new(&program).args(["spin", &number.to_string()]).exec());
    });
    let _ = alg::ask(b"hash", name.as_bytes());
    loop {
        std::thread::park();
    }
}
