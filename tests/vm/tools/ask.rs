//! `ask [--after FILE] [--uid N] [--threads N] KIND ARGUMENT...`: makes the kernel ask for a module, as a process of ours would.
//!
//! | KIND | the kernel asks for |
//! | --- | --- |
//! | `socket FAMILY [TYPE [PROTOCOL]]` | `net-pf-FAMILY`, then `net-pf-FAMILY-proto-PROTOCOL...` |
//! | `alg TYPE NAME` | `algif-TYPE`, `crypto-NAME`, `crypto-NAME-all` |
//! | `mount TYPE` | `fs-TYPE` (root only) |
//! | `netdev NAME` | `netdev-NAME`, then `NAME` itself (root only) |
//! | `group NUMBER` | `nfnetlink-subsys-…` of that netfilter multicast group, without waiting (root only) |
//!
//! Arguments take `\xNN` for any byte. With `--threads` as many threads ask at once while the main thread waits, else
//! the main thread asks. With `--after` it waits until there is such a file. Prints `pid=P tid=T errno=E ms=M us=U` for each; the exit status is 0 whatever the kernel answered.

mod alg;

use std::ffi::CString;
use std::io;
use std::time::Instant;

unsafe extern "C" {
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    fn ioctl(descriptor: i32, request: u64, argument: *mut u8) -> i32;
    fn mount(source: *const i8, target: *const i8, kind: *const i8, flags: u64, data: *const i8) -> i32;
    fn setgid(gid: u32) -> i32;
    fn setuid(uid: u32) -> i32;
    fn gettid() -> i32;
}

/// `SIOCGIFFLAGS`, `include/uapi/linux/sockios.h`.
const SIOCGIFFLAGS: u64 = 0x8913;
const AF_INET: i32 = 2;
const SOCK_DGRAM: i32 = 2;
const SOCK_STREAM: i32 = 1;
const SOCK_RAW: i32 = 3;
const AF_NETLINK: u32 = 16;
const NETLINK_NETFILTER: i32 = 12;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut after = None;
    if arguments.next_if(|argument| argument == "--after").is_some() {
        after = arguments.next();
    }
    while after.as_ref().is_some_and(|file| !std::path::Path::new(file).exists()) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut number = |wanted: &str| {
        (arguments.next_if(|argument| argument == wanted).is_some())
            .then(|| arguments.next().and_then(|value| value.parse::<u32>().ok()).expect("a number"))
    };
    let uid = number("--uid");
    let threads = number("--threads").unwrap_or(0);
    let words: Vec<Vec<u8>> = arguments.map(|word| unescape(word.as_bytes())).collect();
    if let Some(uid) = uid {
        // SAFETY: plain system calls; no other thread runs yet.
        let changed = unsafe { setgid(uid) == 0 && setuid(uid) == 0 };
        assert!(changed, "setuid {uid}: {}", io::Error::last_os_error());
    }
    if threads == 0 {
        report(&words);
    }
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| report(&words));
        }
    });
}

fn report(words: &[Vec<u8>]) {
    let start = Instant::now();
    let errno = ask(words).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    // SAFETY: no argument, cannot fail.
    let tid = unsafe { gettid() };
    let held = start.elapsed();
    println!("pid={} tid={tid} errno={errno} ms={} us={}", std::process::id(), held.as_millis(), held.as_micros());
}

fn ask(words: &[Vec<u8>]) -> io::Result<()> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match words.as_slice() {
        [b"socket", family] => open(number(family), SOCK_STREAM, 0),
        [b"socket", family, kind] => open(number(family), number(kind), 0),
        [b"socket", family, kind, protocol] => open(number(family), number(kind), number(protocol)),
        [b"alg", kind, name] => alg::ask(kind, name),
        [b"mount", kind] => {
            let kind = CString::new(*kind)?;
            // SAFETY: all pointers are to strings that end in NUL and outlive the call.
            answer(unsafe { mount(c"none".as_ptr(), c"/mnt".as_ptr(), kind.as_ptr(), 0, std::ptr::null()) })
        }
        [b"netdev", name] => {
            // SAFETY: a struct ifreq is 40 bytes, the first 16 its name; socket takes plain numbers.
            unsafe {
                let mut request = [0u8; 40];
                request.iter_mut().take(15).zip(*name).for_each(|(to, from)| *to = *from);
                answer(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFFLAGS, request.as_mut_ptr()))
            }
        }
        [b"group", group] => {
            // struct sockaddr_nl: family and padding, port, groups.
            let address = [AF_NETLINK, 0, 1 << (number(group) - 1)];
            // SAFETY: the address outlives the call and its length is its own.
            let (address, length) = (address.as_ptr().cast(), size_of_val(&address) as u32);
            answer(unsafe { alg::bind(socket(AF_NETLINK as i32, SOCK_RAW, NETLINK_NETFILTER), address, length) })
        }
        _ => panic!("usage: ask [--uid N] [--threads N] socket|alg|mount|netdev|group ARGUMENT..."),
    }
}

fn open(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: plain numbers; the descriptor lives as long as the process.
    answer(unsafe { socket(family, kind, protocol) })
}

fn answer(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn number(word: &[u8]) -> i32 {
    std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).expect("a number")
}

/// `\xNN` as the byte it means, all else as it is.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        let hex = match rest {
            [b'\\', b'x', high, low, ..] => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &rest[4..] } else { tail };
    }
    bytes
}
