//! Rules -> the text of a policy. Whatever records held, values are quoted by the library that reads them again, and in
//! comments stand only the printable forms.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use toml_writer::ToTomlValue;

use crate::checksum::crc32;
use crate::model::Action;
use crate::text::Text;

use super::closure::Entry;
use super::draft::{Asking, Draft, Options, Patterns, Rule};
use super::groups::{Groups, What};
use super::tally::Tally;
use super::who::{Common, Namespaces, Users, Who};

/// An id may have 64 bytes; so many are kept, so that a sum fits behind them.
const ID: usize = 48;
/// So many hosts are named.
const HOSTS: usize = 3;
/// So many names that were asked for are told.
const NAMES: usize = 3;
/// So many modules that come along are.
const NEEDS: usize = 16;
/// What a comment takes of one name.
const SHOWN: usize = 80;

/// The policy file.
pub fn render(draft: &Draft, groups: &Groups, options: &Options) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, draft, groups, options);
    text
}

fn write(text: &mut String, draft: &Draft, groups: &Groups, options: &Options) -> fmt::Result {
    writeln!(
        text,
        "# Learned from records by `guard learn`. It holds for what was recorded, and for nothing else: read it,"
    )?;
    writeln!(text, "# try it with `enforce = false` under [defaults], and see what `guard log` would have blocked.")?;
    if !options.bare {
        let all = sum(groups.groups.values());
        let requests = Tally { requests: groups.counts.requests, ..all };
        writeln!(text, "# {}.", told(&requests, groups))?;
    }
    writeln!(text, "\nversion = 1\n\n[defaults]")?;
    let action = if options.default == Action::Block { "block" } else { "allow" };
    writeln!(text, "action = {}", quoted(action))?;
    if options.trusts_likely {
        writeln!(text, "trust = {}", quoted("likely"))?;
    }
    let ids = ids(&draft.rules);
    for (rule, id) in draft.rules.iter().zip(&ids) {
        write_rule(text, rule, id, groups, options)?;
    }
    if !draft.lost.is_empty() {
        writeln!(
            text,
            "\n# Refused in the records and refused by no rule here: somebody was permitted it whom a rule can't tell apart."
        )?;
    }
    for (what, who, tally) in &draft.lost {
        let (What::Module(name) | What::Request(name)) = what;
        let rule = tally.watched.as_deref().map_or("the default".to_owned(), |rule| format!("rule {}", shown(rule)));
        writeln!(text, "#   {} to {} by {rule}", shown(name), who.shown())?;
    }
    Ok(())
}

fn write_rule(text: &mut String, rule: &Rule, id: &str, groups: &Groups, options: &Options) -> fmt::Result {
    let Rule { name: _, why, patterns, asking, action } = rule;
    writeln!(text)?;
    for line in why {
        writeln!(text, "# {line}")?;
    }
    writeln!(text, "[[rule]]\nid = {}", quoted(id))?;
    let (key, entries) = match patterns {
        Patterns::Modules(modules) => ("modules", modules),
        Patterns::Requests(requests) => ("requests", requests),
    };
    writeln!(text, "{key} = [")?;
    for Entry { pattern, tally, is_below } in entries {
        // What is below another comes along with that, and all that it needs. On a line of its own: counts change daily.
        if let Some(needs) = some(tally.needs.iter(), NEEDS).filter(|_| !is_below && !options.bare) {
            writeln!(text, "  # {} needs {needs}", shown(pattern))?;
        }
        write!(text, "{}{},", if *is_below { "    " } else { "  " }, quoted(pattern))?;
        let mut about = Vec::new();
        if !options.bare {
            about.push(told(tally, groups));
            let names = tally.names.iter().filter(|name| key == "modules" && name.replace('-', "_") != *pattern);
            about.extend(some(names, NAMES).map(|names| format!("asked for as {names}")));
        }
        if let Some(watched) = &tally.watched {
            let so = if *action == Action::Block { "by" } else { "would have been blocked by" };
            about.push(format!("{so} rule {}", shown(watched)));
        }
        writeln!(text, "{}{}", if about.is_empty() { "" } else { "  # " }, about.join("; "))?;
    }
    writeln!(text, "]")?;
    if let Some(who) = requester(asking, *action) {
        writeln!(text, "requester = {who}")?;
    }
    let action = match action {
        Action::Allow => "allow",
        Action::AllowSysctl => "allow-sysctl",
        Action::Block => "block",
    };
    writeln!(text, "action = {}", quoted(action))
}

