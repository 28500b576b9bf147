//! What a command line of the helper asks for. Pure: argv and what is known of the parent in, a meaning out.
#![forbid(unsafe_code)]

use crate::model::Caller;

/// What started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentKind {
    /// A kernel thread: the request is the kernel's.
    KernelThread,
    /// A program.
    Program,
    /// Without `/proc` nobody can tell.
    Unknown,
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Modules are to be loaded.
    Load(Load),
    /// Nothing would be loaded, or modprobe(8) will refuse it: the arguments are passed on as they came.
    PassOn,
}

/// A command line that loads modules.
#[derive(Debug, PartialEq, Eq)]
pub struct Load {
    /// How it reached us.
    pub caller: Caller,
    /// Where the names stand in argv: one, or with `-a` any number. Never empty.
    pub names: Vec<usize>,
    /// `-q`: a refusal is not to be written on stderr.
    pub quiet: bool,
}

/// Reads `argv`, the program's own name included.
///
/// A line shaped like the kernel's proves nothing by itself, since anybody may type it: only a kernel thread as parent
/// makes it the kernel's (`call_modprobe`, kernel/module/kmod.c). Where `/proc` does not tell, the shape has to do.
pub fn parse(argv: &[&[u8]], parent: ParentKind) -> Invocation {
    parse_as_getopt(argv, parent, Order::Any)
}

/// Where getopt(3) takes options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Anywhere.
    Any,
    /// Before the first name, as POSIXLY_CORRECT in the environment wants it.
    First,
}

/// The same for a modprobe(8) that takes its options there.
pub fn parse_as_getopt(argv: &[&[u8]], parent: ParentKind, order: Order) -> Invocation {
    let as_xtables = !argv.is_empty() && !stands_in(argv);
    match argv.get(1..).unwrap_or_default() {
        [b"-q", b"--", _] if parent != ParentKind::Program => load(Caller::Kernel, 3, true),
        [b"--hook", _, ..] if is_hook(argv) => load(Caller::Hook, 2, argv.iter().skip(3).any(|option| option == b"-q")),
        [name] if as_xtables && is_plain(name) => load(Caller::Xtables, 1, false),
        [name, b"-q"] if as_xtables && is_plain(name) => load(Caller::Xtables, 1, true),
        _ => modprobe_line(argv, order),
    }
}

/// Whether we were run as modprobe itself (`install.sh --divert`): then a line means what it means to modprobe(8).
pub fn stands_in(argv: &[&[u8]]) -> bool {
    argv.first().is_some_and(|program| is_modprobe(program))
}

/// Whether a program that is called so is modprobe.
pub fn is_modprobe(program: &[u8]) -> bool {
    program == b"modprobe" || program.ends_with(b"/modprobe")
}

/// Whether an `install` line of ours runs us.
pub fn is_hook(argv: &[&[u8]]) -> bool {
    argv.get(1).is_some_and(|argument| argument == b"--hook") && !stands_in(argv)
}

/// `argv` with the words of MODPROBE_OPTIONS (modprobe(8)) before the arguments, as modprobe puts them there: words end
/// at a blank, and at the quote that ends one; what is between quotes is one word, or the end of one.
pub fn with_options(argv: &[&[u8]], options: &[u8]) -> Vec<Vec<u8>> {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    let mut quote = None;
    for &byte in options {
        match quote {
            None if byte == b' ' => words.push(std::mem::take(&mut word)),
            None if matches!(byte, b'"' | b'\'') => quote = Some((byte, word.len())),
            None => word.push(byte),
            Some((end, _)) if byte == end => {
                words.push(std::mem::take(&mut word));
                quote = None;
            }
            Some(_) => word.push(byte),
        }
    }
    // A quote that nothing ends is part of the word.
    if let Some((byte, at)) = quote {
        word.insert(at, byte);
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    let (program, rest) = argv.split_at(argv.len().min(1));
    program.iter().map(|program| program.to_vec()).chain(words).chain(rest.iter().map(|word| word.to_vec())).collect()
}

/// Whether all that `argv` asks for is `module`, however it is spelt.
pub fn is_all_for(argv: &[&[u8]], load: &Load, module: &[u8]) -> bool {
    let same = |name: &[u8]| {
        let spelt = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
        name.iter().map(spelt).eq(module.iter().map(spelt))
    };
    load.names.iter().all(|&at| argv.get(at).is_some_and(|name| same(name)))
}

/// Whether `argv` asks quietly for one name and nothing else: `-q -- NAME` or `NAME -q`.
pub fn is_bare(argv: &[&[u8]]) -> bool {
    match argv {
        [_, b"-q", b"--", _] => true,
        [_, name, b"-q"] => is_plain(name),
        _ => false,
    }
}

fn load(caller: Caller, name: usize, quiet: bool) -> Invocation {
    Invocation::Load(Load { caller, names: vec![name], quiet })
}

fn is_plain(argument: &[u8]) -> bool {
    !argument.is_empty() && !argument.starts_with(b"-")
}

/// What an option of modprobe(8) means to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Neutral,
    /// The next argument, or the rest of this one, is its value.
    TakesValue,
    Quiet,
    All,
    /// With it no module is loaded.
    LoadsNothing,
}

