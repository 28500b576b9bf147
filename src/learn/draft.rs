//! Groups -> the rules that a person would write: what stays refused, what is sized, then who may have what.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Action;
use crate::text::Text;

use super::closure::{Entry, grouped};
use super::groups::{Groups, Key, Role, What};
use super::keys::CONNTRACK;
use super::tally::Tally;
use super::who::{Common, NO_UNIT, Namespaces, Users, Who};

/// What so many different requesters asked for has one rule: for their units, else for all who are what they all were.
const MANY: usize = 4;
/// So many requesters are named where a rule is for all.
const SHOWN: usize = 4;

/// What became of what was permitted.
const PERMITTED: [Role; 5] = [Role::Permitted, Role::Live, Role::Counted, Role::Needed, Role::Sized];

/// What the policy is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For a target that no rule matches: allow, or block, which makes it an allow-list.
    pub default: Action,
    /// Whether requesters count that were found otherwise than by the recorder or as the parent.
    pub trusts_likely: bool,
    /// Without counts, hosts, days and what modules need.
    pub bare: bool,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// What its id is made of.
    pub name: String,
    /// Why it is there, in lines.
    pub why: Vec<String>,
    /// What it is about.
    pub patterns: Patterns,
    /// Who.
    pub asking: Asking,
    /// What it says.
    pub action: Action,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Who; none: everybody.
    pub who: Option<Who>,
    /// What they have to be besides.
    pub common: Common,
}

/// Modules, or names asked for.
#[derive(Debug)]
pub enum Patterns {
    /// For `modules`.
    Modules(Vec<Entry>),
    /// For `requests`.
    Requests(Vec<Entry>),
}

/// What the groups add up to.
#[derive(Debug, Default)]
pub struct Draft {
    /// The rules, in the order in which they count.
    pub rules: Vec<Rule>,
    /// What was refused, and no rule keeps refused: others, whom a rule cannot tell apart, were permitted it.
    pub lost: Vec<(What, Who, Tally)>,
}

/// What was asked for, by whom.
type Asked = BTreeMap<What, BTreeMap<Who, Tally>>;

/// Makes rules of groups.
pub fn draft(groups: &Groups, options: &Options) -> Draft {
    let refused = of_roles(groups, &[Role::BlockedByRule, Role::BlockedByDefault]);
    let mut wanted = of_roles(groups, &[Role::Permitted]);
    add_counted(&mut wanted, groups);
    let conntrack = What::Module(CONNTRACK.to_owned());
    let is_judged = wanted.contains_key(&conntrack);
    add_live(&mut wanted, groups, &refused);
    let sized = of_roles(groups, &[Role::Sized]);
    let mut draft = Draft::default();
    let is_permitted = |what: &What| wanted.contains_key(what) || sized.contains_key(what);
    keep_refused(&mut draft, groups, options, &refused, &is_permitted);
    // The first rule that matches counts, and that is the one that sizes.
    wanted.retain(|what, _| !sized.contains_key(what));
    wanted.values_mut().for_each(join_users);
    for (what, requesters) in sized {
        push_sized(&mut draft, groups, options, what, &requesters);
    }
    // Where it was always there no record tells whether it would have been sized. Whoever permits no more than that in a
    // rule before the one that sizes takes the size away.
    if let Some(unjudged) = wanted.remove(&conntrack) {
        let action = if is_judged { Action::Allow } else { Action::AllowSysctl };
        if action == Action::Allow {
            wanted.insert(conntrack, unjudged);
        } else {
            permit(&mut draft, Asked::from([(conntrack, unjudged)]), &refused, action);
        }
    }
    permit(&mut draft, wanted, &refused, Action::Allow);
    draft
}

