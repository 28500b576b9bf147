//! What a request would load: kmod's walk over dependencies and soft dependencies (`kmod_module_get_probe_list`).
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::config::{Config, Entry};
use super::lookup::{Dependencies, Found, Lookup};
use super::tree::Tree;
use crate::model::{Blacklisted, Closure, Command, Module, ModuleState, NeededAs};
use crate::text::Text;

/// Options of modprobe(8) that change what is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-i`, `--ignore-install`: no `install` line and no soft dependencies of the targets themselves.
    pub ignore_install: bool,
    /// `-b`, `--use-blacklist`: `blacklist` binds targets that are asked for by their own name as well.
    pub use_blacklist: bool,
}

/// What modprobe would load if it were asked for `name`, in load order, each module once at its first place.
///
/// `is_live` tells whether a module is loaded and initialised. What is live or built in is listed as well, since
/// modprobe passes over it only when its turn comes. A dependency is listed even if its file is gone. A name that
/// leads to no module, such as one with `alias NAME off`, gives an empty closure.
pub fn resolve(name: &[u8], flags: Flags, tree: &Tree, config: &Config, is_live: impl Fn(&[u8]) -> bool) -> Closure {
    let lookup = Lookup::new(tree, config);
    let mut walk = Walk::new(&lookup, config);
    let mut closure = Closure::default();
    let mut places = BTreeMap::new();
    for target in lookup.targets(name) {
        let target = walk.thing(target);
        let bound = target.alias.is_some() || flags.use_blacklist;
        if let Some(source) = config.blacklisted(&target.name).filter(|_| bound) {
            let blacklisted = Blacklisted { module: Text(target.name.clone()), source };
            if !closure.blacklisted.contains(&blacklisted) {
                closure.blacklisted.push(blacklisted);
            }
            continue;
        }
        for thing in walk.load_list(&target, flags.ignore_install) {
            match places.get(&thing.name).and_then(|&place: &usize| closure.modules.get_mut(place)) {
                Some(known) => known.needed_as = stronger(known.needed_as, thing.needed_as.get()),
                None => {
                    let place = closure.modules.len();
                    take(&mut closure, &thing, &lookup, config, &is_live);
                    if closure.modules.len() > place {
                        places.insert(thing.name.clone(), place);
                    }
                }
            }
        }
    }
    closure.index = lookup.health();
    closure
}

/// Adds `thing` to the closure: a module, a command, both (the command then stands for the load), or nothing.
fn take(closure: &mut Closure, thing: &Thing, lookup: &Lookup, config: &Config, is_live: &impl Fn(&[u8]) -> bool) {
    let name = &thing.name;
    let in_image = thing.builtin || (!thing.has_file.get() && lookup.is_builtin(name));
    let state = match in_image {
        true => ModuleState::Builtin,
        false if is_live(name) => ModuleState::Live,
        false => ModuleState::Absent,
    };
    if in_image || thing.has_file.get() || thing.may_exist.get() {
        let needed_as = thing.needed_as.get();
        closure.modules.push(Module { name: Text(name.clone()), state, needed_as });
    }
    let command = thing.command.or_else(|| config.install_of(name));
    if let (Some(entry), ModuleState::Absent, false) = (command, state, thing.ignores_command.get()) {
        let command =
            Command { module: Text(name.clone()), command: Text(entry.value.clone()), source: config.source(entry) };
        if !closure.commands.contains(&command) {
            closure.commands.push(command);
        }
    }
}

fn stronger(one: NeededAs, other: NeededAs) -> NeededAs {
    match (one, other) {
        (NeededAs::Target, _) | (_, NeededAs::Target) => NeededAs::Target,
        (NeededAs::Dependency, _) | (_, NeededAs::Dependency) => NeededAs::Dependency,
        (NeededAs::Softdep, NeededAs::Softdep) => NeededAs::Softdep,
    }
}

/// kmod's `struct kmod_module`: a module as it was found. One found by its name and one found by an alias are two
/// things, each walked on its own; this can be seen in the order.
struct Thing<'a> {
    name: Vec<u8>,
    alias: Option<Vec<u8>>,
    command: Option<&'a Entry>,
    builtin: bool,
    /// There is a module file.
    has_file: Cell<bool>,
    /// Nobody can tell whether there is one: `modules.dep.bin` is damaged.
    may_exist: Cell<bool>,
    needed_as: Cell<NeededAs>,
    visited: Cell<bool>,
    ignores_command: Cell<bool>,
}

/// What tells one thing from another: name and alias.
type Identity = (Vec<u8>, Option<Vec<u8>>);

/// Things to load before and after another one.
#[derive(Default)]
struct Around<'a> {
    pre: Vec<Rc<Thing<'a>>>,
    post: Vec<Rc<Thing<'a>>>,
}

