//! iptables-legacy in a root of its own, a container's or a chroot's: what it needs to be there, and putting it there.
//!
//! Until the kernel has `ip_tables`, libxtables runs the program named in `/proc/sys/kernel/modprobe` itself, and looks
//! for it in *its* root. There a `/sbin/modprobe` may well be, and our helper is not: arming would end what worked.
//! Once the module is live libxtables runs nobody. The kernel asks for each table and match, and so asks us.
//!
//! So `guard enable` has the modules loaded, by the helper as libxtables on the host would run it: one verdict, one
//! record. That is not for nothing. A live `ip_tables` is there for everybody: users who are root only in a user
//! namespace can reach it and ask for tables, which they could not while only root of the host could bring it in. Hence
//! it is loaded only where the policy permits it to *whoever* asks. Where a rule wants to know who, or modprobe.d holds
//! the module back, somebody did not mean everybody: then we say what to do, and leave it. `arp_tables` and `ebtables`
//! are left in any case: their users in containers are few, and their code would be as open.

use super::enable;
use super::ways::{self, Way};
use crate::host::{HELPER, Host};
use crate::judge::{Judge, Judgement};
use crate::model::{Action, Caller, Confidence, Request, Requester};
use crate::policy::requester::Open;
use crate::text::Text;

/// What libxtables asks for (`xtables_load_ko`), for iptables and ip6tables.
const MODULES: [&str; 2] = ["ip_tables", "ip6_tables"];
/// Whom it is about.
const WHO: &str = "iptables-legacy in containers and chroots";

/// One of the modules on a host.
struct Candidate {
    name: &'static str,
    prospect: Prospect,
}

/// What becomes of it.
#[derive(PartialEq)]
enum Prospect {
    /// Live, or part of the kernel.
    There,
    /// The kernel has no such module.
    None,
    /// The policy permits it to whoever asks.
    Permitted,
    /// The policy blocks it to whoever asks; by what.
    Blocked(String),
    /// The policy asks who; which rule.
    AsksWho(String),
    /// A line of modprobe.d speaks against it; which.
    Configured(String),
}

/// Modules that are not loaded for one reason.
struct Withheld<'a> {
    prospect: &'a Prospect,
    reason: &'a str,
    names: Vec<&'static str>,
}

impl Withheld<'_> {
    fn remedy(&self) -> String {
        match self.prospect {
            Prospect::Blocked(_) => "permit it to all, then guard apply and guard enable".to_owned(),
            Prospect::Configured(_) => "take that line away, then guard enable".to_owned(),
            _ => format!("modprobe -a {}, at each boot by lines in /etc/modules-load.d", self.names.join(" ")),
        }
    }
}

/// Loads what is missing and permitted; says what was done, and what is to do.
pub fn provide(host: &Host) -> Vec<String> {
    if !host.is_this() || !is_looked_for(host) {
        return Vec::new();
    }
    let candidates = candidates(host);
    let (mut said, mut loaded) = (Vec::new(), Vec::new());
    for name in names(&candidates, |prospect| *prospect == Prospect::Permitted) {
        // Judged and recorded like any other request.
        let ran = enable::run_helper(&[name, "-q"]);
        if host.is_live(name.as_bytes()) {
            loaded.push(name);
            continue;
        }
        let is_stuck = ran.is_err();
        let why = ran.map_or_else(|error| error, |status| format!("{HELPER} {name}: ended with {status}"));
        said.push(format!("not loaded: {name}: {why}; {WHO} fails without it: guard doctor {name} tells more"));
        if is_stuck {
            // A boot may wait for us.
            break;
        }
    }
    if !loaded.is_empty() {
        let loaded = loaded.join(", ");
        said.push(format!("loaded {loaded}: {WHO} would find no {HELPER} to run"));
        let rule = format!("a rule that blocks {loaded} to them (userns = \"other\") or to all prevents both");
        said.push(format!("  user namespaces can ask for tables now, as far as the policy permits; {rule}"));
    }
    for withheld in withheld(&candidates) {
        said.push(format!("not loaded: {}: {}", withheld.names.join(", "), withheld.reason));
        said.push(format!("  {WHO} fails without; if it has to work: {}", withheld.remedy()));
    }
    said
}

