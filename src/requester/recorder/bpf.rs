//! bpf(2), as much of it as the recorder needs. Structures and numbers: include/uapi/linux/bpf.h.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    ProgramLoad = 5,
    ObjectPin = 6,
    ObjectGet = 7,
    ProgramById = 13,
    ObjectInfo = 15,
    RawTracepointOpen = 17,
    LinkCreate = 28,
}

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
const MAPPABLE: u32 = 1 << 10;
/// `BPF_LINK_TYPE_RAW_TRACEPOINT` and `BPF_LINK_TYPE_PERF_EVENT`.
const RAW_TRACEPOINT_LINK: u32 = 1;
const PERF_EVENT_LINK: u32 = 7;
/// `PERF_TYPE_TRACEPOINT`, include/uapi/linux/perf_event.h.
const PERF_TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const PERF_CLOSE_ON_EXEC: libc::c_long = 1 << 3;
/// `BPF_PERF_EVENT`, among the places to attach to.
const PERF_EVENT: u32 = 41;
/// The kernel lends the helpers that read its memory to those who share its license, and takes no other answer.
const LICENSE: &CStr = c"Dual MIT/GPL";
/// How much of the verifier's log is taken.
const LOG: usize = 64 << 10;

/// How the kernel runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At a tracepoint itself: `BPF_PROG_TYPE_RAW_TRACEPOINT`.
    RawTracepoint = 17,
    /// At the perf event of a tracepoint: `BPF_PROG_TYPE_TRACEPOINT`.
    PerfEvent = 5,
}

/// An instruction as the kernel takes it: `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Source register << 4 | destination register.
    pub registers: u8,
    /// Offset of memory, or of a jump.
    pub offset: i16,
    /// The number in the instruction.
    pub immediate: i32,
}

#[derive(Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    program: u32,
    reserved: u32,
}

#[derive(Default)]
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Info {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct perf_event_attr`: PERF_ATTR_SIZE_VER0.
#[repr(C)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// The beginning of `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MapInfo {
    kind: u32,
    /// The kernel's number for it.
    pub id: u32,
    key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Number of values.
    pub max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

impl MapInfo {
    /// Whether it is a map that [`create_array`] made by this name.
    pub fn is_array_named(&self, name: &CStr) -> bool {
        self.kind == ARRAY && self.flags & MAPPABLE != 0 && self.name == short_name(name)
    }
}

/// The beginning of `struct bpf_link_info`.
#[derive(Default)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    tracepoint: u64,
    tracepoint_length: u32,
    reserved_too: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[derive(Default)]
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
    device: [u32; 2],
    namespace: [u64; 2],
    jited_counts: [u32; 2],
    jited: [u64; 2],
    types: [u32; 2],
    functions: u64,
    counts: [u32; 2],
    lines: [u64; 2],
    sizes: [u32; 4],
    tags: u64,
    run_time: u64,
    run_count: u64,
    /// Runs left out because the processor was in the middle of one; kernels before 5.12 know of none and leave it 0.
    recursion_misses: u64,
}

/// The program behind a link.
pub struct Program {
    /// The maps that it uses.
    pub maps: Vec<u32>,
    /// How often it was to run on a processor that was in the middle of it already, and did not.
    pub missed: u64,
}

/// An array of `count` values of `size` bytes that can be mapped into memory.
pub fn create_array(name: &CStr, count: u32, size: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        kind: ARRAY,
        key_size: 4,
        value_size: size,
        max_entries: count,
        flags: MAPPABLE,
        name: short_name(name),
        ..MapCreate::default()
    };
    descriptor(bpf(Command::MapCreate, &attributes)?)
}

/// Has the kernel verify and load a program.
///
/// # Errors
/// The kernel's, with the end of its verifier's log if there is one.
pub fn load(kind: Kind, name: &CStr, program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramLoad {
        kind: kind as u32,
        count: u32::try_from(program.len()).unwrap_or(0),
        instructions: address(program.as_ptr()),
        license: address(LICENSE.as_ptr()),
        name: short_name(name),
        ..ProgramLoad::default()
    };
    let refusal = match bpf(Command::ProgramLoad, &attributes) {
        Ok(loaded) => return descriptor(loaded),
        Err(refusal) => refusal,
    };
    let mut log = vec![0_u8; LOG];
    attributes.log_level = 1;
    attributes.log_size = u32::try_from(log.len()).unwrap_or(0);
    attributes.log = address(log.as_mut_ptr());
    match bpf(Command::ProgramLoad, &attributes) {
        Ok(loaded) => descriptor(loaded),
        Err(_) => {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let text = String::from_utf8_lossy(log.get(..end).unwrap_or_default());
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join(" | ");
            let said = if last.is_empty() { String::new() } else { format!("; the verifier said: {last}") };
            Err(io::Error::new(refusal.kind(), format!("{refusal}{said}")))
        }
    }
}

