//! AF_ALG binds: the way for anybody to have the kernel ask for a module with a name of his choice.

use std::io;

/// `AF_ALG`, `include/linux/socket.h`.
const AF_ALG: i32 = 38;
const SOCK_SEQPACKET: i32 = 5;
const SOCK_CLOEXEC: i32 = 0o2000000;

/// `struct sockaddr_alg`, `include/uapi/linux/if_alg.h`.
#[repr(C)]
pub struct Address {
    family: u16,
    kind: [u8; 14],
    feature: u32,
    mask: u32,
    name: [u8; 64],
}

unsafe extern "C" {
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    pub fn bind(socket: i32, address: *const Address, length: u32) -> i32;
    fn close(descriptor: i32) -> i32;
}

/// Binds a socket to the algorithm `name` of the type `kind` ("hash", "skcipher"); the kernel asks for
/// `algif-KIND`, `crypto-NAME` and `crypto-NAME-all` as far as it has none of them.
pub fn ask(kind: &[u8], name: &[u8]) -> io::Result<()> {
    let mut address = Address { family: AF_ALG as u16, kind: [0; 14], feature: 0, mask: 0, name: [0; 64] };
    address.kind.iter_mut().zip(kind).for_each(|(to, from)| *to = *from);
    address.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    // SAFETY: plain system calls; the address outlives the call and its length is its own.
    unsafe {
        let descriptor = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let bound = bind(descriptor, &address, size_of::<Address>() as u32);
        let error = io::Error::last_os_error();
        close(descriptor);
        if bound < 0 { Err(error) } else { Ok(()) }
    }
}
