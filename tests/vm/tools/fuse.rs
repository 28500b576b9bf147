//! A file system of one's own, with one file in it: `file`, which may be run. In a user namespace anybody may mount one.
//!
//! Structures and numbers: include/uapi/linux/fuse.h.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

unsafe extern "C" {
    #[link_name = "mount"]
    fn mount_it(source: *const i8, target: *const i8, kind: *const i8, flags: u64, data: *const i8) -> i32;
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const REGULAR: u32 = 0o100755;
const DIRECTORY: u32 = 0o40755;

/// Mounts it on `directory`, for ourselves alone.
pub fn mount(directory: &str) -> File {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let text = |text: &str| CString::new(text).unwrap();
    let data = text(&format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()));
    let (name, kind) = (text("own"), text("fuse"));
    // SAFETY: strings that outlive the call.
    let mounted = unsafe { mount_it(name.as_ptr(), text(directory).as_ptr(), kind.as_ptr(), 0, data.as_ptr()) };
    assert_eq!(mounted, 0, "mount: {}", std::io::Error::last_os_error());
    device
}

/// Serves it until it is unmounted. The file holds `content`. Whoever closes it is answered if it `may_be_closed`; otherwise
/// that is never answered, and `stuck` printed.
pub fn serve(mut device: File, content: &[u8], may_be_closed: bool) {
    let mut request = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let (operation, unique, node) = (number(4), &request[8..16], number(16));
        let attributes = |node: u32| {
            let mut attributes = [0; 88];
            attributes[..4].copy_from_slice(&node.to_ne_bytes());
            let mode = if node == 1 { DIRECTORY } else { REGULAR };
            if node != 1 {
                attributes[8..16].copy_from_slice(&(content.len() as u64).to_ne_bytes());
            }
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
            READ => {
                let start = content.len().min(number(48) as usize);
                content[start..content.len().min(start + number(56) as usize)].to_vec()
            }
            RELEASE => Vec::new(),
            FLUSH if may_be_closed => Vec::new(),
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
