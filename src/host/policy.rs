//! The policy's files: who may have written them, what is in force, and putting it there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{Directory, ETC, Host, POLICY_IN_FORCE, USR_LIB, read_of};
use crate::policy::applied::{self, Applied, Digest};
use crate::policy::{Finding, Policy, Source, parse};
use crate::text::Text;

/// A policy file of more bytes than this is a mistake: 6,500 names take some 100 KiB.
pub const MAX_SOURCE: usize = 1024 * 1024;
/// The policy in force holds all sources together.
const MAX_IN_FORCE: usize = 16 * 1024 * 1024;

/// The policy that decides, and how we came by it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// The files that it was made of; [`applied::behind`] tells whether they have moved on.
    pub sources: Vec<Digest>,
    /// Where it comes from.
    pub origin: Origin,
    /// Why it is not what was applied, one text for each step down.
    pub failures: Vec<String>,
}

/// Where the policy that decides comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `policy.bin`.
    Applied,
    /// The policy files.
    Files,
    /// The built-in default.
    BuiltIn,
}

/// Why a file of the configuration is not taken.
#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    Absent,
    /// What was found, and the remedy.
    Unfit(String, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Applied => POLICY_IN_FORCE,
            Origin::Files => "the policy files",
            Origin::BuiltIn => "the built-in default",
        })
    }
}