/// What is left to do, so that no depth of dependencies needs a deep stack.
enum Step<'a> {
    /// Load a thing with all its dependencies, unless that was done.
    Probe { thing: Rc<Thing<'a>>, ignore_command: bool },
    /// Load a thing with its soft dependencies.
    Fill(Rc<Thing<'a>>),
    /// Load just this.
    Load { thing: Rc<Thing<'a>>, ignore_command: bool },
}

/// Puts the probing of `things` on the pile, but for what was visited.
fn probe<'a>(things: &[Rc<Thing<'a>>], steps: &mut Vec<Step<'a>>) {
    let left = things.iter().rev().filter(|thing| !thing.visited.get());
    steps.extend(left.map(|thing| Step::Probe { thing: Rc::clone(thing), ignore_command: false }));
}

struct Walk<'a, 'b> {
    lookup: &'b Lookup<'a>,
    config: &'a Config,
    things: BTreeMap<Identity, Rc<Thing<'a>>>,
    dependencies: BTreeMap<Vec<u8>, Dependencies>,
    /// By the place of the `softdep` line.
    softdeps: BTreeMap<usize, Rc<Around<'a>>>,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(lookup: &'b Lookup<'a>, config: &'a Config) -> Walk<'a, 'b> {
        Walk { lookup, config, things: BTreeMap::new(), dependencies: BTreeMap::new(), softdeps: BTreeMap::new() }
    }

    fn thing(&mut self, found: Found<'a>) -> Rc<Thing<'a>> {
        let Found { name, alias, command, builtin } = found;
        let thing = self.things.entry((name.clone(), alias.clone())).or_insert_with(|| {
            Rc::new(Thing {
                name,
                alias,
                command,
                builtin,
                has_file: Cell::new(false),
                may_exist: Cell::new(false),
                needed_as: Cell::new(NeededAs::Softdep),
                visited: Cell::new(false),
                ignores_command: Cell::new(false),
            })
        });
        Rc::clone(thing)
    }

    fn things(&mut self, names: &[Vec<u8>]) -> Vec<Rc<Thing<'a>>> {
        let lookup = self.lookup;
        names.iter().flat_map(|name| lookup.targets(name)).map(|found| self.thing(found)).collect()
    }

    /// The things that modprobe takes in hand for one target, in order, some more than once.
    fn load_list(&mut self, target: &Rc<Thing<'a>>, ignore_command: bool) -> Vec<Rc<Thing<'a>>> {
        self.things.values().for_each(|thing| thing.visited.set(false));
        target.needed_as.set(NeededAs::Target);
        let mut list = Vec::new();
        let mut steps = vec![Step::Probe { thing: Rc::clone(target), ignore_command }];
        while let Some(step) = steps.pop() {
            // What a step leaves to do is put on the pile backwards: the top is done next.
            match step {
                Step::Load { thing, ignore_command } => {
                    thing.ignores_command.set(ignore_command);
                    list.push(thing);
                }
                Step::Probe { thing, ignore_command } => {
                    if thing.visited.replace(true) {
                        continue;
                    }
                    let dependencies = self.dependencies(&thing);
                    steps.push(match ignore_command {
                        true => Step::Load { thing, ignore_command },
                        false => Step::Fill(thing),
                    });
                    steps.extend(dependencies.into_iter().rev().map(Step::Fill));
                }
                Step::Fill(thing) => {
                    let around = self.softdeps(&thing.name).unwrap_or_default();
                    // A module that has soft dependencies never runs its own command.
                    let ignore_command = !(around.pre.is_empty() && around.post.is_empty());
                    probe(&around.post, &mut steps);
                    steps.push(Step::Load { thing, ignore_command });
                    probe(&around.pre, &mut steps);
                }
            }
        }
        list
    }

    /// The things that `thing` depends on, in load order; notes on the way whether it has a file.
    fn dependencies(&mut self, thing: &Thing) -> Vec<Rc<Thing<'a>>> {
        let lookup = self.lookup;
        let dependencies =
            self.dependencies.entry(thing.name.clone()).or_insert_with(|| lookup.dependencies(&thing.name)).clone();
        let names = match dependencies {
            Dependencies::Known(names) => names,
            Dependencies::NoModule => return Vec::new(),
            Dependencies::Unreadable => {
                thing.may_exist.set(true);
                return Vec::new();
            }
        };
        thing.has_file.set(true);
        let mut things = Vec::with_capacity(names.len());
        for name in names.iter() {
            let needed = self.thing(Found { name: name.clone(), alias: None, command: None, builtin: false });
            needed.has_file.set(true);
            needed.needed_as.set(stronger(needed.needed_as.get(), NeededAs::Dependency));
            things.push(needed);
        }
        things
    }

    fn softdeps(&mut self, module: &[u8]) -> Option<Rc<Around<'a>>> {
        let (place, softdep) = self.config.softdep_of(module)?;
        if let Some(known) = self.softdeps.get(&place) {
            return Some(Rc::clone(known));
        }
        let (pre, post) = softdep.names();
        let around = Rc::new(Around { pre: self.things(&pre), post: self.things(&post) });
        self.softdeps.insert(place, Rc::clone(&around));
        Some(around)
    }
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
