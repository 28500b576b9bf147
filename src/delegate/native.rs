//! Whether this machine can run a file by itself. What it can't, exec(2) asks modules for (`binfmt-XXXX`,
//! `search_binary_handler`, fs/exec.c), and that request would come to us, who run the same file again.
#![allow(unsafe_code)]

use std::ffi::CStr;

/// So much of a file the kernel looks at (BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h).
const HEADER: usize = 256;
/// An interpreter may be a script in its turn; the kernel follows five (`exec_binprm`, fs/exec.c).
const MAX_INTERPRETERS: usize = 5;

/// e_machine (elf(5)) of what this program is built for, and of the 32-bit programs that such kernels run as well. An
/// empty list: any machine will do.
#[cfg(target_arch = "x86_64")]
const MACHINES: &[(u8, u16)] = &[(libc::ELFCLASS64, libc::EM_X86_64), (libc::ELFCLASS32, libc::EM_386)];
#[cfg(target_arch = "aarch64")]
const MACHINES: &[(u8, u16)] = &[(libc::ELFCLASS64, libc::EM_AARCH64), (libc::ELFCLASS32, libc::EM_ARM)];
#[cfg(target_arch = "riscv64")]
const MACHINES: &[(u8, u16)] = &[(libc::ELFCLASS64, 243)];
#[cfg(target_arch = "arm")]
const MACHINES: &[(u8, u16)] = &[(libc::ELFCLASS32, libc::EM_ARM)];
#[cfg(target_arch = "x86")]
const MACHINES: &[(u8, u16)] = &[(libc::ELFCLASS32, libc::EM_386)];
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "arm",
    target_arch = "x86"
)))]
const MACHINES: &[(u8, u16)] = &[];

/// Whether exec(2) of `path` needs no module: a program of this machine's, or a script for one. What may be run but not
/// read is taken for one, and so is what memory is too short to read just now. Async-signal-safe, allocates nothing.
pub fn is_native(path: &CStr) -> bool {
    let mut header = [0; HEADER + 1];
    let Some(mut length) = head(path, &mut header) else { return matches!(last_error(), libc::EACCES | libc::ENOMEM) };
    for _ in 0..MAX_INTERPRETERS {
        let Some(start) = interpreter(&mut header, length) else { break };
        let mut next = [0; HEADER + 1];
        let Some(path) = header.get(start..).and_then(|rest| CStr::from_bytes_until_nul(rest).ok()) else {
            return false;
        };
        // An interpreter that is not there is ENOENT, which asks for no module.
        let Some(read) = head(path, &mut next) else { return true };
        (header, length) = (next, read);
    }
    is_elf(header.get(..length).unwrap_or_default())
}

/// Whether `path` is a program of this machine's, and no script.
pub fn is_program(path: &CStr) -> bool {
    let mut header = [0; HEADER + 1];
    head(path, &mut header).is_some_and(|length| is_elf(header.get(..length).unwrap_or_default()))
}

/// Where the interpreter's path begins in the first line of a script; its end is marked by a NUL.
fn interpreter(header: &mut [u8], length: usize) -> Option<usize> {
    let line = header.get(..length)?.strip_prefix(b"#!")?;
    let start = 2 + line.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0);
    let end = header.get(start..length)?.iter().position(is_end).map_or(length, |at| start + at);
    *header.get_mut(end)? = 0;
    (end > start).then_some(start)
}

fn is_elf(header: &[u8]) -> bool {
    let (Some(class), Some(&[low, high])) = (header.get(4), header.get(18..20)) else { return false };
    let machine = u16::from_ne_bytes([low, high]);
    header.starts_with(b"\x7fELF") && (MACHINES.is_empty() || MACHINES.contains(&(*class, machine)))
}

/// The beginning of a file, and how long it is; `None` if it can't be opened or read.
fn head(path: &CStr, buffer: &mut [u8; HEADER + 1]) -> Option<usize> {
    // SAFETY: open, read and close with a valid path and a buffer that is longer than what is read. That close succeeds
    // leaves errno as it is.
    let read = unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY);
        if file < 0 {
            return None;
        }
        let read = libc::read(file, buffer.as_mut_ptr().cast(), HEADER);
        libc::close(file);
        read
    };
    usize::try_from(read).ok()
}

fn last_error() -> i32 {
    nix::errno::Errno::last_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn what_the_kernel_would_ask_a_module_for_is_not_native() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let foreign = {
            let mut bytes = std::fs::read("/proc/self/exe").unwrap();
            bytes.truncate(64);
            bytes[18] = 0xfe;
            bytes
        };
        std::fs::write(path("foreign"), &foreign).unwrap();
        for (name, bytes, expected) in [
            ("empty", Vec::new(), false),
            ("short", b"\x7fELF".to_vec(), false),
            ("text", b"echo x\n".to_vec(), false),
            ("script", b"#!/proc/self/exe\n".to_vec(), true),
            ("blanks", b"#! \t/proc/self/exe -x\n".to_vec(), true),
            ("unended", b"#!/proc/self/exe".to_vec(), true),
            ("missing", b"#!/nowhere\n".to_vec(), true),
            ("nothing", b"#!\n".to_vec(), false),
            ("for_foreign", format!("#!{}\n", path("foreign")).into_bytes(), false),
            ("for_itself", format!("#!{}\n", path("for_itself")).into_bytes(), false),
            ("long", [b"#!/".as_slice(), &[b'x'; 400]].concat(), true),
        ] {
            std::fs::write(path(name), bytes).unwrap();
            assert_eq!(is_native(&CString::new(path(name)).unwrap()), expected, "{name}");
        }
        assert!(!is_native(&CString::new(path("foreign")).unwrap()));
        assert!(is_native(c"/proc/self/exe") && is_native(c"/bin/sh"));
    }
}