impl Host {
    /// The policy files, in the order in which their rules count: drop-ins by name, then the main file, or the built-in
    /// default where there is none.
    ///
    /// # Errors
    /// Every file that can't be read, is too large, or might have been written by others than root.
    pub fn policy_sources(&self) -> Result<Vec<Source>, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut drop_ins: BTreeMap<OsString, &str> = BTreeMap::new();
        // /etc comes last, so its files replace those of the same name.
        for directory in [USR_LIB, ETC] {
            for path in [directory.to_owned(), format!("{directory}/policy.d")] {
                if let Err(Refusal::Unfit(message, remedy)) = self.policy_directory(&path) {
                    findings.push(self.policy_finding(Path::new(&path), message, remedy));
                }
            }
            for name in self.list(format!("{directory}/policy.d")).unwrap_or_default() {
                // Editors keep locks and backups as `.#NAME` and `NAME~` beside the file.
                if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
                    drop_ins.insert(name, directory);
                }
            }
        }
        let drop_ins = drop_ins.iter().map(|(name, directory)| Path::new(directory).join("policy.d").join(name));
        let mut sources = Vec::new();
        let mut take = |path: &Path| match self.policy_bytes(path, MAX_SOURCE) {
            Ok(bytes) => {
                let (path, shown) = (escaped(path), escaped(&self.shown(path)));
                sources.push(Source { path, shown, bytes });
                true
            }
            Err(Refusal::Absent) => false,
            Err(Refusal::Unfit(message, remedy)) => {
                findings.push(self.policy_finding(path, message, remedy));
                true
            }
        };
        for path in drop_ins {
            take(&path);
        }
        if ![ETC, USR_LIB].iter().any(|directory| take(&Path::new(directory).join("policy.toml"))) {
            sources.push(Source::built_in());
        }
        if findings.is_empty() { Ok(sources) } else { Err(findings) }
    }

    /// The file that somebody names with `--policy FILE`, a path of this machine whatever the root. Owner and mode are
    /// not judged: who names a file answers for it.
    ///
    /// # Errors
    /// Those of [`Host::read`]; the text names the path and the remedy.
    pub fn policy_file(path: &Path) -> io::Result<Source> {
        let bytes = Host::this().read(path, MAX_SOURCE).map_err(|error| {
            let remedy = "name a file of at most 1 MiB";
            io::Error::new(error.kind(), format!("{}: cannot read: {error}; {remedy}", escaped(path)))
        })?;
        Ok(Source::new(&escaped(path), bytes))
    }

    /// The policy that decides: what was applied, else the files, else the built-in default.
    pub fn policy_in_force(&self) -> InForce {
        let shown = escaped(&self.shown(POLICY_IN_FORCE));
        let refused = match self.policy_bytes(Path::new(POLICY_IN_FORCE), MAX_IN_FORCE) {
            // A policy in force is there to the end of its process.
            Ok(bytes) => match applied::decode(bytes.leak()) {
                Ok(Applied { policy, sources }) => {
                    return InForce { policy, sources, origin: Origin::Applied, failures: Vec::new() };
                }
                Err(wrong) => Some(format!("{shown}: {wrong}; the files decide until `guard apply`")),
            },
            Err(Refusal::Unfit(message, remedy)) => Some(format!("{shown}: {message}; {remedy}; the files decide")),
            Err(Refusal::Absent) => None,
        };
        let parsed = self.policy_sources().and_then(|sources| parse(&sources).map(|policy| (policy, sources)));
        let (policy, sources, origin) = match parsed {
            Ok((policy, sources)) if sources == [Source::built_in()] => (policy, sources, Origin::BuiltIn),
            Ok((policy, sources)) => (policy, sources, Origin::Files),
            Err(findings) => return built_in(refused.unwrap_or_else(|| not_applied(&shown)), &findings),
        };
        // Without any file there is nothing that could have been applied.
        let failure = refused.or_else(|| (origin == Origin::Files).then(|| not_applied(&shown)));
        let sources = sources.iter().map(Digest::of).collect();
        InForce { policy, sources, origin, failures: failure.into_iter().collect() }
    }

    /// Whether the files say something else than what decides: what has changed, or why they can't be put in force.
    pub fn policy_behind(&self, in_force: &InForce) -> Option<String> {
        match self.policy_sources() {
            Ok(sources) => applied::behind(&in_force.sources, &sources).map(|behind| match parse(&sources) {
                Ok(_) => behind,
                Err(findings) => format!("{behind}, and is unsound: {}", first_of(&findings)),
            }),
            Err(findings) => Some(first_of(&findings)),
        }
    }

    /// Makes `bytes` ([`applied::encode`]) the policy in force, whole or not at all.
    ///
    /// # Errors
    /// Those of the system calls; what was in force then stays, and nothing is left behind.
    pub fn put_in_force(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > MAX_IN_FORCE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is longer than {MAX_IN_FORCE} bytes")));
        }
        let directory = self.open_with(Path::new(ETC), OFlag::O_RDONLY | OFlag::O_DIRECTORY).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            let (parent, name) = split(ETC);
            let parent = self.open_with(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            nix::sys::stat::mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
            parent.sync_all()?;
            self.open_with(Path::new(ETC), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        })?;
        let (_, name) = split(POLICY_IN_FORCE);
        Directory::from(directory).replace(name, bytes)
    }

    fn policy_bytes(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Refusal> {
        let file = self.open(path).map_err(|error| match path.parent().zip(path.file_name()) {
            // Taken for absent, a link whose target is away would silently hand the decision to another file.
            Some((directory, name))
                if error.kind() == io::ErrorKind::NotFound
                    && self.list(directory).is_ok_and(|names| names.iter().any(|other| other == name)) =>
            {
                Refusal::Unfit("is a link that leads nowhere".into(), "mend or remove it".into())
            }
            _ => unreadable(error),
        })?;
        let metadata = file.metadata().map_err(unreadable)?;
        self.judge(&metadata)?;
        let bytes = read_of(&file, &metadata, limit).map_err(unreadable)?;
        self.done_with(file);
        Ok(bytes)
    }

    fn policy_directory(&self, path: &str) -> Result<(), Refusal> {
        let directory = self.open_with(Path::new(path), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(unreadable)?;
        self.judge(&directory.metadata().map_err(unreadable)?)
    }

    fn judge(&self, metadata: &Metadata) -> Result<(), Refusal> {
        judge(metadata.uid(), metadata.mode(), || self.owner_of_root())
    }

    fn owner_of_root(&self) -> Option<u32> {
        let (_, root) = self.root.as_ref()?;
        nix::sys::stat::fstat(root.as_ref()).ok().map(|stat| stat.st_uid)
    }

    fn policy_finding(&self, path: &Path, message: String, remedy: String) -> Finding {
        Finding { path: escaped(&self.shown(path)), position: None, message, remedy }
    }
}

/// Whether only root can have written what was opened. Below another root, its owner counts as root does.
fn judge(owner: u32, mode: u32, owner_of_root: impl Fn() -> Option<u32>) -> Result<(), Refusal> {
    if owner != 0 && owner_of_root() != Some(owner) {
        let message = format!("belongs to user {owner}, who could change the policy");
        return Err(Refusal::Unfit(message, "make it root's: `chown root:root`".into()));
    }
    let mode = mode & 0o7777;
    if mode & 0o022 != 0 {
        let message = format!("is writable by group or others (mode {mode:04o})");
        return Err(Refusal::Unfit(message, "take that away: `chmod go-w`".into()));
    }
    Ok(())
}

fn not_applied(shown: &str) -> String {
    format!("{shown}: no policy is in force; the files decide until `guard apply`")
}

fn built_in(refused: String, findings: &[Finding]) -> InForce {
    let failures = vec![refused, format!("{}; the built-in default decides", first_of(findings))];
    let source = Source::built_in();
    // That it is sound is what a test is for.
    let policy = parse(std::slice::from_ref(&source)).unwrap_or_default();
    InForce { policy, sources: vec![Digest::of(&source)], origin: Origin::BuiltIn, failures }
}

/// The first finding, and how many more there are.
fn first_of(findings: &[Finding]) -> String {
    let more = findings.len().saturating_sub(1);
    let first = findings.first().map(Finding::to_string).unwrap_or_default();
    if more == 0 { first } else { format!("{first} (and {more} more, see `guard check`)") }
}

fn unreadable(error: io::Error) -> Refusal {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => return Refusal::Absent,
        io::ErrorKind::InvalidInput => "put a plain file there, an empty one in /etc hides one of /usr/lib",
        io::ErrorKind::FileTooLarge => return Refusal::Unfit(error.to_string(), "make the file shorter".into()),
        io::ErrorKind::NotADirectory => "put a directory there, or nothing",
        _ => "see that root can read it",
    };
    Refusal::Unfit(format!("cannot read: {error}"), remedy.into())
}

/// Directory and name of one of our own paths.
fn split(path: &str) -> (&Path, &str) {
    path.rsplit_once('/').map_or((Path::new("/"), path), |(parent, name)| (Path::new(parent), name))
}

fn escaped(path: &Path) -> String {
    Text::from(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests;
