//! What the kernel, and modprobe, said when the module was inserted, in plain words.

use super::kernel_log::Line;
use super::support::load;
use super::{Case, Cause, Finding, Seen};
use crate::text::Text;

/// What modprobe and systemd make of the kernel's answer (strerror(3), and modprobe's own words), and what it means.
const ANSWERS: [(&str, Cause, &str); 12] = [
    (
        "Exec format error",
        Cause::FileCorrupt,
        "ENOEXEC: the file is no module that this kernel can take: damaged, or built for another one",
    ),
    (
        "Invalid module format",
        Cause::FileCorrupt,
        "ENOEXEC: the file is no module that this kernel can take: damaged, or built for another one",
    ),
    (
        "Key was rejected by service",
        Cause::Signature,
        "EKEYREJECTED: the kernel demands a signature and has refused this one, or found none",
    ),
    (
        "Required key not available",
        Cause::Signature,
        "ENOKEY: the module is signed with a key that the kernel does not know",
    ),
    ("Cannot allocate memory", Cause::Resources, "ENOMEM: there was no memory for it"),
    ("Unknown symbol in module", Cause::Dependency, "ENOENT: it needs something that no loaded module exports"),
    (
        "Operation not permitted",
        Cause::ModulesDisabled,
        "EPERM: loading is disabled, or whoever tried may not load modules",
    ),
    ("Invalid argument", Cause::InsertionError, "EINVAL: one of its parameters has a value that it does not take"),
    ("No such device", Cause::InsertionError, "ENODEV: its device or what it needs of the machine is not there"),
    ("Device or resource busy", Cause::InsertionError, "EBUSY: something else holds what it needs"),
    ("Bad message", Cause::FileCorrupt, "EBADMSG: its signature can't be read"),
    ("Protocol error", Cause::InsertionError, "EPROTO: the module itself refused"),
];

/// Lines of evidence for one finding, and findings in all: a log can hold any number.
const MOST_LINES: usize = 5;
const MOST_FINDINGS: usize = 10;

pub fn look(case: &Case) -> Seen {
    let log = case.log();
    if let Some(why) = &log.unread {
        return Seen::Nothing(why.clone());
    }
    let mut names = vec![case.module.clone()];
    names.extend(case.needed_by(&case.module).into_iter().filter(|name| !case.is_in_kernel(name)));
    let names: Vec<String> = names.iter().map(|name| Text::from(name.as_slice()).to_string()).collect();
    let mut findings: Vec<Finding> = Vec::new();
    // What was refused before it was loaded last was mended since.
    let loaded = super::records::loaded_at(case, &case.module);
    let is_later = |line: &&Line| line.seconds.zip(loaded).is_none_or(|(line, loaded)| line > loaded);
    for line in log.lines.iter().filter(is_later) {
        let Some((cause, words)) =
            names.iter().find_map(|name| of_module(name, &line.text)).or_else(|| of_anybody(&line.text))
        else {
            continue;
        };
        if line.text.contains("invalid for parameter") && case.config.options_of(&case.module).next().is_none() {
            continue;
        }
        let is_full = findings.len() >= MOST_FINDINGS;
        let known = findings.iter_mut().find(|finding| finding.summary == words);
        match known {
            Some(known) => {
                // The last times are the ones that count.
                if known.evidence.len() >= MOST_LINES {
                    known.evidence.remove(0);
                }
                known.evidence.push(line.shown());
            }
            None if is_full => {}
            None => findings.push(finding(case, cause, words, line)),
        }
    }
    Seen::of(findings, format!("{} lines, and none of them is about it", log.lines.len()))
}

/// What stands by itself is an error of insertion; where a check has seen the cause itself, this is evidence for it.
fn finding(case: &Case, cause: Cause, words: String, line: &Line) -> Finding {
    let mut finding = Finding::new(Cause::InsertionError, words).evidence(line.shown());
    finding.echo_of = Some(cause);
    finding.decisive = !line.text.starts_with("Loading of ") && !line.text.starts_with("Lockdown:");
    if line.text.contains("invalid for parameter") || line.text.contains("Invalid argument") {
        // "`VALUE' invalid for parameter `NAME'"
        let parameter = line.text.rsplit('`').next().unwrap_or_default().trim_end_matches('\'').to_owned();
        let sets_it = |options: &[u8]| {
            let words = String::from_utf8_lossy(options).into_owned();
            words.split_ascii_whitespace().any(|word| word.split('=').next() == Some(&parameter))
        };
        let options = case.config.options_of(&case.module);
        let options: Vec<String> = options.filter(|(options, _)| sets_it(options)).map(|(_, source)| source).collect();
        for source in options {
            finding = finding.evidence(format!("{source}: sets parameters of it"));
            finding.fix.extend(super::blocked::comment_out(case, &source));
        }
        let prefix = format!("{}.", case.name());
        let words = case.kernel_command_line();
        let of_kernel = words.iter().filter(|word| word.replace('-', "_").starts_with(&prefix));
        finding.fix.extend(of_kernel.flat_map(|word| case.distribution.boot_without(word)));
        return finding.fix(load(case));
    }
    let path = case.path_of(&case.module);
    finding
        .fixes(case.distribution.bring(case.host, &case.kernel, path.as_deref(), true))
        .fix(format!("depmod {}", super::distribution::quoted(&case.kernel)))
        .fix(load(case))
}

