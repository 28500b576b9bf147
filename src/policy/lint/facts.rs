//! What lints are told of a host. Whatever is missing is not known, and then nothing is said of it.

use std::collections::BTreeMap;

use crate::text::Text;

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// The modules of the kernel that is looked at.
    pub modules: Option<Modules>,
    /// The files that rules name as executables.
    pub executables: Vec<Executable>,
    /// What blocks would take away.
    pub losses: Vec<Loss>,
    /// What blocks would have taken away, by the host's log.
    pub past: Vec<Past>,
    /// Why the log was not looked at, or not to its end, and what to do.
    pub past_unread: Option<(String, &'static str)>,
    /// Lines of modprobe.d that may keep out what rules permit.
    pub lines: Vec<Line>,
    /// Modules whose blocks and sizes modprobe(8) and libkmod pass by, with why.
    pub unhooked: Vec<Unhooked>,
    /// Rules that ask who, which this host can't tell: their ids, why, and what to do.
    pub unheard: Vec<(String, String, String)>,
    /// What `sysctl.d` says of keys that the policy sets.
    pub settings: Vec<Setting>,
    /// `options nf_conntrack hashsize=N` of modprobe.d and where it stands.
    pub hashsize: Option<(u32, String)>,
}

/// The modules of one kernel.
#[derive(Debug, Default)]
pub struct Modules {
    /// Its release.
    pub kernel: String,
    /// Those that have files, with underscores, sorted.
    pub names: Vec<Vec<u8>>,
    /// Those in the image, likewise.
    pub builtins: Vec<Vec<u8>>,
    /// All aliases, which are patterns.
    pub aliases: Vec<Vec<u8>>,
    /// For plain names of the policy that are neither: what else they stand for.
    pub stands_for: BTreeMap<String, Vec<Text>>,
}

/// A file that a rule names as `exe` or `ancestor`.
#[derive(Debug)]
pub struct Executable {
    /// As the policy names it.
    pub path: String,
    /// What is there.
    pub is: File,
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum File {
    /// Nothing.
    Missing,
    /// A text that another program runs.
    Script,
    /// A link, and where it leads in the end.
    Link(String),
    /// A file.
    Plain,
}

/// A module that the host uses and could not load again.
#[derive(Debug)]
pub struct Loss {
    /// The rule that blocks; absent: the default.
    pub rule: Option<String>,
    /// The module that decides.
    pub module: Text,
    /// The module or name that would be asked for.
    pub name: Text,
    /// Whether that needs `module` as a soft dependency only.
    pub is_softdep: bool,
    /// Whether the rule is about `name` alone, whatever it loads.
    pub is_by_name: bool,
    /// Whether the rule asks who, so that not everybody loses it.
    pub is_for_some: bool,
    /// How it is used: `loaded`, `mounted on /`.
    pub used: String,
}

/// Requests that were permitted, and would not be any more.
#[derive(Debug)]
pub struct Past {
    /// The rule that would block; absent: the default.
    pub rule: Option<String>,
    /// How many.
    pub requests: u64,
    /// Name asked for and who asked, with how often, the most frequent first.
    pub by: Vec<(String, u64)>,
}

/// A line of modprobe.d about a module that a rule permits.
#[derive(Debug)]
pub struct Line {
    /// The rule.
    pub rule: String,
    /// The module.
    pub module: String,
    /// What the line says.
    pub says: Says,
    /// `FILE:LINE`.
    pub source: String,
}

/// What such a line says.
#[derive(Debug)]
pub enum Says {
    /// `blacklist`.
    Blacklist,
    /// `install`, with the command.
    Install(Text),
    /// `alias`, with what it leads to.
    AliasTo(Text),
}

/// A module that has no `install` line of ours, though a rule blocks or sizes it.
#[derive(Debug)]
pub struct Unhooked {
    /// The module.
    pub module: Text,
    /// Where an `install` line of somebody else's stands; absent: it has soft dependencies.
    pub installed_by: Option<String>,
}

/// A key that the policy sets and `sysctl.d` as well.
#[derive(Debug)]
pub struct Setting {
    /// The table of the policy, `sysctl` or `conntrack`, and the key there.
    pub key: (&'static str, String),
    /// What the policy sets.
    pub ours: String,
    /// What `sysctl.d` sets.
    pub theirs: String,
    /// Where, `FILE:LINE`.
    pub source: String,
}
