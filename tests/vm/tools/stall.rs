//! `stall DIRECTORY FAMILY GO`: somebody who becomes another program for ever. Mounts a file system of its own on
//! DIRECTORY (in a user namespace anybody may), opens its file, asks for a socket of FAMILY, prints `asked PID`, and when
//! the file GO is there runs another program. The kernel closes the file on the way, holding a lock that whoever looks at
//! the task waits for, and is never told that it may go on. Prints `stuck` then. When there is a file GO.child a child of
//! it asks for the same and prints `child PID`. Ends when all that are called `stall` are killed.
//!
//! Structures and numbers: include/uapi/linux/fuse.h.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

unsafe extern "C" {
    fn fork() -> i32;
    fn mount(source: *const i8, target: *const i8, kind: *const i8, flags: u64, data: *const i8) -> i32;
    fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const SIGUSR1: i32 = 10;
const REGULAR: u32 = 0o100755;
const DIRECTORY: u32 = 0o40755;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [directory, family, go] = words.as_slice() else { panic!("usage: stall DIRECTORY FAMILY GO") };
    let family = family.parse().expect("a number");
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let text = |text: &str| CString::new(text).unwrap();
    let data = text(&format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()));
    let (name, kind) = (text("stall"), text("fuse"));
    // SAFETY: strings that outlive the call.
    let mounted = unsafe { mount(name.as_ptr(), text(directory).as_ptr(), kind.as_ptr(), 0, data.as_ptr()) };
    assert_eq!(mounted, 0, "mount: {}", std::io::Error::last_os_error());
    // SAFETY: no threads yet; the child leaves by exit.
    if unsafe { fork() } == 0 {
        serve(device);
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

/// Answers all but the question whether the file may be closed.
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let (operation, unique, node) = (number(4), &request[8..16], number(16));
        let attributes = |node: u32| {
            let mut attributes = [0; 88];
            attributes[..4].copy_from_slice(&node.to_ne_bytes());
            let mode = if node == 1 { DIRECTORY } else { REGULAR };
            attributes[60..64].copy_from_slice(&mode.to_ne_bytes());
            attributes[64] = 1;
            attributes.to_vec()
        };
        let answer = match operation {
            // Major and minor number; no more of it matters.
            INIT => [&7_u32.to_ne_bytes()[..], &31_u32.to_ne_bytes(), &[0; 56]].concat(),
            LOOKUP => [&2_u64.to_ne_bytes()[..], &[0; 32], &attributes(2)].concat(),
            GETATTR => [&[0; 16][..], &attributes(node)].concat(),
            OPEN => vec![0; 16],
            RELEASE => Vec::new(),
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            FLUSH => {
                println!("stuck");
                continue;
            }
            _ => {
                let answer = [&16_u32.to_ne_bytes()[..], &(-ENOSYS).to_ne_bytes(), unique].concat();
                let _ = device.write(&answer);
                continue;
            }
        };
        assert!(length >= 40);
        let head = [&(16 + answer.len() as u32).to_ne_bytes()[..], &[0; 4], unique].concat();
        let _ = device.write(&[head, answer].concat());
    }
}