/// modprobe(8)'s options, kmod 29 to 34: `arw:RibfDcnC:d:S:sqvVh` and their long names. A number that is no letter is
/// kmod's own for what has several long names and no letter; 0 is one of a kind.
const OPTIONS: &[(u8, &[u8], Meaning)] = &[
    (b'a', b"all", Meaning::All),
    (b'r', b"remove", Meaning::LoadsNothing),
    (5, b"remove-dependencies", Meaning::Neutral),
    (5, b"remove-holders", Meaning::Neutral),
    (b'w', b"wait", Meaning::TakesValue),
    (b'R', b"resolve-alias", Meaning::LoadsNothing),
    (0, b"first-time", Meaning::Neutral),
    (b'i', b"ignore-install", Meaning::Neutral),
    (b'i', b"ignore-remove", Meaning::Neutral),
    (b'b', b"use-blacklist", Meaning::Neutral),
    (b'f', b"force", Meaning::Neutral),
    (0, b"force-modversion", Meaning::Neutral),
    (0, b"force-vermagic", Meaning::Neutral),
    (b'D', b"show-depends", Meaning::LoadsNothing),
    (b'c', b"showconfig", Meaning::LoadsNothing),
    (b'c', b"show-config", Meaning::LoadsNothing),
    (0, b"show-modversions", Meaning::LoadsNothing),
    (0, b"dump-modversions", Meaning::LoadsNothing),
    (0, b"show-exports", Meaning::LoadsNothing),
    (b'n', b"dry-run", Meaning::LoadsNothing),
    (b'n', b"show", Meaning::LoadsNothing),
    (b'C', b"config", Meaning::TakesValue),
    (b'd', b"dirname", Meaning::TakesValue),
    (b'S', b"set-version", Meaning::TakesValue),
    (b's', b"syslog", Meaning::Neutral),
    (b'q', b"quiet", Meaning::Quiet),
    (b'v', b"verbose", Meaning::Neutral),
    (b'V', b"version", Meaning::LoadsNothing),
    (b'h', b"help", Meaning::LoadsNothing),
];

/// The options with which no module is loaded, each with its dashes; of a letter and its long names, the letter first.
pub fn load_nothing() -> impl Iterator<Item = String> {
    let mut before = 0;
    OPTIONS.iter().filter(|(_, _, meaning)| *meaning == Meaning::LoadsNothing).flat_map(move |(short, long, _)| {
        let is_new = short.is_ascii_alphabetic() && std::mem::replace(&mut before, *short) != *short;
        let letter = is_new.then(|| format!("-{}", char::from(*short)));
        letter.into_iter().chain([format!("--{}", String::from_utf8_lossy(long))])
    })
}

/// A long name as getopt_long(3) reads it: whole, or any beginning that fits only options of one meaning.
fn long_option(name: &[u8]) -> Option<Meaning> {
    if let Some((_, _, meaning)) = OPTIONS.iter().find(|(_, long, _)| *long == name) {
        return Some(*meaning);
    }
    let mut fitting =
        OPTIONS.iter().filter(|(_, long, _)| long.starts_with(name)).map(|(short, _, meaning)| (short, meaning));
    let (short, meaning) = fitting.next()?;
    // getopt_long calls it ambiguous unless all that fit are the same option.
    fitting.all(|(other, _)| *short != 0 && other == short).then_some(*meaning)
}