/// How the way is covered; `None` where the kernel has no such modules, or libxtables does not look for us.
pub fn way(host: &Host, armed: bool) -> Option<Way> {
    let candidates = candidates(host);
    let is_about_none = candidates.iter().all(|candidate| candidate.prospect == Prospect::None);
    if is_about_none || (armed && !is_looked_for(host)) {
        return None;
    }
    if !armed {
        return Some(Way::new(WHO, false, "nothing", Some("guard enable")));
    }
    let is_open =
        |prospect: &Prospect| matches!(prospect, Prospect::Permitted | Prospect::AsksWho(_) | Prospect::Configured(_));
    let open = names(&candidates, is_open);
    if open.is_empty() {
        let there = names(&candidates, |prospect| *prospect == Prospect::There);
        let by = match there.is_empty() {
            true => "the policy, which blocks what it needs".to_owned(),
            false => format!("kernel.modprobe, by {} being there", there.join(", ")),
        };
        return Some(Way::new(WHO, true, by, None));
    }
    let withheld = withheld(&candidates);
    let (by, closed_by) = match withheld.iter().find(|withheld| is_open(withheld.prospect)) {
        Some(withheld) => (format!("nothing: {}", withheld.reason), withheld.remedy()),
        None => ("nothing: it fails before it asks".to_owned(), "guard enable".to_owned()),
    };
    let modules = open.into_iter().map(Text::from).collect();
    Some(Way { modules, ..Way::new(WHO, false, by, Some(&closed_by)) })
}

/// Whether it is our helper that libxtables looks for. Where the kernel has another path, a root has that or not, as
/// ever.
fn is_looked_for(host: &Host) -> bool {
    enable::current(host).is_ok_and(|helper| helper == HELPER)
}

fn names(candidates: &[Candidate], are: impl Fn(&Prospect) -> bool) -> Vec<&'static str> {
    candidates.iter().filter(|candidate| are(&candidate.prospect)).map(|candidate| candidate.name).collect()
}

fn withheld(candidates: &[Candidate]) -> Vec<Withheld<'_>> {
    let mut all: Vec<Withheld> = Vec::new();
    for Candidate { name, prospect } in candidates {
        let (Prospect::Blocked(reason) | Prospect::AsksWho(reason) | Prospect::Configured(reason)) = prospect else {
            continue;
        };
        match all.iter_mut().find(|other| other.reason == reason) {
            Some(other) => other.names.push(name),
            None => all.push(Withheld { prospect, reason, names: vec![name] }),
        }
    }
    all
}

fn candidates(host: &Host) -> Vec<Candidate> {
    let Some(kernel) = host.kernel().ok().filter(|_| !ways::are_modules_disabled(host)) else { return Vec::new() };
    let policy = host.policy_in_force().policy;
    let judge = Judge::new(host, &kernel, &policy);
    MODULES.map(|name| Candidate { name, prospect: prospect(&judge, name) }).into()
}

fn prospect(judge: &Judge, name: &str) -> Prospect {
    let judged =
        |requester: &Requester| judge.judge(Request { name: Text::from(name), caller: Caller::Xtables }, requester);
    // One of whom nothing is known but that he is there: whatever a rule asks of him is open.
    let somebody = Requester { confidence: Confidence::Exact, ..Requester::unknown() };
    let (known, unknown) = (judged(&somebody), judged(&Requester::unknown()));
    if known.closure.is_served() {
        return Prospect::There;
    }
    if !known.closure.is_known() {
        return Prospect::None;
    }
    let open = judge.open_rules(&known, &somebody);
    let may_block = |open: &&Open| open.rule.action == Action::Block && judge.policy().is_enforced(open.rule);
    match (is_blocked(&known), is_blocked(&unknown)) {
        (true, true) if open.is_empty() => return Prospect::Blocked(blocked_by(&known)),
        (false, false) if !open.iter().any(|open| may_block(&open)) => {}
        (is_known_blocked, _) => {
            let asks = open.iter().find(may_block).or(open.first());
            let decided = if is_known_blocked { &known } else { &unknown };
            return Prospect::AsksWho(asks.map_or_else(
                || blocked_by(decided),
                |Open { rule, .. }| format!("rule \"{}\" ({}) asks who, and a load is for all", rule.id, rule.source),
            ));
        }
    }
    // modprobe loads by its own name even what is blacklisted, and a container's modprobe reads another modprobe.d. But
    // they were asked to, and nobody asks us.
    match (known.closure.commands.first(), judge.config().blacklisted(name.as_bytes())) {
        (Some(line), _) => {
            Prospect::Configured(format!("modprobe.d runs a command in place of {} ({})", line.module, line.source))
        }
        (None, Some(source)) => Prospect::Configured(format!("modprobe.d blacklists it ({source})")),
        (None, None) => Prospect::Permitted,
    }
}

fn is_blocked(judgement: &Judgement) -> bool {
    judgement.verdict.carried_out == Action::Block
}

fn blocked_by(Judgement { verdict, .. }: &Judgement) -> String {
    match &verdict.rule {
        Some(rule) => format!("rule \"{rule}\" ({}) blocks it", verdict.source),
        None => "defaults.action of the policy blocks it".to_owned(),
    }
}