/// A rule for all who get it, by whatever needs it. In an allow-list it is for root, if nobody else ever got it: it
/// permits to ask for it by itself as well.
fn push_sized(draft: &mut Draft, groups: &Groups, options: &Options, what: What, requesters: &BTreeMap<Who, Tally>) {
    let (What::Module(name) | What::Request(name)) = &what;
    let name = name.clone();
    // Where all is permitted, whoever came first without the rule would leave the table as small as it is.
    let is_root = options.default == Action::Block
        && groups
            .groups
            .iter()
            .filter(|(key, _)| PERMITTED.contains(&key.role) && key.what == what)
            .all(|(key, tally)| key.who.is_named() && tally.common.is_some_and(|common| common.is_root));
    let whose = if is_root { "As root, whoever" } else { "Whoever" };
    let mut why = vec![format!("{whose} gets {}: its table is sized.", Text::from(name.as_str())), by(requesters)];
    if options.default == Action::Block && !is_root {
        why.push(
            "Some were not root for certain: so it is for all, also for whoever asks for it by itself.".to_owned(),
        );
    }
    let asking = Asking { who: None, common: Common { is_root, is_in_host: false } };
    let tally = sum(requesters.values());
    push(draft, &format!("size-{name}"), &why, vec![(what, tally)], asking, Action::AllowSysctl);
}

/// Rules for what was permitted.
fn permit(draft: &mut Draft, wanted: Asked, refused: &Asked, action: Action) {
    let (mut of_all, mut of_many) = (Vec::new(), BTreeMap::<Common, Vec<_>>::new());
    let mut of_each: BTreeMap<(Who, Common), Vec<(What, Tally)>> = BTreeMap::new();
    for (what, requesters) in wanted {
        if requesters.keys().any(|who| !who.is_named()) {
            of_all.push((what, requesters));
        } else if requesters.len() >= MANY && !refused.contains_key(&what) {
            let all = sum(requesters.values());
            let common = all.common.unwrap_or_default();
            match Who::all_units(requesters.keys()) {
                Some(units) => {
                    let beside = units.beside(common);
                    of_each.entry((units, beside)).or_default().push((what, all));
                }
                None => of_many.entry(common).or_default().push((what, requesters)),
            }
        } else {
            for (who, tally) in requesters {
                let beside = who.beside(tally.common.unwrap_or_default());
                of_each.entry((who, beside)).or_default().push((what.clone(), tally));
            }
        }
    }
    let size = if action == Action::AllowSysctl { "size-" } else { "" };
    for ((who, common), whats) in of_each {
        let mut why = vec![who.shown()];
        if matches!(&who, Who::Container { unit: Some(unit), .. } if unit == NO_UNIT) {
            why.push(
                "What looks like a container there is one where systemd has users' processes in units.".to_owned(),
            );
        }
        let name = format!("{size}{}{}", slug(&who), suffix(common));
        push(draft, &name, &why, whats, Asking { who: Some(who), common }, action);
    }
    let all_of = |asked: Vec<(What, BTreeMap<Who, Tally>)>| {
        let who: BTreeMap<Who, Tally> = asked.iter().flat_map(|(_, requesters)| requesters.clone()).collect();
        let whats = asked.into_iter().map(|(what, requesters)| (what, sum(requesters.values()))).collect();
        (by(&who), whats)
    };
    for (common, asked) in of_many {
        let (who, whats) = all_of(asked);
        let whose = match (common.is_root, common.is_in_host) {
            (true, true) => "As root in the host's user namespace, whoever asks",
            (true, false) => "As root, whoever asks",
            (false, true) => "In the host's user namespace, whoever asks",
            (false, false) => "Whoever asks",
        };
        let why = [format!("{whose}: many different requesters did."), who];
        let name = format!("{size}many-requesters{}", suffix(common));
        push(draft, &name, &why, whats, Asking { who: None, common }, action);
    }
    let (who, whats) = all_of(of_all);
    let why = ["Whoever asks: of some who did it is not certain who they were.".to_owned(), who];
    push(draft, &format!("{size}unknown-requesters"), &why, whats, Asking::default(), action);
}

fn of_roles(groups: &Groups, roles: &[Role]) -> Asked {
    let mut asked = Asked::new();
    for (key, tally) in groups.groups.iter().filter(|(key, _)| roles.contains(&key.role)) {
        asked.entry(key.what.clone()).or_default().entry(key.who.clone()).or_default().add(tally);
    }
    asked
}

