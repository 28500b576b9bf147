//! A modprobe that needs nothing: no descriptor, no memory but its own page, no library. It leaves a mark that names the
//! last word it was given, and loads what is laid out for it, by system calls alone.

/// The mark: a link whose target is what was asked for.
pub const MARK: &str = "/kernel/ran";
/// The mark of a second run, which there must not be.
pub const AGAIN: &str = "/kernel/again";
/// What it answers.
pub const STATUS: i32 = 7;
/// What it renames: modules as they come into being.
pub const LOADS: [(&str, &str); 2] = [
    ("/kernel/loads/nf_conntrack", "/kernel/module/nf_conntrack"),
    ("/kernel/loads/netfilter", "/kernel/net/netfilter"),
];

const BASE: u32 = 0x40_0000;
/// Of an ELF header and of one program header (elf(5)).
const HEADERS: u32 = 64 + 56;
const SYMLINK: u32 = 88;
const RENAME: u32 = 82;
const EXIT: u32 = 60;

/// An executable for x86-64.
pub fn program() -> Vec<u8> {
    let mut code = Code::default();
    code.link(MARK);
    // test eax, eax; jz over what follows.
    code.bytes(&[0x85, 0xc0, 0x74, Code::LINK]);
    code.link(AGAIN);
    for (from, to) in LOADS {
        code.set_rdi(from);
        code.set_rsi(to);
        code.call(RENAME);
    }
    code.bytes(&[0xbf]);
    code.bytes(&STATUS.to_le_bytes());
    code.call(EXIT);
    code.linked()
}

/// Instructions, and the strings that they name by address.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
    /// Where an address goes, and of which string.
    strings: Vec<(usize, &'static str)>,
}

impl Code {
    /// Bytes that [`Code::link`] takes.
    const LINK: u8 = 4 + 4 + 5 + 7;

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn string(&mut self, opcode: u8, string: &'static str) {
        self.bytes(&[opcode]);
        self.strings.push((self.bytes.len(), string));
        self.bytes(&[0; 4]);
    }

    fn set_rdi(&mut self, string: &'static str) {
        self.string(0xbf, string);
    }

    fn set_rsi(&mut self, string: &'static str) {
        self.string(0xbe, string);
    }

    fn call(&mut self, number: u32) {
        // mov eax, number; syscall
        self.bytes(&[0xb8]);
        self.bytes(&number.to_le_bytes());
        self.bytes(&[0x0f, 0x05]);
    }

    /// symlink(argv[argc - 1], path): the stack begins with argc and argv.
    fn link(&mut self, path: &'static str) {
        // mov rax, [rsp]; mov rdi, [rsp + rax * 8]
        self.bytes(&[0x48, 0x8b, 0x04, 0x24, 0x48, 0x8b, 0x3c, 0xc4]);
        self.set_rsi(path);
        self.call(SYMLINK);
    }

    fn linked(mut self) -> Vec<u8> {
        for (at, string) in std::mem::take(&mut self.strings) {
            let address = BASE + HEADERS + self.bytes.len() as u32;
            self.bytes[at..at + 4].copy_from_slice(&address.to_le_bytes());
            self.bytes(string.as_bytes());
            self.bytes(&[0]);
        }
        let length = u64::from(HEADERS) + self.bytes.len() as u64;
        let base = u64::from(BASE);
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half = |file: &mut Vec<u8>, numbers: &[u16]| {
            numbers.iter().for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
        };
        let double = |file: &mut Vec<u8>, numbers: &[u64]| {
            numbers.iter().for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
        };
        // ET_EXEC, EM_X86_64, version; entry, program headers, no section headers; sizes.
        half(&mut file, &[2, 62, 1, 0]);
        double(&mut file, &[base + u64::from(HEADERS), 64, 0]);
        half(&mut file, &[0, 0, 64, 56, 1, 0, 0, 0]);
        // PT_LOAD, readable and executable; all of the file.
        half(&mut file, &[1, 0, 5, 0]);
        double(&mut file, &[0, base, base, length, length, 4096]);
        file.extend_from_slice(&self.bytes);
        file
    }
}
