//! What `modprobe.d` says: modprobe.d(5), read as kmod's libkmod-config.c reads it.
#![forbid(unsafe_code)]

use super::glob::glob_match;
use super::hook::{are_hooks, is_hook};
use super::kernel_line;
use super::lines::{Words, is_space, logical_lines};
use super::names::normalise;

/// What the files of `modprobe.d`, `modules.softdep` and the kernel command line say together.
#[derive(Debug, Default)]
pub struct Config {
    files: Vec<String>,
    aliases: Vec<Entry>,
    blacklist: Vec<Entry>,
    installs: Vec<Entry>,
    removes: Vec<Entry>,
    options: Vec<Entry>,
    softdeps: Vec<Softdep>,
}

/// What a line that may keep a module out says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// `blacklist`.
    Blacklist,
    /// `install`, with the command.
    Install(Vec<u8>),
    /// `alias` for the module's own name, with what it leads to.
    AliasTo(Vec<u8>),
}

/// A line about one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineOn {
    /// What it says.
    pub says: Says,
    /// The name or pattern that it is about.
    pub key: Vec<u8>,
    /// `FILE:LINE`, or `kernel command line`.
    pub source: String,
}

/// A line that says something of a name.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name or pattern that it is about, normalised.
    pub key: Vec<u8>,
    /// The rest: a module, a command, options; empty for `blacklist` and `remove`.
    pub value: Vec<u8>,
    place: Place,
}

/// Modules that are to be loaded before and after another one, if they can.
#[derive(Debug)]
pub(super) struct Softdep {
    key: Vec<u8>,
    /// As they stand there: of all the lines a request needs one or two.
    names: Vec<u8>,
}

impl Softdep {
    /// Names to load first, and names to load afterwards.
    pub fn names(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        softdep_names(&self.names)
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    File { file: usize, line: usize },
    KernelCommandLine,
}

impl Config {
    /// Reads `files`, each a path for messages and its bytes, in this order, then the kernel command line.
    ///
    /// As with kmod, a line that makes no sense is passed over.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (String, &'a [u8])>,
        kernel_command_line: impl AsRef<[u8]>,
    ) -> Config {
        let mut config = Config::default();
        for (path, bytes) in files {
            let file = config.files.len();
            config.files.push(path);
            if are_hooks(bytes) {
                continue;
            }
            for (line, text) in logical_lines(bytes) {
                config.take_line(&text, Place::File { file, line });
            }
        }
        for parameter in kernel_line::parameters(kernel_command_line.as_ref()) {
            config.take_parameter(parameter);
        }
        config
    }

    /// Notes one line; `None` if it makes no sense.
    fn take_line(&mut self, line: &[u8], place: Place) -> Option<()> {
        let mut words = Words(line);
        let word = words.next()?;
        if word.starts_with(b"#") {
            return None;
        }
        let key = normalise(words.next()?)?.into_owned();
        let entry = |key, value| Entry { key, value, place };
        match word {
            b"alias" => self.aliases.push(entry(key, normalise(words.next()?)?.into_owned())),
            b"blacklist" => self.blacklist.push(entry(key, Vec::new())),
            b"install" => {
                // What asks us is no obstacle: we decide there as we do here, and then load plainly.
                let command = words.rest().filter(|command| !is_hook(&key, command))?;
                self.installs.push(entry(key, command.to_vec()));
            }
            b"remove" => {
                words.rest()?;
                self.removes.push(entry(key, Vec::new()));
            }
            b"options" => {
                let spaced = words.rest()?.iter().map(|&byte| if byte == b'\t' { b' ' } else { byte });
                self.options.push(entry(key, spaced.collect()));
            }
            b"softdep" => {
                let names = words.rest()?.to_vec();
                self.softdeps.push(Softdep { key, names });
            }
            // A weakdep, which modprobe never loads; anything else.
            _ => {}
        }
        Some(())
    }

    fn take_parameter(&mut self, parameter: kernel_line::Parameter) {
        let place = Place::KernelCommandLine;
        let kernel_line::Parameter { module, setting } = parameter;
        if let (b"modprobe", Some(names)) = (module.as_slice(), setting.strip_prefix(b"blacklist=")) {
            // kmod takes these names as they are: one with a dash never comes to bear.
            let names = names.split(|&byte| byte == b',');
            self.blacklist.extend(names.map(|name| Entry { key: name.to_vec(), value: Vec::new(), place }));
        } else if let Some(key) = normalise(&module) {
            self.options.push(Entry { key: key.into_owned(), value: setting, place });
        }
    }

