//! `guard --dry-run`: what a request would do, and why.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::assumed::Assumed;
use super::terminal::{Terminal, Tone};
use super::{Common, exit};
use crate::conntrack::{self, Wanted};
use crate::host::Host;
use crate::judge::{Judge, Judgement};
use crate::model::{Action, IndexHealth, ModuleState, NeededAs, Record, Request, Requester, Setting};
use crate::modules::normalise;
use crate::policy::requester::{Key, Open};
use crate::policy::{self, Policy};
use crate::text::Text;

/// Judges each of `names` as a request by whoever `facts` (`KEY=VALUE`) describe; prints what would be done.
pub fn run(host: &Host, common: &Common, by: Option<&Path>, facts: &[String], names: &[OsString]) -> u8 {
    let Assumed { requester, caller } = match Assumed::of(facts) {
        Ok(assumed) => assumed,
        Err(error) => {
            complain!("guard: --as {error}");
            return exit::CANNOT_TELL;
        }
    };
    let (policy, kernel) = match policy_to_judge_by(host, by).and_then(|policy| Ok((policy, kernel(host, common)?))) {
        Ok(found) => found,
        Err(errors) => {
            errors.iter().for_each(|error| complain!("guard: {error}"));
            return exit::CANNOT_TELL;
        }
    };
    let judge = Judge::new(host, &kernel, &policy);
    let wanted = Wanted::new(&policy, judge.config());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let terminal = Terminal::stdout();
    let mut worst = exit::GOOD;
    for name in names.iter().flat_map(expand) {
        let name = match name {
            Ok(name) => name,
            Err(error) => {
                complain!("guard: standard input: read: {error}");
                return exit::CANNOT_TELL;
            }
        };
        let request = Request { name: Text(name), caller };
        let judgement = judge.judge(request, &requester);
        worst = worse(worst, status(&judgement));
        let settings = match judgement.verdict.carried_out {
            Action::AllowSysctl => conntrack::plan(host, &wanted, &judgement.closure, &kernel),
            Action::Allow | Action::Block => Vec::new(),
        };
        let shown = if common.json {
            json(host, &kernel, requester.clone(), judgement, settings)
        } else {
            text(&judgement, &settings, &judge.open_rules(&judgement, &requester), terminal)
        };
        if let Err(error) = out.write_all(shown.as_bytes()) {
            super::unsaid(&error);
            return exit::CANNOT_TELL;
        }
    }
    if let Err(error) = out.flush() {
        super::unsaid(&error);
        return exit::CANNOT_TELL;
    }
    worst
}

/// A name as given, or for `-` every line of standard input.
fn expand(name: &OsString) -> Box<dyn Iterator<Item = std::io::Result<Vec<u8>>>> {
    if name == "-" {
        Box::new(std::io::stdin().lock().split(b'\n'))
    } else {
        Box::new(std::iter::once(Ok(name.clone().into_vec())))
    }
}

fn kernel(host: &Host, common: &Common) -> Result<String, Vec<String>> {
    common.kernel.clone().map_or_else(|| host.kernel().map_err(|error| vec![error]), Ok)
}

/// `--policy FILE`, else what is in force; says on standard error what the reader of the answer should know of that.
fn policy_to_judge_by(host: &Host, file: Option<&Path>) -> Result<Policy, Vec<String>> {
    if let Some(file) = file {
        let source = Host::policy_file(file).map_err(|error| vec![error.to_string()])?;
        return policy::parse(&[source]).map_err(|findings| findings.iter().map(ToString::to_string).collect());
    }
    let in_force = host.policy_in_force();
    for failure in &in_force.failures {
        complain!("guard: {failure}");
    }
    if let Some(behind) = host.policy_behind(&in_force) {
        complain!("guard: {behind}; this judges by what is in force, guard apply changes it");
    }
    Ok(in_force.policy)
}

fn status(judgement: &Judgement) -> u8 {
    if judgement.verdict.carried_out == Action::Block {
        return exit::BAD;
    }
    match judgement.closure.index {
        IndexHealth::Intact if judgement.closure.is_known() => exit::GOOD,
        IndexHealth::Intact => exit::NO_SUCH_MODULE,
        _ if judgement.closure.is_known() => exit::GOOD,
        _ => exit::CANNOT_TELL,
    }
}

/// Of several names the worst counts, in this order.
fn worse(a: u8, b: u8) -> u8 {
    const ORDER: [u8; 4] = [exit::CANNOT_TELL, exit::BAD, exit::NO_SUCH_MODULE, exit::GOOD];
    ORDER.into_iter().find(|status| [a, b].contains(status)).unwrap_or(exit::GOOD)
}

fn json(host: &Host, kernel: &str, requester: Requester, judgement: Judgement, settings: Vec<Setting>) -> String {
    let record = Record {
        v: 1,
        time: None,
        host: host.name(),
        boot_id: host.boot_id(),
        kernel: Some(Text::from(kernel)),
        request: judgement.request,
        requester,
        verdict: judgement.verdict,
        modules: judgement.closure.modules,
        sysctl: settings,
        failures: judgement.failures,
        shortened: false,
        outcome: None,
    };
    serde_json::to_string(&record).map_or_else(|error| format!("guard: {error}\n"), |line| line + "\n")
}

