//! `stall DIRECTORY FAMILY GO`: somebody who becomes another program for ever. Mounts a file system of its own on
//! DIRECTORY (in a user namespace anybody may), opens its file, asks for a socket of FAMILY, prints `asked PID`, and when
//! the file GO is there runs another program. The kernel closes the file on the way, holding a lock that whoever looks at
//! the task waits for, and is never told that it may go on. Prints `stuck` then. When there is a file GO.child a child of
//! it asks for the same and prints `child PID`. Ends when all that are called `stall` are killed.

mod fuse;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

unsafe extern "C" {
    fn fork() -> i32;
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
}

const SIGUSR1: i32 = 10;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, family, go] = words.as_slice() else { panic!("usage: stall DIRECTORY FAMILY GO") };
    let family = family.parse().expect("a number");
    let device = fuse::mount(directory);
    // SAFETY: no threads yet; the child leaves by exit.
    if unsafe { fork() } == 0 {
        // All but the question whether the file may be closed is answered.
        fuse::serve(device, &[], false);
        exit(0);
    }
    // SAFETY: as above.
    if unsafe { fork() } == 0 {
        wait_for(&format!("{go}.child"));
        println!("child {}", std::process::id());
        // SAFETY: a socket that nobody uses.
        unsafe { socket(family, 3, 0) };
        exit(0);
    }
    let _file = File::open(Path::new(directory).join("file")).expect("open");
    // SAFETY: a handler that does nothing; a socket that nobody uses.
    unsafe {
        signal(SIGUSR1, nothing);
        socket(family, 3, 0);
    }
    println!("asked {}", std::process::id());
    wait_for(go);
    // The end of the file's life: std opens files so that they are closed then.
    panic!("exec: {}", Command::new("/proc/self/exe").exec());
}

fn wait_for(file: &str) {
    while !Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

extern "C" fn nothing(_: i32) {}
