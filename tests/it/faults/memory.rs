//! Memory that can't be had: each allocation of a request fails once.
//!
//! For this the helper's own life is led by a child of the tests, whose allocator can be told to fail.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};

use super::stage::{self, HELPER, Stage};
use super::{Fault, Verdict, is_long};

/// So many allocations of each verdict fail, the long form apart.
const MOMENTS: usize = 150;

/// The system's, which fails where it is told to.
struct Failing;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// The process whose allocations are counted, and which fails.
static PROCESS: AtomicI32 = AtomicI32::new(0);
static FAILS_AT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Where they are counted: a page that the child shares with us.
static COUNT: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());

// SAFETY: the system's, or none.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let process = PROCESS.load(SeqCst);
        // SAFETY: getpid has no preconditions; the page stays, once it is there; all else is the system's own.
        unsafe {
            if process != 0 && process == libc::getpid() {
                let count = COUNT.load(SeqCst).as_ref().map_or(0, |count| count.fetch_add(1, SeqCst) + 1);
                if count == FAILS_AT.load(SeqCst) {
                    return ptr::null_mut();
                }
            }
            System.alloc(layout)
        }
    }

    unsafe fn dealloc(&self, allocated: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(allocated, layout) }
    }
}

pub fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for verdict in Verdict::ALL {
        let allocations = allocations_of(verdict);
        let step = if is_long() { 1 } else { allocations.div_ceil(MOMENTS) };
        for at in (1..=allocations).step_by(step) {
            let fault = Fault::new(format!("allocation {at} fails"), move |stage| {
                lives_here(stage, at, ptr::null_mut());
                stage.look = Some(Box::new(|stage, ran| stage.as_it_says(ran, true)));
            });
            faults.push(fault.only(verdict));
        }
    }
    faults
}

/// How often a whole request allocates.
fn allocations_of(verdict: Verdict) -> usize {
    let counted = std::thread::spawn(move || {
        stage::own_mounts();
        let mut stage = Stage::new(verdict);
        let length = size_of::<AtomicUsize>();
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new page, zeroed, that nobody ever takes away.
        let page = unsafe { libc::mmap(ptr::null_mut(), length, rights, flags, -1, 0) }.cast::<AtomicUsize>();
        lives_here(&mut stage, usize::MAX, page);
        let ran = stage.ask();
        stage.as_expected(&ran).unwrap();
        // SAFETY: as above.
        unsafe { &*page }.load(SeqCst)
    });
    let allocations = counted.join().unwrap();
    assert!(allocations > 50, "{allocations}");
    allocations
}

/// The child is the helper without becoming another program.
fn lives_here(stage: &mut Stage, fails_at: usize, count: *mut AtomicUsize) {
    let words = [HELPER, "-q", "--", stage.verdict.name()].map(|word| CString::new(word).unwrap());
    let count = AtomicPtr::new(count);
    stage.prepare = Some(Box::new(move || {
        let mut here = AtomicUsize::new(0);
        let given = count.load(SeqCst);
        COUNT.store(if given.is_null() { &mut here } else { given }, SeqCst);
        FAILS_AT.store(fails_at, SeqCst);
        let argv = [0, 1, 2, 3].map(|at| words[at].as_ptr());
        let argv = [argv[0], argv[1], argv[2], argv[3], ptr::null()];
        // SAFETY: a vector of strings that live as long as this process, which ends here.
        unsafe {
            PROCESS.store(libc::getpid(), SeqCst);
            libc::_exit(modprobe_guard::shim::main(4, argv.as_ptr()))
        }
    }));
}
