//! What is done with a request.

use crate::model::{Action, Closure, Command, IndexHealth, Module, ModuleState, NeededAs, Request, Requester, Verdict};
use crate::text::Text;

use super::pattern::fold;
use super::requester::Open;
use super::{Policy, Rule};

/// A request, and who made it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    request: &'a Request,
    requester: &'a Requester,
}

/// Which of the policy's blocks are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Blocks {
    All,
    Enforced,
}

/// What a rule or a default says of one module.
struct Word<'a> {
    action: Action,
    enforced: bool,
    /// None: a default.
    rule: Option<&'a Rule>,
    module: Option<&'a Text>,
    reason: Option<String>,
}

/// Judges the modules of `closure` that are not in the kernel yet, each by the first rule that matches it, and takes
/// the strictest word.
///
/// A block that is not enforced is reported and not carried out: what happens is what would have been decided had that
/// block not been written. If that is a block too, it is the verdict, since nothing of the former would be true.
pub fn decide(policy: &Policy, request: &Request, closure: &Closure, requester: &Requester) -> Verdict {
    let asked = Asked { request, requester };
    let first = strictest(policy, asked, closure, Blocks::All);
    if first.enforced {
        let carried_out = first.action;
        return first.verdict(carried_out);
    }
    let enforced = strictest(policy, asked, closure, Blocks::Enforced);
    let carried_out = enforced.action;
    if carried_out == Action::Block { enforced.verdict(carried_out) } else { first.verdict(carried_out) }
}

/// The rules that must be passed over, or are taken by default, because too little is known of the requester: of those
/// that come before whatever decides, in their order.
pub fn open_rules<'a>(
    policy: &'a Policy,
    request: &Request,
    closure: &Closure,
    requester: &Requester,
) -> Vec<Open<'a>> {
    let mut names = names_judged(request, closure);
    let mut open = Vec::new();
    for rule in &policy.rules {
        let about = |name: &Option<&Text>| rule.is_about(*name, &request.name);
        if !names.iter().any(about) {
            continue;
        }
        if let Some(rule) = Open::of(rule, request, requester) {
            open.push(rule);
        } else if policy.is_enforced(rule) && rule.is_about_requester(&policy.defaults, request, requester) {
            // Of these modules nothing further down decides.
            names.retain(|name| !about(name));
        }
    }
    open
}

/// Whether a rule that asks who has something to say of a request, be it that another one comes before it.
pub fn is_asked_who(policy: &Policy, request: &Request, closure: &Closure) -> bool {
    let names = names_judged(request, closure);
    policy.asks_who().any(|rule| names.iter().any(|name| rule.is_about(*name, &request.name)))
}

/// What rules are held against: modules and bare `install` lines; the name alone (`None`) if nothing would be loaded.
fn names_judged<'a>(request: &'a Request, closure: &'a Closure) -> Vec<Option<&'a Text>> {
    let mut names: Vec<Option<&Text>> = match unreadable(closure) {
        Some(_) => {
            let commands = closure.commands.iter().map(|command| &command.module);
            std::iter::once(&request.name).chain(commands).map(Some).collect()
        }
        None => judged(closure).map(|(name, _)| Some(name)).collect(),
    };
    if names.is_empty() {
        names.push(None);
    }
    names
}

fn strictest<'a>(policy: &'a Policy, asked: Asked<'a>, closure: &'a Closure, blocks: Blocks) -> Word<'a> {
    if let Some(why) = unreadable(closure) {
        let name = policy.first_match(Some(&asked.request.name), asked, blocks);
        let commands =
            closure.commands.iter().filter_map(|command| policy.first_match(Some(&command.module), asked, blocks));
        let words = name.map(|word| Word { module: None, ..word }).into_iter().chain(commands);
        return strictest_of(words).unwrap_or_else(|| {
            let reason = format!("defaults.on_failure: the module index could not be read: {why}");
            let word = policy.default_word(policy.defaults.on_failure, None, blocks).unwrap_or(Word::ALLOW);
            Word { reason: Some(reason), ..word }
        });
    }
    let mut is_any_judged = false;
    let words = judged(closure).filter_map(|(name, is_target)| {
        is_any_judged = true;
        policy.first_match(Some(name), asked, blocks).or_else(|| {
            let action = is_target.then_some(policy.defaults.action)?;
            policy.default_word(action, Some(name), blocks)
        })
    });
    let found = strictest_of(words);
    if is_any_judged {
        return found.unwrap_or(Word::ALLOW);
    }
    // Nothing would be loaded: only rules about the name alone have something to say.
    policy.first_match(None, asked, blocks).unwrap_or(Word::ALLOW)
}

