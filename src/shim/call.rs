//! What we were run with: arguments and environment, and becoming the real modprobe where that is all that is asked for.

use std::ffi::{CStr, CString, c_char, c_int};

use super::lifeboat;
use crate::delegate::{self, INSTALLING, VARIABLE, is_native};
use crate::host::Host;
use crate::invocation::{self, Invocation, Order, ParentKind};

/// Options that modprobe(8) takes from the environment.
pub const OPTIONS: &str = "MODPROBE_OPTIONS";

unsafe extern "C" {
    /// environ(7).
    static environ: *const *const c_char;
}

/// What we were run with, for as long as the process lives.
pub struct Call {
    /// Arguments, the program's own name included; in modprobe's place with those of the environment.
    pub arguments: Vec<&'static CStr>,
    /// In modprobe's place, what its delegate is to find in its environment; else empty.
    pub environment: Vec<&'static CStr>,
    /// The marker of one of ours, which may be forged.
    pub marker: Option<&'static [u8]>,
    /// Where the real modprobe would take options.
    pub order: Order,
    /// The module whose `install` line runs us, if we were run in modprobe's place.
    pub installing: Option<&'static [u8]>,
}

impl Call {
    /// How this process was run.
    ///
    /// # Safety
    /// `argv` is the process's own argument vector: `argc` pointers to C strings that nobody frees. Nothing has changed the
    /// environment, or ever does.
    pub unsafe fn new(argc: c_int, argv: *const *const c_char) -> Call {
        // SAFETY: as above; argv ends with a null.
        let (arguments, environment) = unsafe { (strings(argv, usize::try_from(argc).ok()), strings(environ, None)) };
        let value = |name: &str| environment.iter().find_map(|entry| value_of(entry, name));
        let marker = value(VARIABLE);
        let plain = Call { arguments, environment: Vec::new(), marker, installing: None, order: Order::Any };
        if !invocation::stands_in(&plain.bytes()) {
            return plain;
        }
        let words = value(OPTIONS).map(|options| invocation::with_options(&plain.bytes(), options));
        let kept = |word: Vec<u8>| CString::new(word).ok().map(|word| &*Box::leak(word.into_boxed_c_str()));
        let goes_on = |entry: &&'static CStr| [OPTIONS, VARIABLE].iter().all(|name| value_of(entry, name).is_none());
        let arguments = match words {
            Some(words) => words.into_iter().filter_map(kept).collect(),
            None => plain.arguments,
        };
        let installing = value(INSTALLING);
        let order = if value("POSIXLY_CORRECT").is_some() { Order::First } else { Order::Any };
        Call {
            arguments,
            installing,
            marker,
            order,
            environment: environment.iter().copied().filter(goes_on).collect(),
        }
    }

    /// The arguments as bytes.
    pub fn bytes(&self) -> Vec<&'static [u8]> {
        self.arguments.iter().map(|argument| argument.to_bytes()).collect()
    }

    /// For one in modprobe's place: becomes the real one where there is nothing to decide: a line that loads nothing, or a guard that
    /// is not armed. So early that nothing of the process has changed: what it does then is what it would have done.
    /// Returns if there is something to decide, or no real modprobe.
    ///
    /// # Safety
    /// As for [`Call::new`].
    pub unsafe fn step_aside(&self, argv: *const *const c_char) {
        let line = self.bytes();
        let loads = invocation::parse_as_getopt(&line, ParentKind::Program, self.order) != Invocation::PassOn;
        if loads && Host::this().decides_in_place() {
            return;
        }
        let Some(ours) = lifeboat::own_identity() else { return };
        // Never a name that leads to us: under a merged /usr both of modprobe's do. An initramfs has kmod alone.
        for path in lifeboat::KNOWN_PATHS {
            if lifeboat::identity(path).is_some_and(|found| found != ours) && is_native(path) {
                // SAFETY: argv and environ are those of this process. Returns only if it failed.
                unsafe { libc::execve(path.as_ptr(), argv, environ) };
            }
        }
    }

    /// The processes among which one of ours is looked for that decided already, the nearest first.
    pub fn ancestors(&self, host: &Host, nearest: [i32; 2]) -> Vec<i32> {
        // A shell may run an `install` line's modprobe as its child.
        if self.installing.is_some() { delegate::parents(host, nearest[0]) } else { nearest.to_vec() }
    }
}

/// What an entry of the environment gives the variable `name`, if it is that one's.
fn value_of(entry: &'static CStr, name: &str) -> Option<&'static [u8]> {
    entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// The C strings of a vector that ends with a null, `limit` of them at most.
///
/// # Safety
/// It is such a vector, and neither it nor its strings are ever freed or changed.
unsafe fn strings(vector: *const *const c_char, limit: Option<usize>) -> Vec<&'static CStr> {
    let mut strings = Vec::new();
    // SAFETY: not past the null; each pointer before it leads to a C string.
    unsafe {
        while !vector.is_null() && limit.is_none_or(|limit| strings.len() < limit) {
            let string = *vector.add(strings.len());
            if string.is_null() {
                break;
            }
            strings.push(CStr::from_ptr(string));
        }
    }
    strings
}
