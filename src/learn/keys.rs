//! What of a line is learned: the groups that it belongs to.

use crate::policy::pattern;
use crate::text::Text;

use super::groups::{Key, Role, What};
use super::line::{Line, Module, text};
use super::who::Who;

/// The module whose table is sized.
pub(super) const CONNTRACK: &str = "nf_conntrack";

/// The groups that a line belongs to; none if it says what is not known here.
pub(super) fn keys(line: &Line<'_>, trusts_likely: bool) -> Option<Vec<Key>> {
    let verdict = &line.verdict;
    let decided = match text(&verdict.module) {
        Some(module) => Some(What::Module(module_pattern(module)?)),
        None => None,
    };
    let is_permitted = match verdict.action.get() {
        "allow" | "allow-sysctl" => true,
        "block" => !verdict.enforced,
        _ => return None,
    };
    let requester = line.requester.as_ref();
    let is_count = line.thinned.is_some();
    let who = if is_count { Who::of_counted(requester) } else { Who::of(requester, trusts_likely) };
    let key = |role, what| Key { role, what, who: who.clone() };
    let asked = || request_pattern(line.request.name.get()).map(What::Request);
    let sizes = verdict.action.get() == "allow-sysctl";
    if !is_permitted {
        let role = if verdict.rule.is_some() { Role::BlockedByRule } else { Role::BlockedByDefault };
        // Without a module and without a rule it was no policy that refused.
        let what = decided.or_else(|| verdict.rule.as_ref().and_then(|_| asked()));
        return Some(what.map(|what| key(role, what)).into_iter().collect());
    }
    let is_sized = sizes || !line.sysctl.is_empty();
    let Some(modules) = line.modules.as_ref().filter(|_| !is_count) else {
        // What the default decided on is what the name stood for; of a rule's it is not known.
        let what = match &decided {
            Some(decided) if verdict.rule.is_none() && !is_sized => Some(decided.clone()),
            None if verdict.rule.is_none() => None,
            _ => asked(),
        };
        // By a rule about the name alone the name is sized.
        let sized = if sizes { decided.or_else(asked) } else { None };
        let what = what.filter(|what| sized.as_ref() != Some(what)).map(|what| key(Role::Counted, what));
        return Some(what.into_iter().chain(sized.map(|sized| key(Role::Sized, sized))).collect());
    };
    if modules.is_empty() {
        // A line of modprobe.d runs a command under a name that is no module's: that name was judged.
        return Some(decided.map(|what| key(Role::Permitted, what)).into_iter().collect());
    }
    let is_target = |module: &&Module<'_>| module.needed_as.get() == "target";
    // Then modprobe looks no further, on every boot.
    let is_built_in = |module: &Module<'_>| module.state.get() == "builtin";
    if modules.iter().filter(is_target).all(is_built_in) && modules.iter().any(|module| is_target(&module)) {
        return Some(Vec::new());
    }
    let mut keys = Vec::new();
    for module in modules {
        // What is live may be absent the next time; what is built in stays.
        let role = match module.state.get() {
            "builtin" => continue,
            "live" if is_target(&module) => Role::Live,
            _ if is_target(&module) => Role::Permitted,
            _ => Role::Needed,
        };
        keys.push(key(role, What::Module(module_pattern(module.name.get())?)));
    }
    if is_sized {
        let is_conntrack =
            |module: &Module<'_>| module.name.get() == CONNTRACK && !matches!(module.state.get(), "live" | "builtin");
        let sized = match decided {
            _ if modules.iter().any(is_conntrack) => Some(What::Module(CONNTRACK.to_owned())),
            decided if sizes => decided,
            _ => None,
        };
        keys.extend(sized.map(|what| key(Role::Sized, what)));
    }
    Some(keys)
}

/// The module that the name stood for, and those that came along. None if it stood for several: which of them needs what
/// is not on record.
pub(super) fn needs(line: &Line<'_>) -> Option<(What, Vec<String>)> {
    let is_target = |module: &&Module<'_>| module.needed_as.get() == "target";
    let (targets, others): (Vec<_>, Vec<_>) = line.modules.as_ref()?.iter().partition(is_target);
    let [target] = targets.as_slice() else { return None };
    let needed = others.into_iter().filter(|module| module.state.get() != "builtin");
    let names = needed.filter_map(|module| module_pattern(module.name.get())).collect();
    Some((What::Module(module_pattern(target.name.get())?), names))
}

/// The pattern for a module's name; none if no module can be called that (`possible`, policy/parse/rules.rs).
fn module_pattern(name: &str) -> Option<String> {
    let is_possible =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'=' | b'@' | b'~');
    let is_name = !name.is_empty() && name.len() <= 255 && name.bytes().all(is_possible);
    is_name.then(|| name.replace('-', "_"))
}

/// The pattern for a name that was asked for, in printable ASCII: other bytes stand for any, so that nothing is hidden
/// from whoever reads the policy. None if no rule could hold it.
pub(super) fn request_pattern(name: &str) -> Option<String> {
    let bytes = Text::unescape(name)?.0;
    let mut pattern = String::with_capacity(bytes.len());
    for run in bytes.chunk_by(|one, next| one.is_ascii_graphic() == next.is_ascii_graphic()) {
        match std::str::from_utf8(run) {
            Ok(text) if run.iter().all(u8::is_ascii_graphic) => pattern.push_str(&pattern::literal(text)),
            _ => run.iter().for_each(|_| pattern.push('?')),
        }
    }
    let is_possible = !bytes.contains(&0) && !name.ends_with('…') && pattern.len() <= pattern::MAX_LENGTH;
    (is_possible && !pattern.is_empty()).then_some(pattern)
}