/// Adds what was counted instead of written to what records tell: by the name that was asked for, and for whom records
/// know as well. A count does not tell how certain it is who asked.
fn add_counted(wanted: &mut Asked, groups: &Groups) {
    let known: BTreeSet<Who> = wanted.values().flat_map(|requesters| requesters.keys().cloned()).collect();
    let mut targets: BTreeMap<&str, Vec<What>> = BTreeMap::new();
    for (key, tally) in groups.groups.iter().filter(|(key, _)| matches!(key.role, Role::Permitted | Role::Live)) {
        for name in &tally.names {
            let targets = targets.entry(name).or_default();
            if !targets.contains(&key.what) {
                targets.push(key.what.clone());
            }
        }
    }
    for (what, requesters) in of_roles(groups, &[Role::Counted]) {
        let whats = match &what {
            What::Request(name) => targets.get(name.as_str()).cloned().unwrap_or_else(|| vec![what.clone()]),
            What::Module(_) => vec![what],
        };
        for what in whats {
            let all = wanted.entry(what).or_default();
            for (who, tally) in &requesters {
                let who = if known.contains(who) { who.clone() } else { Who::Unnamed };
                all.entry(who).or_default().add(tally);
            }
        }
    }
}

/// Adds what was there already.
fn add_live(wanted: &mut Asked, groups: &Groups, refused: &Asked) {
    for (what, requesters) in of_roles(groups, &[Role::Live]) {
        for (who, tally) in requesters.into_iter().filter(|(who, _)| !is_refused(refused, &what, who)) {
            wanted.entry(what.clone()).or_default().entry(who).or_default().add(&tally);
        }
    }
}

/// Whether `who` may be one of those who were refused it: that they got what was there already, nobody judged.
fn is_refused(refused: &Asked, what: &What, who: &Who) -> bool {
    refused.get(what).is_some_and(|requesters| requesters.keys().any(|other| may_be(other, who)))
}

/// What any user may have, root may as well.
fn join_users(requesters: &mut BTreeMap<Who, Tally>) {
    let roots: Vec<(Who, Who)> = requesters.keys().filter_map(|who| Some((who.clone(), who.of_all_users()?))).collect();
    for (root, all) in roots {
        if requesters.contains_key(&all)
            && let Some(tally) = requesters.remove(&root)
        {
            requesters.entry(all).or_default().add(&tally);
        }
    }
}

/// Rules for what was refused: for all if nobody was permitted it, else for whom it was refused to.
fn keep_refused(
    draft: &mut Draft,
    groups: &Groups,
    options: &Options,
    refused: &Asked,
    is_permitted: &dyn Fn(&What) -> bool,
) {
    let mut of_all = Vec::new();
    let mut of_each: BTreeMap<Who, Vec<(What, Tally)>> = BTreeMap::new();
    for (what, requesters) in refused {
        let permitted = permitted(groups, refused, what);
        let by_rule = groups.groups.keys().any(|key| key.role == Role::BlockedByRule && key.what == *what);
        // What the default refused it refuses again, unless a rule permits it; that may hold for more than it was made for.
        if !by_rule && options.default == Action::Block && !is_permitted(what) {
            continue;
        }
        if permitted.is_empty() {
            of_all.push((what.clone(), sum(requesters.values())));
            continue;
        }
        for (who, tally) in requesters {
            if permitted.iter().any(|other| may_be(who, other)) {
                draft.lost.push((what.clone(), who.clone(), tally.clone()));
            } else {
                of_each.entry(who.clone()).or_default().push((what.clone(), tally.clone()));
            }
        }
    }
    let why = ["Was refused already, and permitted to nobody.".to_owned()];
    push(draft, "refused", &why, of_all, Asking::default(), Action::Block);
    for (who, whats) in of_each {
        let why = [format!("{}: was refused already, and permitted to others.", who.shown())];
        let name = format!("refused-{}", slug(&who));
        push(draft, &name, &why, whats, Asking { who: Some(who), common: Common::default() }, Action::Block);
    }
}

