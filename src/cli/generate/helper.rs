//! modprobe-guard(8): how it is called and by whom, out of the callers that its parser tells apart.

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::facts::facts;
use super::roff::{filled, words};
use crate::model::Caller;
use crate::policy::requester::CALLERS;

/// All else.
pub const PAGE: &str = include_str!("../../../install/man/modprobe-guard.8.in");

/// A line that runs it, and who writes such lines. Capitals stand for what somebody puts there, brackets for what may be
/// left out.
fn form(caller: Caller) -> (&'static str, &'static str) {
    match caller {
        Caller::Kernel => ("-q -- NAME", "the kernel, if a kernel thread is the parent"),
        Caller::Xtables => ("NAME [-q]", "libxtables, which iptables(8) of the legacy kind uses"),
        Caller::Modprobe => (
            "ARGUMENTS OF MODPROBE",
            "whoever uses it in the place of modprobe(8), all of whose options are understood",
        ),
        Caller::Hook => (
            "--hook NAME [OPTIONS]",
            "an `install` line of modprobe.d(5), as `guard enable` writes them; passed on with `--ignore-install`",
        ),
    }
}

/// The page.
pub fn page() -> String {
    let forms = || CALLERS.into_iter().map(|(_, caller)| form(caller));
    let calls: Vec<String> = forms().map(|(call, _)| line(&format!("modprobe-guard {call}"))).collect();
    let callers: String = forms().map(|(call, about)| format!(".TP\n{}{}", line(call), words(about))).collect();
    let mut texts = facts();
    texts.extend([("calls", calls.join(".br\n")), ("callers", callers)]);
    filled(PAGE, &texts)
}

/// A line as it is to be written in bold, what stands for something else in italics.
fn line(form: &str) -> String {
    let mut inlines = Vec::new();
    let mut signs = form;
    while let Some(first) = signs.chars().next() {
        let is_placeholder = |sign: char| sign.is_ascii_uppercase();
        let is_bracket = |sign: char| matches!(sign, '[' | ']' | ' ');
        let kind = |sign: char| (is_placeholder(sign), is_bracket(sign));
        let end = signs.find(|sign| kind(sign) != kind(first)).unwrap_or(signs.len());
        let (run, rest) = signs.split_at_checked(end).unwrap_or((signs, ""));
        inlines.push(match kind(first) {
            (true, _) => italic(run),
            (_, true) => roman(run),
            _ => bold(run),
        });
        signs = rest;
    }
    Roff::new().text(inlines).to_roff()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::{Invocation, ParentKind, parse};

    #[test]
    fn every_caller_calls_as_the_page_says() {
        for (_, caller) in CALLERS {
            let parent = if caller == Caller::Kernel { ParentKind::KernelThread } else { ParentKind::Program };
            let (line, _) = form(caller);
            let least = line.split(" [").next().unwrap();
            for line in [&line.replace(['[', ']'], ""), least] {
                let line = line.replace("OPTIONS", "a=1").replace("ARGUMENTS OF MODPROBE", "-v nf_nat a=1");
                let argv = format!("/usr/sbin/modprobe-guard {line}");
                let argv: Vec<&[u8]> = argv.split(' ').map(str::as_bytes).collect();
                let Invocation::Load(load) = parse(&argv, parent) else { panic!("{line}") };
                assert_eq!(load.caller, caller, "{line}");
            }
        }
    }

    #[test]
    fn the_page_tells_what_loads_nothing_and_which_signals_count() {
        let page = page();
        for told in ["\\-r", "\\-\\-show\\-depends", "\\-\\-version", "SIGSEGV", "SIGTERM", "after 2 seconds"] {
            assert!(page.contains(told), "{told}:\n{page}");
        }
    }
}