/// A line of modprobe(8): options may stand anywhere, `--` ends them, and without `-a` only the first name is one
/// (what follows it are module parameters).
fn modprobe_line(argv: &[&[u8]], order: Order) -> Invocation {
    let mut names = Vec::new();
    let (mut quiet, mut all) = (false, false);
    let mut arguments = argv.iter().enumerate().skip(1);
    while let Some((at, &argument)) = arguments.next() {
        if argument == b"--" {
            names.extend(arguments.by_ref().map(|(at, _)| at));
        } else if let Some(long) = argument.strip_prefix(b"--") {
            let name = long.split(|&byte| byte == b'=').next().unwrap_or(long);
            match long_option(name) {
                Some(Meaning::LoadsNothing) | None => return Invocation::PassOn,
                Some(Meaning::TakesValue) if name.len() == long.len() => drop(arguments.next()),
                Some(Meaning::Quiet) => quiet = true,
                Some(Meaning::All) => all = true,
                Some(Meaning::TakesValue | Meaning::Neutral) => {}
            }
        } else if argument.len() > 1 && argument.starts_with(b"-") {
            for (place, &letter) in argument.iter().enumerate().skip(1) {
                match OPTIONS
                    .iter()
                    .find(|(short, _, _)| *short == letter && letter.is_ascii_alphabetic())
                    .map(|option| option.2)
                {
                    Some(Meaning::LoadsNothing) | None => return Invocation::PassOn,
                    Some(Meaning::TakesValue) => {
                        if place + 1 == argument.len() {
                            arguments.next();
                        }
                        break;
                    }
                    Some(Meaning::Quiet) => quiet = true,
                    Some(Meaning::All) => all = true,
                    Some(Meaning::Neutral) => {}
                }
            }
        } else {
            names.push(at);
            if order == Order::First {
                names.extend(arguments.by_ref().map(|(at, _)| at));
            }
        }
    }
    if !all {
        names.truncate(1);
    }
    if names.is_empty() {
        return Invocation::PassOn;
    }
    Invocation::Load(Load { caller: Caller::Modprobe, names, quiet })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, parent: ParentKind) -> Invocation {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse(&argv, parent)
    }

    #[test]
    fn shapes_of_callers() {
        use ParentKind::*;
        let load = |caller, names: &[usize], quiet| Invocation::Load(Load { caller, names: names.to_vec(), quiet });
        for (line, parent, expected) in [
            ("/usr/sbin/modprobe-guard -q -- net-pf-38", KernelThread, load(Caller::Kernel, &[3], true)),
            ("/usr/sbin/modprobe-guard -q -- -r", KernelThread, load(Caller::Kernel, &[3], true)),
            ("/usr/sbin/modprobe-guard -q -- net-pf-38", Unknown, load(Caller::Kernel, &[3], true)),
            ("/usr/sbin/modprobe-guard -q -- net-pf-38", Program, load(Caller::Modprobe, &[3], true)),
            ("/usr/sbin/modprobe-guard ip_tables", Program, load(Caller::Xtables, &[1], false)),
            ("/usr/sbin/modprobe-guard ip_tables -q", Program, load(Caller::Xtables, &[1], true)),
            ("/sbin/modprobe ip_tables", Program, load(Caller::Modprobe, &[1], false)),
            ("modprobe-guard --hook nf_conntrack hashsize=1", Program, load(Caller::Hook, &[2], false)),
            ("modprobe -v -a a b --first-time c", Program, load(Caller::Modprobe, &[3, 4, 6], false)),
            ("modprobe a b=1 -q", Program, load(Caller::Modprobe, &[1], true)),
            ("modprobe -C /etc/x -d/ --set-version 6 --dirname=/ a", Program, load(Caller::Modprobe, &[7], false)),
            ("modprobe -qa -- -x -y", Program, load(Caller::Modprobe, &[3, 4], true)),
            ("modprobe --qui a", Program, load(Caller::Modprobe, &[2], true)),
            ("modprobe --remove- a", Program, load(Caller::Modprobe, &[2], false)),
        ] {
            assert_eq!(parsed(line, parent), expected, "{line}");
        }
    }

    #[test]
    fn where_options_come_first_what_follows_a_name_is_none() {
        let parsed = |line: &str| {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            parse_as_getopt(&argv, ParentKind::Program, Order::First)
        };
        let load =
            |names: &[usize], quiet| Invocation::Load(Load { caller: Caller::Modprobe, names: names.to_vec(), quiet });
        assert_eq!(parsed("modprobe a -r"), load(&[1], false));
        assert_eq!(parsed("modprobe -q -a a -r"), load(&[3, 4], true));
        assert_eq!(parsed("modprobe -r a"), Invocation::PassOn);
    }

    #[test]
    fn what_loads_nothing_is_passed_on() {
        for line in [
            "modprobe",
            "modprobe -r a",
            "modprobe -nv a",
            "modprobe -D a",
            "modprobe --show-dep a",
            "modprobe -c",
            "modprobe -R a",
            "modprobe --version",
            "modprobe --resolve a",
            "modprobe --unknown a",
            "modprobe --re a",
            "modprobe -Z a",
            "modprobe -a",
            "modprobe-guard --hook",
        ] {
            assert_eq!(parsed(line, ParentKind::Program), Invocation::PassOn, "{line}");
        }
    }

    #[test]
    fn options_of_the_environment_come_first() {
        for (options, expected) in [
            ("", "modprobe a"),
            ("-q -v", "modprobe -q -v a"),
            ("-C '/a b' -q", "modprobe -C /a b <> -q a"),
            ("-C x\"y z\"", "modprobe -C xy z a"),
            ("-v  -q ", "modprobe -v <> -q a"),
            ("-v x'y z", "modprobe -v x'y z a"),
        ] {
            let words = with_options(&[b"modprobe", b"a"], options.as_bytes());
            let words: Vec<&str> = words.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
            let words: Vec<&str> = words.into_iter().map(|word| if word.is_empty() { "<>" } else { word }).collect();
            assert_eq!(words.join(" "), expected, "{options}");
        }
    }

    #[test]
    fn as_modprobe_we_have_no_option_of_our_own() {
        assert_eq!(parsed("/sbin/modprobe --hook a", ParentKind::Program), Invocation::PassOn);
        assert!(stands_in(&[b"/sbin/modprobe"]) && !stands_in(&[b"/usr/sbin/modprobe-guard"]) && !stands_in(&[]));
    }

    #[test]
    fn whether_a_line_asks_for_one_module() {
        for (line, expected) in [
            ("modprobe --ignore-install nf-nat a=1", true),
            ("modprobe -a nf_nat nf-nat", true),
            ("modprobe -a nf_nat nf_conntrack", false),
            ("modprobe nf_conntrack", false),
        ] {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let Invocation::Load(load) = parse(&argv, ParentKind::Program) else { panic!("{line}") };
            assert_eq!(is_all_for(&argv, &load, b"nf_nat"), expected, "{line}");
        }
    }

    #[test]
    fn bare_is_one_quiet_name() {
        for (line, bare) in [
            ("modprobe -q -- a", true),
            ("modprobe a -q", true),
            ("modprobe -q -- -r", true),
            ("modprobe -q a", false),
            ("modprobe a", false),
            ("modprobe -r -q", false),
            ("modprobe --hook a -q", false),
            ("modprobe -q -- a b=1", false),
            ("modprobe -a -q -- a", false),
        ] {
            assert_eq!(is_bare(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()), bare, "{line}");
        }
    }

    #[test]
    fn names_are_bytes() {
        let argv: [&[u8]; 4] = [b"modprobe-guard", b"-q", b"--", b"\xff\n"];
        assert_eq!(parse(&argv, ParentKind::KernelThread), load(Caller::Kernel, 3, true));
        assert_eq!(parse(&[], ParentKind::KernelThread), Invocation::PassOn);
    }
}