    /// Whether any `alias`, `install` or `remove` line is about `name`; also if it is no name at all.
    pub fn is_about(&self, name: &[u8]) -> bool {
        normalise(name).is_none_or(|name| {
            let is_aliased = self.aliases_of(&name).next().is_some();
            is_aliased || self.install_of(&name).is_some() || self.remove_named(&name).is_some()
        })
    }

    /// The names, which are patterns, that `alias` lines are about.
    pub fn aliases(&self) -> impl Iterator<Item = &[u8]> {
        self.aliases.iter().map(|entry| entry.key.as_slice())
    }

    /// `alias` lines whose pattern matches `name`, in order.
    pub(super) fn aliases_of(&self, name: &[u8]) -> impl Iterator<Item = &Entry> {
        self.aliases.iter().filter(move |entry| glob_match(&entry.key, name))
    }

    /// The first `install` line of exactly `name`.
    pub(super) fn install_named(&self, name: &[u8]) -> Option<&Entry> {
        self.installs.iter().find(|entry| entry.key == name)
    }

    /// The first `install` line whose pattern matches `module`.
    pub(super) fn install_of(&self, module: &[u8]) -> Option<&Entry> {
        self.installs.iter().find(|entry| glob_match(&entry.key, module))
    }

    /// Where the first `install` line stands that is not ours and whose pattern matches `module`: `FILE:LINE`.
    pub fn installed_by(&self, module: &[u8]) -> Option<String> {
        self.install_of(module).map(|entry| self.source(entry))
    }

    /// The first `remove` line of exactly `name`.
    pub(super) fn remove_named(&self, name: &[u8]) -> Option<&Entry> {
        self.removes.iter().find(|entry| entry.key == name)
    }

    /// The first `softdep` line whose pattern matches `module`, and its place among them; kmod looks at no other.
    pub(super) fn softdep_of(&self, module: &[u8]) -> Option<(usize, &Softdep)> {
        self.softdeps.iter().enumerate().find(|(_, softdep)| glob_match(&softdep.key, module))
    }

    /// Where `module` is blacklisted first: `FILE:LINE`, or `kernel command line`. Binds aliases only.
    pub fn blacklisted(&self, module: &[u8]) -> Option<String> {
        self.blacklist.iter().find(|entry| entry.key == module).map(|entry| self.source(entry))
    }

    /// The options that `module` is loaded with, in order, each text with where it stands (see
    /// [`Config::blacklisted`]). A text holds one `key=value` or several; of one key the last counts.
    pub fn options_of(&self, module: &[u8]) -> impl Iterator<Item = (&[u8], String)> {
        let entries = self.options.iter().filter(move |entry| entry.key == module);
        entries.map(|entry| (entry.value.as_slice(), self.source(entry)))
    }

    /// All lines that may keep `module` out, those of one kind in the order in which they count.
    pub fn lines_on(&self, module: &[u8]) -> Vec<LineOn> {
        let line = |entry: &Entry, says| LineOn { says, key: entry.key.clone(), source: self.source(entry) };
        let installs = self.installs.iter().filter(|entry| glob_match(&entry.key, module));
        let installs = installs.map(|entry| line(entry, Says::Install(entry.value.clone())));
        let aliases = self.aliases_of(module).map(|entry| line(entry, Says::AliasTo(entry.value.clone())));
        let blacklist = self.blacklist.iter().filter(|entry| entry.key == module);
        installs.chain(aliases).chain(blacklist.map(|entry| line(entry, Says::Blacklist))).collect()
    }

    /// Where a line stands: `FILE:LINE`, or `kernel command line`.
    pub(super) fn source(&self, entry: &Entry) -> String {
        match entry.place {
            Place::KernelCommandLine => "kernel command line".to_owned(),
            Place::File { file, line } => {
                format!("{}:{line}", self.files.get(file).map(String::as_str).unwrap_or_default())
            }
        }
    }
}