/// Has `program` run at the raw tracepoint `name` for as long as the link is open or pinned.
pub fn attach(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes =
        RawTracepointOpen { name: address(name.as_ptr()), program: number(program), ..RawTracepointOpen::default() };
    descriptor(bpf(Command::RawTracepointOpen, &attributes)?)
}

/// Has `program` run at a perf event for as long as the link is open or pinned; since 5.15.
pub fn attach_to_event(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: number(program),
        target: number(event),
        attach_type: PERF_EVENT,
        ..LinkCreate::default()
    };
    descriptor(bpf(Command::LinkCreate, &attributes)?)
}

/// The perf event of the tracepoint with that number: a program at it is run on every processor, whatever the event's own.
pub fn perf_event(tracepoint: u64) -> io::Result<OwnedFd> {
    let attributes =
        PerfEvent { kind: PERF_TRACEPOINT, size: size_of::<PerfEvent>() as u32, config: tracepoint, rest: [0; 6] };
    // SAFETY: the structure is the first published form of what the kernel reads, with its size in it; the rest are numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, PERF_CLOSE_ON_EXEC) };
    descriptor(answer(result)?)
}

/// Gives an object a name in a mounted bpffs, under which it outlives us.
pub fn pin(path: &CStr, object: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Object { path: address(path.as_ptr()), descriptor: number(object), flags: 0 };
    bpf(Command::ObjectPin, &attributes).map(|_| ())
}

/// Opens what was pinned.
pub fn get(path: &CStr) -> io::Result<OwnedFd> {
    let attributes = Object { path: address(path.as_ptr()), ..Object::default() };
    descriptor(bpf(Command::ObjectGet, &attributes)?)
}

/// What the kernel says of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    read_info(map, &mut info)?;
    Ok(info)
}

/// The program behind a link to the raw tracepoint `name`, or to a perf event, which before 6.6 does not tell of what.
///
/// # Errors
/// Also if it is a link to something else.
pub fn program_of_link(name: &CStr, link: BorrowedFd<'_>) -> io::Result<Program> {
    // Where the name is to be written depends on the kind.
    let mut info = LinkInfo::default();
    read_info(link, &mut info)?;
    let is_it = match info.kind {
        RAW_TRACEPOINT_LINK => {
            let mut tracepoint = [0_u8; 64];
            let length = u32::try_from(tracepoint.len()).unwrap_or(0);
            let (tracepoint_length, room) = (length, address(tracepoint.as_mut_ptr()));
            info = LinkInfo { tracepoint: room, tracepoint_length, ..LinkInfo::default() };
            read_info(link, &mut info)?;
            tracepoint.starts_with(name.to_bytes_with_nul())
        }
        kind => kind == PERF_EVENT_LINK,
    };
    if !is_it {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "is no link to that tracepoint"));
    }
    let program = descriptor(bpf(Command::ProgramById, &ById { id: info.program, ..ById::default() })?)?;
    let mut maps = [0_u32; 8];
    let mut info = ProgramInfo {
        map_count: u32::try_from(maps.len()).unwrap_or(0),
        maps: address(maps.as_mut_ptr()),
        ..ProgramInfo::default()
    };
    read_info(std::os::fd::AsFd::as_fd(&program), &mut info)?;
    let maps = maps.into_iter().take(usize::try_from(info.map_count).unwrap_or(0)).collect();
    Ok(Program { maps, missed: info.recursion_misses })
}

fn read_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let attributes = Info {
        descriptor: number(object),
        length: u32::try_from(size_of::<T>()).unwrap_or(0),
        info: address(std::ptr::from_mut(info)),
    };
    bpf(Command::ObjectInfo, &attributes).map(|_| ())
}

fn bpf<T>(command: Command, attributes: &T) -> io::Result<i32> {
    // SAFETY: the structures above are what the kernel reads for these commands, or a beginning of it (the rest counts
    // as zero); every address in them leads to memory of the length given beside it (or to a C string), which the
    // caller holds for the time of the call. No command keeps an address.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, attributes, size_of::<T>()) };
    answer(result)
}

/// What a system call gave.
fn answer(result: libc::c_long) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

fn descriptor(raw: i32) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just opened it for us; nobody else knows it. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// A name as the kernel keeps it: 15 bytes at most.
fn short_name(name: &CStr) -> [u8; 16] {
    let mut short = [0; 16];
    short.iter_mut().zip(name.to_bytes().iter().take(15)).for_each(|(to, from)| *to = *from);
    short
}