/// For a tired person: the verdict first, then the chain that led to it, then what would happen.
fn text(judgement: &Judgement, settings: &[Setting], open: &[Open<'_>], terminal: Terminal) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = describe(&mut out, judgement, settings, terminal).and_then(|()| asks(&mut out, open));
    out
}

fn describe(out: &mut String, judgement: &Judgement, settings: &[Setting], terminal: Terminal) -> std::fmt::Result {
    let Judgement { request, closure, verdict, failures } = judgement;
    let is_known = closure.is_known();
    let verdict_words = match (verdict.action, verdict.carried_out) {
        (Action::Block, Action::Block) => "BLOCKED",
        (Action::Block, _) => "allowed, but would be BLOCKED if the rule were enforced",
        _ if !is_known && closure.index == IndexHealth::Intact => "no such module",
        (Action::AllowSysctl, _) => "allowed, and sized",
        (Action::Allow, _) => "allowed",
    };
    let verdict_words = terminal.paint(Tone::of(verdict.action, verdict.carried_out == Action::Block), verdict_words);
    writeln!(out, "{}: {verdict_words}", request.name)?;
    writeln!(out, "  why     {}", why(judgement))?;
    if let Some(reason) = verdict.reason.as_ref().filter(|_| verdict.rule.is_some()) {
        writeln!(out, "          \"{reason}\"")?;
    }
    for command in &closure.commands {
        writeln!(out, "  runs    {} in place of {} ({})", command.command, command.module, command.source)?;
    }
    for out_of in &closure.blacklisted {
        writeln!(out, "  leaves  {}: blacklisted, and asked for by an alias ({})", out_of.module, out_of.source)?;
    }
    let label = if verdict.carried_out == Action::Block { "stops" } else { "loads" };
    for (at, module) in closure.modules.iter().enumerate() {
        let needed = match module.needed_as {
            NeededAs::Target => "target",
            NeededAs::Dependency => "dependency",
            NeededAs::Softdep => "soft dependency",
        };
        let state = match module.state {
            ModuleState::Absent => "",
            ModuleState::Live => ", there already",
            ModuleState::Builtin => ", built into the kernel",
        };
        let mark =
            if verdict.module.as_ref() == Some(&module.name) && verdict.rule.is_some() { "  <- decides" } else { "" };
        writeln!(out, "  {:<7} {} ({needed}{state}){mark}", if at == 0 { label } else { "" }, module.name)?;
    }
    for (at, setting) in settings.iter().enumerate() {
        write!(
            out,
            "  {:<7} {} = {} ({}",
            if at == 0 { "sets" } else { "" },
            setting.key,
            setting.value,
            setting.source
        )?;
        match &setting.formula {
            Some(formula) => writeln!(out, ": {formula})")?,
            None => writeln!(out, ")")?,
        }
    }
    for failure in failures {
        writeln!(out, "  but     {failure}")?;
    }
    Ok(())
}

/// The rules that would have asked for more than `--as` told.
fn asks(out: &mut String, open: &[Open<'_>]) -> std::fmt::Result {
    for Open { rule, keys } in open {
        let names: Vec<&str> = keys.iter().copied().map(Key::name).collect();
        let options: Vec<String> = names.iter().map(|name| format!("--as {name}=...")).collect();
        let (id, place) = (&rule.id, &rule.source);
        let (names, options) = (names.join(", "), options.join(" "));
        writeln!(out, "  asks    rule \"{id}\" ({place}) also asks for {names}; say it with {options}")?;
    }
    Ok(())
}

/// One sentence: what decided.
fn why(judgement: &Judgement) -> String {
    let Judgement { request, closure, verdict, .. } = judgement;
    let Some(rule) = &verdict.rule else {
        return match &verdict.reason {
            Some(reason) => format!("{reason} ({})", verdict.source),
            None if closure.modules.is_empty() => "nothing would be loaded, no rule matches".to_owned(),
            None if closure.modules.iter().all(|module| module.state != ModuleState::Absent) => {
                "everything is there already, no rule matches".to_owned()
            }
            None => "no rule matches: the default decides".to_owned(),
        };
    };
    let place = format!("rule \"{rule}\", {}", verdict.source);
    let Some(module) = &verdict.module else { return format!("{place}, matches the name asked for") };
    if normalise(request.name.as_bytes()).is_some_and(|name| *name == *module.as_bytes()) {
        return format!("{place}, matches {module}");
    }
    let needed_as = closure.modules.iter().find(|other| other.name == *module).map(|other| other.needed_as);
    match needed_as {
        Some(NeededAs::Dependency) => format!("{place}, matches {module}, which {} needs", request.name),
        Some(NeededAs::Softdep) => format!("{place}, matches {module}, a soft dependency of {}", request.name),
        _ => format!("{place}, matches {module}, which {} stands for", request.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_the_worst_in_order() {
        for (a, b, expected) in [(0, 3, 3), (3, 1, 1), (1, 2, 2), (2, 0, 2), (0, 0, 0), (3, 0, 3)] {
            assert_eq!(worse(a, b), expected, "{a} {b}");
            assert_eq!(worse(b, a), expected, "{b} {a}");
        }
    }
}
