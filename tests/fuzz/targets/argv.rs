//! A command line means what it means to modprobe(8): getopt_long(3) itself is asked.
//!
//! Input: who started us and where options may stand, one byte; then the arguments, each ended by NUL.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::Mutex;

use modprobe_guard::invocation::{self, Invocation, Load, Order, ParentKind};
use modprobe_guard::model::Caller;

/// `struct option` of getopt.h.
#[repr(C)]
struct LongOption {
    name: *const c_char,
    takes_value: c_int,
    flag: *mut c_int,
    value: c_int,
}

unsafe extern "C" {
    static mut optind: c_int;
    static mut opterr: c_int;
    fn getopt_long(
        argc: c_int,
        argv: *const *mut c_char,
        short: *const c_char,
        long: *const LongOption,
        index: *mut c_int,
    ) -> c_int;
}

/// modprobe(8), kmod 29 to 34: name, whether it takes a value, what getopt_long answers.
const LONG: [(&str, bool, u8); 29] = [
    ("all", false, b'a'),
    ("remove", false, b'r'),
    ("remove-dependencies", false, 5),
    ("remove-holders", false, 5),
    ("wait", true, b'w'),
    ("resolve-alias", false, b'R'),
    ("first-time", false, 3),
    ("ignore-install", false, b'i'),
    ("ignore-remove", false, b'i'),
    ("use-blacklist", false, b'b'),
    ("force", false, b'f'),
    ("force-modversion", false, 2),
    ("force-vermagic", false, 1),
    ("show-depends", false, b'D'),
    ("showconfig", false, b'c'),
    ("show-config", false, b'c'),
    ("show-modversions", false, 4),
    ("dump-modversions", false, 4),
    ("show-exports", false, 6),
    ("dry-run", false, b'n'),
    ("show", false, b'n'),
    ("config", true, b'C'),
    ("dirname", true, b'd'),
    ("set-version", true, b'S'),
    ("syslog", false, b's'),
    ("quiet", false, b'q'),
    ("verbose", false, b'v'),
    ("version", false, b'V'),
    ("help", false, b'h'),
];

/// What modprobe would do.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// It says that it does not understand.
    Refused,
    Nothing,
    Load {
        names: Vec<Vec<u8>>,
        quiet: bool,
    },
}

/// getopt_long keeps where it is in variables of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn modprobe(argv: &[&[u8]], order: Order) -> Meant {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let names = LONG.map(|(name, ..)| CString::new(name).unwrap());
    let option = |name, takes_value, value| LongOption { name, takes_value, flag: ptr::null_mut(), value };
    let mut options: Vec<LongOption> =
        names.iter().zip(LONG).map(|(name, (_, value, c))| option(name.as_ptr(), value.into(), c.into())).collect();
    options.push(option(ptr::null(), 0, 0));
    let short = if order == Order::First { c"+arw:RibfDcnC:d:S:sqvVh" } else { c"arw:RibfDcnC:d:S:sqvVh" };
    let words: Vec<CString> = argv.iter().map(|word| CString::new(*word).unwrap()).collect();
    let mut pointers: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    pointers.push(ptr::null_mut());
    let argc = c_int::try_from(argv.len()).unwrap();
    let (mut quiet, mut all, mut loads) = (false, false, true);
    // SAFETY: every list ends as getopt_long wants it, all live until after the last call, and no other thread calls it.
    // It changes the order of the pointers and none of the words.
    let (refused, first) = unsafe {
        optind = 0;
        opterr = 0;
        loop {
            match u8::try_from(getopt_long(argc, pointers.as_ptr(), short.as_ptr(), options.as_ptr(), ptr::null_mut()))
            {
                Err(_) => break (false, optind),
                Ok(b'?') => break (true, 0),
                Ok(b'a') => all = true,
                Ok(b'q') => quiet = true,
                Ok(b'r' | b'R' | b'D' | b'c' | b'n' | b'V' | b'h' | 4 | 6) => loads = false,
                Ok(_) => {}
            }
        }
    };
    if refused {
        return Meant::Refused;
    }
    let rest = pointers.get(usize::try_from(first).unwrap()..argv.len()).unwrap_or_default();
    let place = |pointer: &*mut c_char| words.iter().position(|word| word.as_ptr() == *pointer).unwrap();
    let names: Vec<Vec<u8>> = rest.iter().map(|pointer| argv[place(pointer)].to_vec()).collect();
    let count = if all { names.len() } else { names.len().min(1) };
    match loads && count > 0 {
        true => Meant::Load { names: names[..count].to_vec(), quiet },
        false => Meant::Nothing,
    }
}

