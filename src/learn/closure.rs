//! Modules in the order in which a person reads them: what was asked for by itself stands below what needs it.

use std::collections::{BTreeMap, BTreeSet};

use super::tally::Tally;

/// A module, or a name asked for.
#[derive(Debug)]
pub struct Entry {
    /// As a pattern.
    pub pattern: String,
    /// What was counted of it.
    pub tally: Tally,
    /// Whether the entry before it that is not below another needs it: it comes along with that anyway.
    pub is_below: bool,
}

/// In the order of names, each module followed by those of the others that it needs; of several that need one it stands
/// below the first.
pub fn grouped(modules: Vec<(String, Tally)>) -> Vec<Entry> {
    let mut left: BTreeMap<String, Tally> = modules.into_iter().collect();
    let needed: BTreeSet<String> = left
        .iter()
        .flat_map(|(module, tally)| tally.needs.iter().filter(move |need| *need != module))
        .filter(|need| left.contains_key(*need))
        .cloned()
        .collect();
    let heads: Vec<String> = left.keys().filter(|module| !needed.contains(*module)).cloned().collect();
    let mut entries = Vec::new();
    // What was needed on one kernel alone, or in records that make no sense, may be below none of the heads.
    for head in heads.into_iter().chain(needed) {
        let Some(tally) = left.remove(&head) else { continue };
        let below: Vec<Entry> = tally
            .needs
            .iter()
            .filter_map(|need| left.remove_entry(need))
            .map(|(pattern, tally)| Entry { pattern, tally, is_below: true })
            .collect();
        entries.push(Entry { pattern: head, tally, is_below: false });
        entries.extend(below);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_stands_once_below_the_first_that_needs_it() {
        for (modules, expected) in [
            (&["c b", "b", "a b"][..], "a +b c"),
            (&["nat ct x", "ct x", "x", "filter x"], "filter +x nat +ct"),
            // On one kernel a needs b, on another b needs c.
            (&["a b", "b c", "c"], "a +b c"),
            (&["a b", "b a", "c c d"], "c a +b"),
            (&["a d", "b"], "a b"),
            (&[], ""),
        ] {
            let modules = modules.iter().map(|words| {
                let mut words = words.split(' ').map(str::to_owned);
                let module = words.next().unwrap();
                (module, Tally { needs: words.collect(), ..Tally::default() })
            });
            let told = grouped(modules.collect());
            let told = told.iter().map(|entry| format!("{}{}", if entry.is_below { "+" } else { "" }, entry.pattern));
            assert_eq!(told.collect::<Vec<_>>().join(" "), expected);
        }
    }
}
