//! Many that ask at once, and whose names say who they are: `sPID.TID.UID.NUMBER`, so that a record can be held against
//! its own request.
//!
//! `storm different WORKERS EACH [UID]`: half of the workers are processes, half threads of one; each has a user id of its own
//! (UID and up; 2000) and binds EACH algorithms that nobody has, for each of which the kernel asks twice.
//! `storm same WORKERS NAME`: all ask for one name at the same moment. Prints `PID TID` of each.
//! `storm killed COUNT`: processes that are killed a moment after they asked.
//! `storm idle COUNT`: prints `ready` when so many processes sleep, until it is killed.
//! `storm among COUNT`: one thread among so many sleeping ones asks.
//! `storm stuck`: one asks whose command line lies in memory that nobody ever brings (userfaultfd(2)).

mod alg;

use std::process::exit;
use std::sync::Barrier;
use std::thread::scope;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn fork() -> i32;
    fn getpid() -> i32;
    fn gettid() -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn pause() -> i32;
    fn pipe(descriptors: *mut i32) -> i32;
    fn read(descriptor: i32, to: *mut u8, length: usize) -> isize;
    fn close(descriptor: i32) -> i32;
    fn ioctl(descriptor: i64, request: u64, argument: *mut u64) -> i32;
    fn mmap(at: *mut u8, length: usize, protection: i32, flags: i32, descriptor: i32, offset: i64) -> *mut u8;
    fn prctl(option: i32, argument: u64, ...) -> i32;
    fn syscall(number: i64, ...) -> i64;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

const SETRESUID: i64 = 117;
const SIGKILL: i32 = 9;
const PR_SET_PDEATHSIG: i32 = 1;
const USERFAULTFD: i64 = 323;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const PR_SET_MM: i32 = 35;
const PR_SET_MM_ARG_START: u64 = 8;
const PR_SET_MM_ARG_END: u64 = 9;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u32>().expect("a number");
    match words.as_slice() {
        ["different", workers, each, uid @ ..] => {
            let (each, first) = (number(each), uid.first().map_or(2000, |uid| number(uid)));
            at_once(number(workers), |worker| (0..each).for_each(|count| ask_as(first + worker, count)));
        }
        ["same", workers, name] => at_once(number(workers), |_| {
            let _ = alg::ask(b"hash", name.as_bytes());
            // SAFETY: no arguments.
            println!("{} {}", unsafe { getpid() }, unsafe { gettid() });
        }),
        ["killed", count] => (0..number(count)).for_each(killed),
        ["idle", count] => idle(number(count)),
        ["among", count] => among(number(count)),
        ["stuck"] => stuck(),
        _ => panic!("usage: storm different|same|killed|idle|among|stuck ..."),
    }
}

/// Runs `work` in as many processes and threads, which begin together, and waits for all.
fn at_once(workers: u32, work: impl Fn(u32) + Sync) {
    let processes = workers / 2;
    let mut gate = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { pipe(gate.as_mut_ptr()) }, 0);
    let [wait, go] = gate;
    let children: Vec<i32> = (0..processes).map(|worker| child(|| {
        // SAFETY: descriptors of ours; a byte that never comes, only the end.
        unsafe {
            close(go);
            read(wait, [0].as_mut_ptr(), 1);
        }
        work(worker);
    })).collect();
    let barrier = Barrier::new((workers - processes + 1) as usize);
    scope(|scope| {
        for worker in processes..workers {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(worker);
            });
        }
        barrier.wait();
        // SAFETY: ours.
        unsafe { close(go) };
    });
    children.into_iter().for_each(end_of);
}

fn child(work: impl FnOnce()) -> i32 {
    // SAFETY: no threads yet; the child leaves by exit.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        work();
        exit(0);
    }
    pid
}

fn end_of(pid: i32) {
    // SAFETY: a child of ours.
    unsafe { waitpid(pid, std::ptr::null_mut(), 0) };
}

fn ask_as(uid: u32, count: u32) {
    // SAFETY: numbers; the bare system call changes this thread alone.
    let name = unsafe {
        let uid = i64::from(uid);
        syscall(SETRESUID, uid, uid, uid);
        format!("s{}.{}.{uid}.{count}", getpid(), gettid())
    };
    let _ = alg::ask(b"hash", name.as_bytes());
}

fn killed(count: u32) {
    let mut gate = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { pipe(gate.as_mut_ptr()) }, 0);
    let [wait, go] = gate;
    let pid = child(|| {
        // SAFETY: a descriptor of ours: its end tells that we begin.
        unsafe { close(go) };
        (0..100).for_each(|round| ask_as(3000 + count, round));
    });
    // SAFETY: as above.
    unsafe {
        close(go);
        read(wait, [0].as_mut_ptr(), 1);
        close(wait);
    }
    // At ever other moments of its request.
    let until = Instant::now() + Duration::from_micros(u64::from(count) * 1700 % 40_000);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_micros(100));
    }
    // SAFETY: a child of ours.
    unsafe { kill(pid, SIGKILL) };
    end_of(pid);
}

fn idle(count: u32) {
    for _ in 0..count {
        child(|| unsafe {
            prctl(PR_SET_PDEATHSIG, SIGKILL as u64);
            loop {
                pause();
            }
        });
    }
    println!("ready");
    // SAFETY: until we are killed, and the children with us.
    unsafe { pause() };
}

fn among(count: u32) {
    for _ in 0..count {
        std::thread::Builder::new()
            .stack_size(32 << 10)
            .spawn(|| unsafe {
                loop {
                    pause();
                }
            })
            .expect("thread");
    }
    std::thread::spawn(|| ask_as(2999, 0)).join().expect("asked");
    exit(0);
}

fn stuck() {
    // SAFETY: a page of our own that nothing else uses; the structures are those of linux/userfaultfd.h as words.
    unsafe {
        let page = mmap(std::ptr::null_mut(), 4096, 3, 0x22, -1, 0) as u64;
        let faults = syscall(USERFAULTFD, 0);
        assert!(faults >= 0, "userfaultfd: {}", std::io::Error::last_os_error());
        let mut api = [0xaa_u64, 0, 0];
        assert_eq!(ioctl(faults, UFFDIO_API, api.as_mut_ptr()), 0);
        let mut missing = [page, 4096, 1, 0];
        assert_eq!(ioctl(faults, UFFDIO_REGISTER, missing.as_mut_ptr()), 0);
        // The start first: it may never be above the end, and the page lies below the stack.
        for (which, at) in [(PR_SET_MM_ARG_START, page), (PR_SET_MM_ARG_END, page + 64)] {
            assert_eq!(prctl(PR_SET_MM, which, at, 0_u64, 0_u64), 0, "{}", std::io::Error::last_os_error());
        }
    }
    ask_as(0, 0);
}
