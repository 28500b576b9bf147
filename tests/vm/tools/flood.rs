//! `flood serve PORTS`: takes and keeps every TCP connection to ports 9000 to 9000+PORTS-1.
//! `flood connect ADDRESS PORTS COUNT`: opens COUNT connections there, one thread a port, and keeps them.
//!
//! `connect` prints `established N of COUNT` when all are there, or as soon as one gets no answer for ten seconds, as
//! happens when a connection tracking table on the way is full. Both run until they are killed.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const FIRST_PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", ports] => serve(ports.parse().expect("PORTS")),
        ["connect", address, ports, count] => connect(
            address.parse().expect("ADDRESS"),
            ports.parse().expect("PORTS"),
            count.parse().expect("COUNT"),
        ),
        _ => panic!("usage: flood serve PORTS | flood connect ADDRESS PORTS COUNT"),
    }
}

fn serve(ports: u16) {
    std::thread::scope(|scope| {
        for port in FIRST_PORT..FIRST_PORT + ports {
            let listener = TcpListener::bind(("0.0.0.0", port)).expect("listen");
            scope.spawn(move || {
                let kept: Vec<TcpStream> = listener.incoming().map(|taken| taken.expect("accept")).collect();
                drop(kept);
            });
        }
        println!("listening");
    });
}

fn connect(address: IpAddr, ports: u16, count: usize) {
    let established = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let each = count.div_ceil(usize::from(ports));
    std::thread::scope(|scope| {
        for port in FIRST_PORT..FIRST_PORT + ports {
            let (established, stopped) = (&established, &stopped);
            scope.spawn(move || {
                for _ in 0..each {
                    if stopped.load(Ordering::Relaxed) || established.load(Ordering::Relaxed) >= count {
                        break;
                    }
                    match TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE) {
                        Ok(stream) => std::mem::forget(stream),
                        Err(error) => {
                            eprintln!("connect: {error}");
                            stopped.store(true, Ordering::Relaxed);
                            break;
                        }
                    }
                    established.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("established {} of {count}", established.load(Ordering::Relaxed));
    loop {
        std::thread::park();
    }
}