/// The modules and bare `install` lines that are judged, and whether the name asked for stands for each.
fn judged(closure: &Closure) -> impl Iterator<Item = (&Text, bool)> {
    let modules = closure.modules.iter().filter(|module| module.state == ModuleState::Absent && !closure.is_served());
    let modules = modules.map(|module| (&module.name, module.needed_as == NeededAs::Target));
    let commands = closure.commands.iter().filter(|command| is_bare(command, &closure.modules));
    modules.chain(commands.map(|command| (&command.module, true)))
}

/// Why nothing can be said of what the name stands for, if that is so.
fn unreadable(closure: &Closure) -> Option<String> {
    match &closure.index {
        IndexHealth::Missing(why) => Some(why.clone()),
        IndexHealth::Partial(errors) if !closure.is_known() => Some(errors.join(", ")),
        IndexHealth::Partial(_) | IndexHealth::Intact => None,
    }
}

/// Whether the name of an `install` line is no module: then the line itself is what the request stands for.
fn is_bare(command: &Command, modules: &[Module]) -> bool {
    let folded = |name: &Text| name.as_bytes().iter().map(|byte| fold(*byte)).collect::<Vec<_>>();
    !modules.iter().any(|module| folded(&module.name) == folded(&command.module))
}

/// Of equally strict words the first; an enforced block is stricter than one that is not.
fn strictest_of<'a>(words: impl Iterator<Item = Word<'a>>) -> Option<Word<'a>> {
    words.reduce(|first, next| if (next.action, next.enforced) > (first.action, first.enforced) { next } else { first })
}

impl Policy {
    /// Whether a block that is carried out could be the verdict on a request for `name`, whatever it stands for and
    /// whoever asks.
    pub fn may_block(&self, name: &Text) -> bool {
        let default_blocks = self.defaults.action == Action::Block && self.defaults.enforce;
        let concerns = |rule: &Rule| rule.requests.as_ref().is_none_or(|names| names.matches(name.as_bytes()));
        let blocks = |rule: &&Rule| rule.action == Action::Block && self.is_enforced(rule);
        default_blocks || self.rules.iter().filter(blocks).any(concerns)
    }

    /// Whether what `rule` says is carried out, not only recorded.
    pub fn is_enforced(&self, rule: &Rule) -> bool {
        rule.action != Action::Block || rule.enforce.unwrap_or(self.defaults.enforce)
    }

    fn first_match<'a>(&'a self, module: Option<&'a Text>, asked: Asked<'_>, blocks: Blocks) -> Option<Word<'a>> {
        let Asked { request, requester } = asked;
        self.rules.iter().find_map(|rule| {
            let enforced = self.is_enforced(rule);
            let counts = enforced || blocks == Blocks::All;
            // Of a rule about the name alone, the name is what decided.
            let module_named = module.filter(|_| rule.modules.is_some());
            let matches = counts
                && rule.is_about(module, &request.name)
                && rule.is_about_requester(&self.defaults, request, requester);
            matches.then(|| Word {
                action: rule.action,
                enforced,
                rule: Some(rule),
                module: module_named,
                reason: rule.reason.clone(),
            })
        })
    }

    fn default_word<'a>(&self, action: Action, module: Option<&'a Text>, blocks: Blocks) -> Option<Word<'a>> {
        let enforced = action != Action::Block || self.defaults.enforce;
        let counts = enforced || blocks == Blocks::All;
        counts.then_some(Word { action, enforced, rule: None, module, reason: None })
    }
}

impl Word<'_> {
    /// Nobody said anything.
    const ALLOW: Word<'static> = Word { action: Action::Allow, enforced: true, rule: None, module: None, reason: None };

    fn verdict(self, carried_out: Action) -> Verdict {
        Verdict {
            action: self.action,
            enforced: self.enforced,
            rule: self.rule.map(|rule| rule.id.clone()),
            source: self.rule.map_or_else(|| "default".to_owned(), |rule| rule.source.clone()),
            module: self.module.cloned(),
            reason: self.reason,
            carried_out,
        }
    }
}

#[cfg(test)]
mod tests;