/// The names after `pre:` and those after `post:`.
fn softdep_names(text: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut words = text.split(is_space).filter(|word| !word.is_empty());
    // kmod takes a single blank in front for a part of the first word (two in the file, of which one is gone by now);
    // so it is no `pre:` and counts for nothing.
    if let [first, second, ..] = text
        && is_space(first)
        && !is_space(second)
    {
        words.next();
    }
    let (mut pre, mut post) = (Vec::new(), Vec::new());
    let mut names = None;
    for word in words {
        match word {
            b"pre:" => names = Some(&mut pre),
            b"post:" => names = Some(&mut post),
            word => {
                if let Some(names) = &mut names {
                    names.push(word.to_vec());
                }
            }
        }
    }
    (pre, post)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse([("/etc/modprobe.d/a.conf".to_owned(), text.as_bytes())], "")
    }

    fn values<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<&'a str> {
        entries.map(|entry| std::str::from_utf8(&entry.value).unwrap()).collect()
    }

    #[test]
    fn lines_are_taken_or_passed_over() {
        let config = config(concat!(
            "alias net-pf-* af-x extra words\n",
            "\talias net-pf-10 ipv6\n",
            "# alias net-pf-10 comment\n",
            " # alias net-pf-10 comment\n",
            "alias net-pf-10\n",
            "alias net-pf-1] broken\n",
            "aliases net-pf-10 unknown\n",
            "alias net-pf-[0-9]0 nf-[a-b]\n",
            "alias net-pf-10 \\\n  wrapped\\\n-name\n",
            "alias net-pf-10 las\\t",
        ));
        assert_eq!(values(config.aliases_of(b"net_pf_10")), ["af_x", "ipv6", "nf_[a-b]", "wrapped_name", "last"]);
        assert_eq!(values(config.aliases_of(b"net_pf_9")), ["af_x"]);
    }

    #[test]
    fn commands_keep_their_text_and_the_first_counts() {
        let config = config("install nf-* /bin/true  $CMDLINE_OPTS\ninstall nf_nat exit 1\ninstall x\ninstall y \n");
        assert_eq!(config.install_named(b"nf_nat").unwrap().value, b"exit 1");
        let pattern = config.install_of(b"nf_nat").unwrap();
        assert_eq!(
            (pattern.value.as_slice(), config.source(pattern)),
            (&b"/bin/true  $CMDLINE_OPTS"[..], "/etc/modprobe.d/a.conf:1".to_owned())
        );
        assert!(config.install_of(b"x").is_none() && config.install_of(b"y").is_none());
    }

    #[test]
    fn lines_that_ask_us_are_no_commands() {
        let ours = super::super::install_line(b"nf_nat").unwrap();
        let config = config(&format!("{ours}\ninstall nf_* x\ninstall b /usr/sbin/modprobe-guard --hook b && y\n"));
        assert!(config.install_named(b"nf_nat").is_none());
        assert_eq!(config.installed_by(b"nf_nat").as_deref(), Some("/etc/modprobe.d/a.conf:2"));
        assert_eq!(config.installed_by(b"b").as_deref(), Some("/etc/modprobe.d/a.conf:3"));
    }

    #[test]
    fn softdeps_have_two_lists() {
        for (line, pre, post) in [
            ("softdep x pre: a b post: c", &["a", "b"][..], &["c"][..]),
            ("softdep x post: a pre: b\tc \r", &["b", "c"], &["a"]),
            ("softdep x a b", &[], &[]),
            ("softdep x pre:a post: b", &[], &["b"]),
            ("softdep x  pre: a post: b", &[], &["b"]),
            ("softdep x   pre: a  post:  b", &["a"], &["b"]),
            ("softdep ? pre: a", &["a"], &[]),
        ] {
            let config = config(line);
            let (_, softdep) = config.softdep_of(b"x").unwrap();
            let (found_pre, found_post) = softdep.names();
            assert!(found_pre.iter().eq(pre.iter().map(|name| name.as_bytes())), "{line}");
            assert!(found_post.iter().eq(post.iter().map(|name| name.as_bytes())), "{line}");
        }
        assert!(config("softdep x").softdep_of(b"x").is_none());
    }

    #[test]
    fn sources_name_the_line_where_a_wrapped_one_begins() {
        let text = "\n# c \\\nc\nblacklist \\\nnf-nat\noptions nf-conntrack a=1\tb=2\n";
        let files = [("/a.conf".to_owned(), text.as_bytes()), ("/b.conf".to_owned(), &b"blacklist nf_nat\n"[..])];
        let config = Config::parse(files, "modprobe.blacklist=pcspkr,nf-log nf-conntrack.hashsize=7 quiet");
        for (module, source) in [
            ("nf_nat", Some("/a.conf:4")),
            ("pcspkr", Some("kernel command line")),
            ("nf_log", None),
            ("nf_conntrack", None),
        ] {
            assert_eq!(config.blacklisted(module.as_bytes()).as_deref(), source, "{module}");
        }
        let options: Vec<_> = config.options_of(b"nf_conntrack").collect();
        assert_eq!(
            options,
            [(&b"a=1 b=2"[..], "/a.conf:6".to_owned()), (b"hashsize=7", "kernel command line".to_owned())]
        );
    }
}
