//! The recorder's program: what the kernel runs, in the task that asks, at the tracepoint `module_request`.
//!
//! The tracepoint (include/trace/events/module.h) is passed in `__request_module` after the task has got one of the 50
//! slots and before the helper is started, so that what is written here is there when the helper looks. Its arguments
//! are the name, whether the task waits, and the address it was called from.
//!
//! The kernel never begins a program anew on a processor where another task is in the middle of it: that run is left out
//! (`prog->active`, `__bpf_trace_run`). Where tracepoints can be preempted, as on 7.2, a task that has to make way there
//! keeps all others of its processor from the program until it gets its turn again, and on a busy machine that is long.
//! So there are two of it at the tracepoint, each with rows of its own. The second is run as perf events are, with
//! preemption switched off (`perf_trace_module_request`, include/trace/perf.h), so no other task comes between; it is left
//! out only while its processor is in a bpf(2) that changes a map (`bpf_prog_active`), and then the first has it. Where the
//! kernel can't give such a program a name (before 5.15) it is one as the first; none of those kernels preempts tracepoints.
//!
//! In C it would read:
//!
//! ```c
//! struct row *row = bpf_map_lookup_elem(&requests, &(processor + first_row));
//! struct entry *entry = &row->entries[row->count & (ENTRIES - 1)];
//! entry->sequence = 0;
//! entry->time = bpf_ktime_get_boot_ns();
//! entry->task = bpf_get_current_pid_tgid();
//! entry->call_site = context->caller;
//! entry->user = bpf_get_current_uid_gid();
//! entry->waited = context->waits & 1;
//! bpf_get_current_comm(entry->comm, 16);
//! bpf_probe_read_kernel_str(entry->name, 56, name);
//! row->count += 1;
//! entry->sequence = row->count * 2;
//! return 0;
//! ```
#![forbid(unsafe_code)]

use super::bpf::{Instruction, Kind};
use super::ring::{STRIDE, word};

/// Bytes of a row's head and of an entry, as a shift.
const STRIDE_SHIFT: i32 = 7;
/// Room for a task's name and for a name asked for, bytes, the NUL included.
const COMM: i32 = 16;
const NAME: i32 = 56;

/// Registers. The first five carry a call's arguments and are lost in it, `R0` its result; `R6` to `R9` are kept;
/// `FRAME` is the end of 512 bytes of stack.
#[derive(Clone, Copy)]
enum Register {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    Frame = 10,
}
use Register::{Frame, R0, R1, R2, R3, R6, R7, R8, R9};

/// Functions of the kernel's that the program calls (`__BPF_FUNC_MAPPER`, include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
enum Function {
    MapLookupElement = 1,
    ProcessorId = 8,
    CurrentPidTgid = 14,
    CurrentUidGid = 15,
    CurrentComm = 16,
    ProbeReadKernelString = 115,
    BootTime = 125,
}

/// The fields of a perf event `module_request` as the kernel describes them (`events/module/module_request/format` of a
/// tracefs): where [`program`] expects them. The upper half of the last is a length, the lower one says where the name
/// begins.
pub const FIELDS: [&str; 3] = [
    "field:unsigned long ip;\toffset:8;\tsize:8;",
    "field:bool wait;\toffset:16;\tsize:1;",
    "field:__data_loc char[] name;\toffset:20;\tsize:4;",
];

/// The program for a map that is open as `map`, with rows of `entries` entries, a power of two, of which those from
/// `first_row` on are this program's.
pub fn program(kind: Kind, map: i32, entries: i32, first_row: i32) -> Vec<Instruction> {
    let of_entry = |word: usize| i16::try_from(word * 8).unwrap_or(0);
    let bytes = |words: usize| i32::try_from(words * 8).unwrap_or(0);
    // R6: the context. What the tracepoint tells stands there as three arguments, or as the fields of an event.
    let (caller, waits, name) = match kind {
        Kind::RawTracepoint => (load(R1, R6, 16), load(R1, R6, 8), vec![load(R3, R6, 0)]),
        Kind::PerfEvent => {
            let name = vec![load_half(R3, R6, 20), and(R3, 0xffff), add_register(R3, R6)];
            (load(R1, R6, 8), load_byte(R1, R6, 16), name)
        }
    };
    // R7: the row; R8: how many were written there before; R9: the entry after them.
    let write = [
        vec![
            copy(R7, R0),
            load(R8, R7, 0),
            copy(R9, R8),
            and(R9, entries - 1),
            shift_left(R9, STRIDE_SHIFT),
            add_register(R9, R7),
            add(R9, bytes(STRIDE)),
            // Not whole from here on.
            store_zero(R9, of_entry(word::SEQUENCE)),
            call(Function::BootTime),
            store(R9, of_entry(word::TIME), R0),
            call(Function::CurrentPidTgid),
            store(R9, of_entry(word::TASK), R0),
            caller,
            store(R9, of_entry(word::CALL_SITE), R1),
            call(Function::CurrentUidGid),
            store(R9, of_entry(word::USER), R0),
            waits,
            and(R1, 1),
            store(R9, of_entry(word::WAITED), R1),
            copy(R1, R9),
            add(R1, bytes(word::COMM)),
            set(R2, COMM),
            call(Function::CurrentComm),
            // What can't be read leaves an empty name, which nobody looks for.
            copy(R1, R9),
            add(R1, bytes(word::NAME)),
            set(R2, NAME),
        ],
        name,
        vec![
            call(Function::ProbeReadKernelString),
            // Whole again, and counted.
            add(R8, 1),
            store(R7, 0, R8),
            shift_left(R8, 1),
            store(R9, of_entry(word::SEQUENCE), R8),
        ],
    ]
    .concat();
    let row = vec![
        copy(R6, R1),
        // The row of this processor: a key on the stack, and the map by its descriptor (two places long).
        call(Function::ProcessorId),
        add(R0, first_row),
        store_half(Frame, -4, R0),
        map_address(R1, map),
        Instruction { code: 0, registers: 0, offset: 0, immediate: 0 },
        copy(R2, Frame),
        add(R2, -4),
        call(Function::MapLookupElement),
        // The kernel wants it asked, though every processor has a row.
        jump_if_zero(R0, i16::try_from(write.len()).unwrap_or(0)),
    ];
    let exit = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
    [row, write, vec![set(R0, 0), exit]].concat()
}