/// What a line says of the module `name`: the likely cause, and it in words.
fn of_module(name: &str, text: &str) -> Option<(Cause, String)> {
    let of_tool = |tool: &str| {
        let said = text.strip_prefix(tool)?;
        let quoted = [format!("'{name}'"), format!("\"{name}\""), format!(" {name}:")];
        if !quoted.iter().any(|name| said.contains(name.as_str())) {
            return None;
        }
        let (_, cause, meaning) = ANSWERS.iter().find(|(answer, ..)| said.contains(answer))?;
        Some((*cause, format!("{name} could not be inserted: {meaning}")))
    };
    if let Some(found) =
        ["modprobe", "insmod", "systemd-modules-load", "systemd-udevd", "(udev-worker)"].into_iter().find_map(of_tool)
    {
        return Some(found);
    }
    if text == format!("Module {name} is blacklisted") {
        return Some((Cause::Blacklisted, format!("the kernel refused {name}: module_blacklist names it")));
    }
    let said = text.strip_prefix(name).or_else(|| text.strip_prefix(&name.replace('_', "-")))?.strip_prefix(": ")?;
    let refused = |cause: Cause, words: String| Some((cause, format!("the kernel refused {name}: {words}")));
    if said.starts_with("version magic ") {
        return refused(Cause::VersionMismatch, "it was built for another kernel".to_owned());
    }
    if let Some(symbol) = said.strip_prefix("disagrees about version of symbol ") {
        let cause = if symbol.trim() == "module_layout" { Cause::VersionMismatch } else { Cause::Dependency };
        return refused(cause, "it was built against another version of what it needs".to_owned());
    }
    if said.starts_with("Unknown symbol ") {
        return refused(Cause::Dependency, "it needs symbols that nothing which is loaded exports".to_owned());
    }
    if said.contains("invalid for parameter") {
        return refused(Cause::InsertionError, "a parameter has a value that it does not take".to_owned());
    }
    let formats = [
        "Invalid ELF",
        "Only loading ELF",
        "section size must match",
        "overflow in relocation",
        "Skipping invalid relocation",
        "invalid relocation",
        "no symbols",
        "Unable to find",
        "has no signature",
        "module verification failed",
    ];
    let is_format = formats.iter().any(|words| said.contains(words)) && !said.contains("verification failed");
    if is_format {
        return refused(Cause::FileCorrupt, "its file makes no sense to this kernel".to_owned());
    }
    let memory = ["allocation failure", "Unable to create nf_conn slab", "cannot allocate", "Could not allocate"];
    if memory.iter().any(|words| said.contains(words)) {
        return refused(Cause::Resources, "there was no memory for it".to_owned());
    }
    None
}

/// Lines that name no module.
fn of_anybody(text: &str) -> Option<(Cause, String)> {
    let (cause, words) = match text {
        _ if text.starts_with("Loading of unsigned module is rejected") => (Cause::Signature, "it is not signed"),
        _ if text.starts_with("Loading of module with unavailable key is rejected") => {
            (Cause::Signature, "it is signed with a key that the kernel does not know")
        }
        _ if text.starts_with("Loading of module with unsupported crypto is rejected") => {
            (Cause::Signature, "its signature is of a kind that the kernel does not know")
        }
        _ if text.starts_with("Lockdown:") && text.contains("unsigned module loading is restricted") => {
            (Cause::Lockdown, "it is not signed, and the kernel is locked down")
        }
        _ if text.starts_with("Invalid ELF header magic") => (Cause::FileCorrupt, "its file is no module"),
        _ => return None,
    };
    Some((cause, format!("the kernel refused a module, maybe this one: {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        for (text, cause) in [
            (
                "nf_conntrack: version magic '5.10.0 SMP mod_unload ' should be '6.1.0 SMP mod_unload '",
                Some(Cause::VersionMismatch),
            ),
            ("nf_conntrack: disagrees about version of symbol module_layout", Some(Cause::VersionMismatch)),
            ("nf_conntrack: disagrees about version of symbol nf_register_net_hooks", Some(Cause::Dependency)),
            ("nf_conntrack: Unknown symbol nf_defrag_ipv4_enable (err -2)", Some(Cause::Dependency)),
            ("nf_conntrack: `x' invalid for parameter `hashsize'", Some(Cause::InsertionError)),
            ("modprobe: ERROR: could not insert 'nf_conntrack': Exec format error", Some(Cause::FileCorrupt)),
            ("modprobe: ERROR: could not insert 'nf_conntrack': Key was rejected by service", Some(Cause::Signature)),
            (
                "systemd-modules-load[99]: Failed to insert module 'nf_conntrack': Cannot allocate memory",
                Some(Cause::Resources),
            ),
            ("Module nf_conntrack is blacklisted", Some(Cause::Blacklisted)),
            ("modprobe: ERROR: could not insert 'nf_nat': Exec format error", None),
            ("nf_conntrack: default automatic helper assignment has been turned off", None),
            ("nf_conntrack version 0.5.0 (8192 buckets)", None),
            ("nf_conntrack_ftp: Unknown symbol x (err -2)", None),
            ("nf_conntrack: module verification failed: signature and/or required key missing - tainting kernel", None),
        ] {
            assert_eq!(of_module("nf_conntrack", text).map(|(cause, _)| cause), cause, "{text}");
        }
        assert_eq!(of_anybody("Loading of unsigned module is rejected").unwrap().0, Cause::Signature);
    }
}
