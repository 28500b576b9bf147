//! `hide WAY ...`: somebody who asks for a module and keeps from the helper who that was.
//!
//! | WAY | |
//! | --- | --- |
//! | `killed FAMILY` | is killed while it asks for twenty generic netlink families, the last two of them FAMILY: those it does not wait for |
//! | `headless NAME` | its first thread has ended before another one asks for `crypto-NAME` |
//! | `deep DIRECTORY COMMAND...` | runs COMMAND in a control group below DIRECTORY whose path is longer than the kernel shows |
//! | `nested COUNT COMMAND...` | runs COMMAND with so many parents |
//! | `long DIRECTORY PROGRAM ARGUMENT...` | runs a copy of PROGRAM that lies below DIRECTORY by a path longer than the kernel shows |
//! | `served DIRECTORY PROGRAM ARGUMENT...` | runs PROGRAM from a file system of its own, which it mounts on DIRECTORY |

mod alg;
mod fuse;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::time::Duration;

unsafe extern "C" {
    fn fork() -> i32;
    fn kill(process: i32, signal: i32) -> i32;
    fn send(socket: i32, bytes: *const u8, length: usize, flags: i32) -> isize;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    fn syscall(number: i64, ...) -> i64;
    fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
}

const AF_NETLINK: i32 = 16;
const NETLINK_GENERIC: i32 = 16;
const SOCK_RAW: i32 = 3;
const SIGKILL: i32 = 9;
/// Ends a thread, x86_64.
const SYS_EXIT: i64 = 60;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["killed", family] => killed(family),
        ["headless", name] => headless(name.to_string()),
        ["deep", directory, command @ ..] => deep(directory, command),
        ["nested", count, command @ ..] => nested(count.parse().expect("a number"), command),
        ["long", directory, program, arguments @ ..] => long(directory, program, arguments),
        ["served", directory, program, arguments @ ..] => served(directory, program, arguments),
        _ => panic!("usage: hide killed|headless|deep|nested|long|served ..."),
    }
}

fn killed(family: &str) {
    let junk = (0..18).map(|number| format!("junk{number}"));
    let wanted = [family, family].map(String::from);
    let messages: Vec<u8> = junk.chain(wanted).flat_map(|family| message(&family)).collect();
    // SAFETY: no threads yet; the child leaves by exit.
    let child = unsafe { fork() };
    if child == 0 {
        // SAFETY: numbers, and bytes that outlive the call.
        unsafe { send(socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC), messages.as_ptr(), messages.len(), 0) };
        println!("was not killed");
        exit(1);
    }
    // It is still at the first ones: a helper is a program that has to be started.
    std::thread::sleep(Duration::from_millis(30));
    // SAFETY: a child of ours.
    unsafe {
        kill(child, SIGKILL);
        waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// CTRL_CMD_GETFAMILY by name (include/uapi/linux/genetlink.h).
fn message(family: &str) -> Vec<u8> {
    let mut attribute = [&(family.len() as u16 + 5).to_ne_bytes()[..], &2_u16.to_ne_bytes(), family.as_bytes(), &[0]].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let length = (16 + 4 + attribute.len()) as u32;
    let head = [&length.to_ne_bytes()[..], &16_u16.to_ne_bytes(), &1_u16.to_ne_bytes(), &[0; 8]].concat();
    [&head[..], &[3, 1, 0, 0], &attribute].concat()
}

fn headless(name: String) -> ! {
    std::thread::spawn(move || {
        let leader = format!("/proc/{}/stat", std::process::id());
        while !std::fs::read_to_string(&leader).expect("/proc").contains(") Z ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = alg::ask(b"hash", name.as_bytes());
        exit(0);
    });
    // SAFETY: ends this thread, and nothing on its stack is anybody else's.
    unsafe { syscall(SYS_EXIT, 0) };
    unreachable!()
}

fn deep(directory: &str, command: &[&str]) -> ! {
    let name = "d".repeat(255);
    std::env::set_current_dir(directory).expect("directory");
    for _ in 0..4096 / name.len() + 1 {
        if let Err(error) = std::fs::create_dir(&name) {
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        }
        std::env::set_current_dir(&name).expect("chdir");
    }
    std::fs::write("cgroup.procs", "0").expect("cgroup.procs");
    std::env::set_current_dir("/").expect("/");
    run(command)
}

fn long(directory: &str, program: &str, arguments: &[&str]) -> ! {
    let name = "d".repeat(255);
    std::env::set_current_dir(directory).expect("directory");
    for _ in 0..4096 / name.len() + 1 {
        std::fs::create_dir(&name).expect("mkdir");
        std::env::set_current_dir(&name).expect("chdir");
    }
    std::fs::copy(program, "file").expect("copy");
    panic!("{}", Command::new("./file").args(arguments).exec());
}

fn nested(count: u32, command: &[&str]) -> ! {
    for _ in 0..count {
        // SAFETY: no threads; whoever has a child waits for it and leaves.
        let child = unsafe { fork() };
        if child != 0 {
            // SAFETY: as above.
            unsafe { waitpid(child, std::ptr::null_mut(), 0) };
            exit(0);
        }
    }
    run(command)
}

fn served(directory: &str, program: &str, arguments: &[&str]) -> ! {
    let content = std::fs::read(program).expect("program");
    let device = fuse::mount(directory);
    // SAFETY: no threads yet; the child leaves by exit.
    if unsafe { fork() } == 0 {
        fuse::serve(device, &content, true);
        exit(0);
    }
    // The server ends with the mount, and that with whoever is in its namespace.
    drop(device);
    panic!("{}", Command::new(format!("{directory}/file")).args(arguments).exec());
}

fn run(command: &[&str]) -> ! {
    let [program, arguments @ ..] = command else { panic!("no command") };
    panic!("{program}: {}", Command::new(program).args(arguments).exec());
}