/// The first `most` of `names`, if there are any.
fn some<'a>(names: impl Iterator<Item = &'a String>, most: usize) -> Option<String> {
    let names: Vec<&String> = names.collect();
    let told: Vec<String> = names.iter().take(most).map(|name| shown(name)).collect();
    let more = if names.len() > most { ", ..." } else { "" };
    (!told.is_empty()).then(|| told.join(", ") + more)
}

/// As the key `requester` takes it; none: everybody.
fn requester(asking: &Asking, action: Action) -> Option<String> {
    let Asking { who, common: Common { is_root, is_in_host } } = asking;
    let mut conditions = Vec::new();
    let mut ask = |key: &str, value: String| conditions.push(format!("{key} = {value}"));
    let users = match who {
        Some(Who::Units(units, users)) => {
            ask("unit", list(units));
            *users
        }
        Some(Who::Exes(exes, users)) => {
            ask("exe", list(exes));
            *users
        }
        Some(Who::Container { name, unit, .. }) => {
            ask("container", name.as_ref().map_or("true".to_owned(), |name| list(std::slice::from_ref(name))));
            if let Some(unit) = unit {
                ask("unit", list(std::slice::from_ref(unit)));
            }
            Users::Any
        }
        Some(Who::Root) => Users::Root,
        Some(Who::Unnamed | Who::Unknown) | None => Users::Any,
    };
    if *is_root || users == Users::Root {
        ask("uid", "[0]".to_owned());
    } else if users == Users::Others && action == Action::Block {
        // What others were refused, root may have been permitted.
        ask("uid", list(&["!0".to_owned()]));
    }
    match who {
        Some(Who::Container { userns: Some(Namespaces::Other), .. }) => ask("userns", quoted("other")),
        Some(Who::Container { userns: Some(Namespaces::Host), .. }) => ask("userns", quoted("host")),
        _ if *is_in_host => ask("userns", quoted("host")),
        _ => {}
    }
    (!conditions.is_empty()).then(|| format!("{{ {} }}", conditions.join(", ")))
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(text: &str) -> String {
    text.to_toml_value()
}

/// A name in a comment: printable, on one line, not too long.
fn shown(text: &str) -> String {
    let shown = Text::from(text).to_string();
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.add(tally);
        sum
    })
}

/// How often, where and when.
fn told(tally: &Tally, groups: &Groups) -> String {
    let requests = tally.requests;
    let mut told = format!("{requests} request{}", if requests == 1 { "" } else { "s" });
    if let Some(hosts) = &groups.hosts {
        let names: Vec<&String> =
            tally.hosts.iter().filter_map(|host| hosts.get(usize::try_from(host).ok()?)).collect();
        let of = |names: &[&String]| names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
        match names.as_slice() {
            [] => {}
            names if names.len() <= HOSTS => told += &format!(", {}", of(names)),
            names => told += &format!(", {} hosts", names.len()),
        }
    }
    match tally.days {
        Some((first, last)) if first == last => told += &format!(", {first}"),
        Some((first, last)) => told += &format!(", {first} to {last}"),
        None => {}
    }
    told
}

/// An id for each rule: its name's letters and digits, and where two would be the same, a sum of the whole name.
fn ids(rules: &[Rule]) -> Vec<String> {
    let plain: Vec<String> = rules.iter().map(|rule| plain(&rule.name)).collect();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    plain.iter().for_each(|id| *times.entry(id).or_default() += 1);
    let mut taken = BTreeSet::new();
    let ids = rules.iter().zip(&plain).map(|(rule, plain)| {
        let is_whole = plain.len() <= ID && times.get(plain.as_str()) == Some(&1);
        let short: String = plain.chars().take(ID).collect();
        let mut sum = crc32(rule.name.as_bytes());
        let mut id = if is_whole { short.clone() } else { format!("{short}-{sum:08x}") };
        while !taken.insert(id.clone()) {
            sum = sum.wrapping_add(1);
            id = format!("{short}-{sum:08x}");
        }
        id
    });
    ids.collect()
}

fn plain(name: &str) -> String {
    let words = name.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    let id = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    if id.is_empty() { "rule".to_owned() } else { id }
}