/// Who was permitted it, or something that needs it.
fn permitted(groups: &Groups, refused: &Asked, what: &What) -> BTreeSet<Who> {
    let is_it = |key: &Key, tally: &Tally| match what {
        What::Module(_) => key.what == *what,
        What::Request(name) => tally.names.contains(name),
    };
    let is_permitted = |key: &Key| match key.role {
        Role::Live => !is_refused(refused, what, &key.who),
        role => PERMITTED.contains(&role),
    };
    let those = groups.groups.iter().filter(|(key, tally)| is_permitted(key) && is_it(key, tally));
    those.map(|(key, _)| key.who.clone()).collect()
}

/// Whether a rule that blocks for `refused` may hit a request of `permitted`: such a rule counts also where it is not
/// certain who asked, and one by executable or user asks neither for unit nor for container.
fn may_be(refused: &Who, permitted: &Who) -> bool {
    match (refused, permitted) {
        (Who::Unnamed | Who::Unknown, _) | (_, Who::Unnamed) => true,
        (_, Who::Unknown) => false,
        (Who::Units(ours, users), Who::Units(theirs, others)) => {
            let is_one_user = users == others || *users == Users::Any || *others == Users::Any;
            is_one_user && ours.iter().any(|unit| theirs.contains(unit))
        }
        (Who::Container { .. }, Who::Container { .. }) => true,
        (Who::Units(..), Who::Container { .. } | Who::Exes(..) | Who::Root) => false,
        (Who::Container { .. }, Who::Units(..) | Who::Exes(..) | Who::Root) => false,
        (Who::Exes(..) | Who::Root, _) => true,
    }
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.add(tally);
        sum
    })
}

fn by(requesters: &BTreeMap<Who, Tally>) -> String {
    let mut shown: Vec<String> = requesters.keys().take(SHOWN).map(Who::shown).collect();
    if let Some(more) = requesters.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    format!("By {}.", shown.join(", "))
}

/// One rule for modules and one for names: one with both would ask for both.
fn push(draft: &mut Draft, name: &str, why: &[String], whats: Vec<(What, Tally)>, asking: Asking, action: Action) {
    let (mut modules, mut requests) = (Vec::new(), Vec::new());
    for (what, tally) in whats {
        match what {
            What::Module(module) => modules.push((module, tally)),
            What::Request(pattern) => requests.push(Entry { pattern, tally, is_below: false }),
        }
    }
    let (name, why) = (name.to_owned(), why.to_vec());
    if !modules.is_empty() {
        let (name, why, asking) = (name.clone(), why.clone(), asking.clone());
        draft.rules.push(Rule { name, why, patterns: Patterns::Modules(grouped(modules)), asking, action });
    }
    if !requests.is_empty() {
        let name = format!("{name}-requests");
        let mut why = why;
        why.push("No record tells what these names stood for.".to_owned());
        draft.rules.push(Rule { name, why, patterns: Patterns::Requests(requests), asking, action });
    }
}

/// What the name of a rule says of what its requesters have to be besides.
fn suffix(common: Common) -> &'static str {
    match (common.is_root, common.is_in_host) {
        (true, true) => "-root-host",
        (true, false) => "-root",
        (false, true) => "-host",
        (false, false) => "",
    }
}

/// What a rule about `who` is called.
fn slug(who: &Who) -> String {
    let of = |names: &[String], users: Users| names.join("-") + if users == Users::Others { "-users" } else { "" };
    match who {
        Who::Units(names, users) | Who::Exes(names, users) => of(names, *users),
        Who::Container { name, unit, userns } => {
            let name = name.as_ref().map_or("containers".to_owned(), |name| format!("container-{name}"));
            let name = match unit.as_deref() {
                None | Some(NO_UNIT) => name,
                Some(unit) => format!("{name}-{unit}"),
            };
            match userns {
                Some(Namespaces::Other) => name + "-userns",
                _ => name,
            }
        }
        Who::Root => "root".to_owned(),
        Who::Unnamed | Who::Unknown => "unknown".to_owned(),
    }
}