const fn instruction(code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: (from as u8) << 4 | to as u8, offset, immediate }
}

/// `to = from`: BPF_ALU64 | BPF_MOV | BPF_X.
const fn copy(to: Register, from: Register) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

/// `to = number`: BPF_ALU64 | BPF_MOV | BPF_K.
const fn set(to: Register, number: i32) -> Instruction {
    instruction(0xb7, to, R0, 0, number)
}

/// `to += number`: BPF_ALU64 | BPF_ADD | BPF_K.
const fn add(to: Register, number: i32) -> Instruction {
    instruction(0x07, to, R0, 0, number)
}

/// `to += from`: BPF_ALU64 | BPF_ADD | BPF_X.
const fn add_register(to: Register, from: Register) -> Instruction {
    instruction(0x0f, to, from, 0, 0)
}

/// `to &= number`: BPF_ALU64 | BPF_AND | BPF_K.
const fn and(to: Register, number: i32) -> Instruction {
    instruction(0x57, to, R0, 0, number)
}

/// `to <<= number`: BPF_ALU64 | BPF_LSH | BPF_K.
const fn shift_left(to: Register, number: i32) -> Instruction {
    instruction(0x67, to, R0, 0, number)
}

/// `to = *(u64 *)(from + offset)`: BPF_LDX | BPF_MEM | BPF_DW.
const fn load(to: Register, from: Register, offset: i16) -> Instruction {
    instruction(0x79, to, from, offset, 0)
}

/// `to = *(u32 *)(from + offset)`: BPF_LDX | BPF_MEM | BPF_W.
const fn load_half(to: Register, from: Register, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
}

/// `to = *(u8 *)(from + offset)`: BPF_LDX | BPF_MEM | BPF_B.
const fn load_byte(to: Register, from: Register, offset: i16) -> Instruction {
    instruction(0x71, to, from, offset, 0)
}

/// `*(u64 *)(to + offset) = from`: BPF_STX | BPF_MEM | BPF_DW.
const fn store(to: Register, offset: i16, from: Register) -> Instruction {
    instruction(0x7b, to, from, offset, 0)
}

/// `*(u32 *)(to + offset) = from`: BPF_STX | BPF_MEM | BPF_W.
const fn store_half(to: Register, offset: i16, from: Register) -> Instruction {
    instruction(0x63, to, from, offset, 0)
}

/// `*(u64 *)(to + offset) = 0`: BPF_ST | BPF_MEM | BPF_DW.
const fn store_zero(to: Register, offset: i16) -> Instruction {
    instruction(0x7a, to, R0, offset, 0)
}

/// Goes on `by` instructions further if `register` is 0: BPF_JMP | BPF_JEQ | BPF_K.
const fn jump_if_zero(register: Register, by: i16) -> Instruction {
    instruction(0x15, register, R0, by, 0)
}

/// BPF_JMP | BPF_CALL.
const fn call(function: Function) -> Instruction {
    instruction(0x85, R0, R0, 0, function as i32)
}

/// The address of the map that is open as `map` (BPF_LD | BPF_IMM | BPF_DW with BPF_PSEUDO_MAP_FD); the next place
/// holds the other half of a 64-bit number.
const fn map_address(to: Register, map: i32) -> Instruction {
    Instruction { code: 0x18, registers: 1 << 4 | to as u8, offset: 0, immediate: map }
}
