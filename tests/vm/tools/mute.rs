//! `mute PATH`: a system logger that hangs: binds a datagram socket at PATH, fills its queue, and never reads.
//!
//! Prints `full N` (datagrams in the queue) when the next blocking send to it would wait, then runs until it is killed.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

fn main() {
    let path = std::env::args().nth(1).expect("usage: mute PATH");
    let logger = UnixDatagram::bind(&path).expect("bind");
    let sender = UnixDatagram::unbound().expect("socket");
    sender.set_nonblocking(true).expect("nonblocking");
    let queued = std::iter::repeat_with(|| sender.send_to(b"<30>mute: filler", &path)).take_while(Result::is_ok).count();
    println!("full {queued}");
    loop {
        std::thread::park();
        // It has to stay open.
        let _ = logger.as_raw_fd();
    }
}