pub fn check(mut data: &[u8]) {
    let how = super::byte(&mut data);
    let parent = [ParentKind::KernelThread, ParentKind::Program, ParentKind::Unknown][usize::from(how % 3)];
    let order = if how & 0x40 == 0 { Order::Any } else { Order::First };
    let mut argv = Vec::new();
    while !data.is_empty() {
        argv.push(super::until_nul(&mut data));
    }

    let invocation = invocation::parse_as_getopt(&argv, parent, order);
    if let Invocation::Load(Load { names, .. }) = &invocation {
        assert!(!names.is_empty() && names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(names.iter().all(|&at| 0 < at && at < argv.len()), "{names:?} of {}", argv.len());
    }
    match &invocation {
        // Whatever stands there is a name, and the only one.
        Invocation::Load(Load { caller: Caller::Kernel, names, quiet }) => {
            assert!(parent != ParentKind::Program && argv.len() == 4 && names == &[3] && *quiet);
        }
        Invocation::Load(Load { caller: Caller::Hook, names, .. }) => assert!(argv[1] == b"--hook" && names == &[2]),
        // `NAME -q`, whose option counts wherever options may stand.
        Invocation::Load(Load { caller: Caller::Xtables, names, .. }) => {
            assert!(names == &[1]);
            compare(&argv, Order::Any, &invocation);
        }
        _ => compare(&argv, order, &invocation),
    }
    if parent != ParentKind::Program && matches!(argv.as_slice(), [_, b"-q", b"--", _]) {
        assert!(matches!(&invocation, Invocation::Load(load) if load.caller == Caller::Kernel && load.names == [3]));
    }

    // Words of the environment come before the arguments, and nothing is lost of either.
    let (options, arguments) = argv.split_first().map_or((&[][..], &[][..]), |(first, rest)| (*first, rest));
    let words = invocation::with_options(arguments, options);
    let (program, rest) = arguments.split_at(arguments.len().min(1));
    assert!(
        words.iter().zip(program).all(|(word, program)| word == program)
            && words.ends_with(&rest.iter().map(|word| word.to_vec()).collect::<Vec<_>>())
    );
    if !options.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        let mut expected: Vec<&[u8]> = options.split(|&byte| byte == b' ').collect();
        let _ = expected.pop_if(|last| last.is_empty());
        assert!(words[program.len()..words.len() - rest.len()].iter().eq(expected));
    }
}

/// What modprobe would load is what we judge. What it refuses we may judge as well: it refuses then.
fn compare(argv: &[&[u8]], order: Order, invocation: &Invocation) {
    // getopt(3) takes the first argument for the program's name, and needs one.
    if argv.is_empty() {
        return assert_eq!(*invocation, Invocation::PassOn);
    }
    match modprobe(argv, order) {
        Meant::Refused => {}
        Meant::Nothing => assert_eq!(*invocation, Invocation::PassOn, "{}", shown(argv)),
        Meant::Load { names, quiet } => {
            let Invocation::Load(load) = invocation else { panic!("{}: {names:?} would be loaded", shown(argv)) };
            let ours: Vec<Vec<u8>> = load.names.iter().map(|&at| argv[at].to_vec()).collect();
            assert_eq!((ours, load.quiet), (names, quiet), "{}", shown(argv));
        }
    }
}

fn shown(argv: &[&[u8]]) -> String {
    argv.iter().map(|word| format!("\"{}\" ", word.escape_ascii())).collect()
}
