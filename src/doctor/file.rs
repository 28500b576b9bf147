//! The module's own file: there, and whole.

use super::case::Unpacked;
use super::support::load;
use super::{Case, Cause, Finding, Seen};

/// How far apart two names may be for one to be a slip of the other, letters.
const SLIP: usize = 2;

pub fn look(case: &Case) -> Seen {
    if !case.host.is_directory(case.directory()) {
        return Seen::Nothing(format!("{}: not there", case.shown(&case.directory())));
    }
    if let Some(why) = case.no_files() {
        return Seen::Nothing(why);
    }
    if case.is_builtin(&case.module) {
        return Seen::Well("is part of the kernel image".to_owned());
    }
    match &*case.object(&case.module) {
        Unpacked::There(path, Ok(object)) => match wrong_name(case, object.name.as_deref()) {
            Some(other) => corrupt(case, path, &format!("holds the module {other}")).into(),
            None => Seen::Well(case.shown(path)),
        },
        Unpacked::There(path, Err(error)) => corrupt(case, path, error).into(),
        Unpacked::Absent => missing(case, &case.module).into(),
    }
}

/// The name that a file gives its module, if that is another one than the file's own. modprobe goes by the file's.
fn wrong_name(case: &Case, name: Option<&str>) -> Option<String> {
    let name = name?.replace('-', "_");
    (name.as_bytes() != case.module).then_some(name)
}

fn corrupt(case: &Case, path: &str, what: &str) -> Finding {
    Finding::new(Cause::FileCorrupt, format!("the file of {} is damaged", case.name()))
        .evidence(format!("{}: {what}", case.shown(path)))
        .fixes(case.distribution.bring(case.host, &case.kernel, Some(path), true))
        .fix(format!("depmod {}", super::distribution::quoted(&case.kernel)))
        .fix(load(case))
}

/// There is no file of `module`: what should have brought it.
pub fn missing(case: &Case, module: &[u8]) -> Finding {
    let name = crate::text::Text::from(module).to_string();
    let directory = case.shown(&case.directory());
    let indexed = case.indexed_path(module).or_else(|| in_text_index(case, module));
    let shipped = in_order_list(case, module);
    let mut finding =
        Finding::new(Cause::FileMissing, format!("there is no file of {name} for kernel {}", case.kernel));
    finding = match (&indexed, &shipped) {
        (Some(path), _) => finding.evidence(format!("{}: not there, and the index names it", case.shown(path))),
        (None, Some(line)) => {
            finding.evidence(format!("{directory}/modules.order: {line}: was built with this kernel"))
        }
        (None, None) => finding.evidence(format!("{directory}: holds no {name}.ko, .ko.gz, .ko.xz or .ko.zst")),
    };
    let elsewhere = case.host.list("/lib/modules").unwrap_or_default();
    for release in elsewhere.iter().filter_map(|release| release.to_str()).filter(|release| *release != case.kernel) {
        if let Some(path) = case.host.module_files(release).get(module).and_then(|paths| paths.first()) {
            finding = finding.evidence(format!("{}: is for kernel {release}", case.shown(path)));
        }
    }
    let path = indexed.clone().or_else(|| shipped.map(|line| format!("{}/{line}", case.directory())));
    if path.is_none()
        && let Some(near) = nearest(case, module)
    {
        let finding = finding.evidence(format!("the nearest name that there is: {near}"));
        return finding.fix(format!("guard doctor {}", super::distribution::quoted(&near)));
    }
    let packages = case.distribution.bring(case.host, &case.kernel, path.as_deref(), indexed.is_some());
    finding.fixes(packages).fix(format!("depmod {}", super::distribution::quoted(&case.kernel))).fix(load(case))
}

/// `modules.dep`, where nobody has made an index of it.
fn in_text_index(case: &Case, module: &[u8]) -> Option<String> {
    let path = named_in(case, "modules.dep", module)?;
    let path = path.split(':').next()?.to_owned();
    Some(if path.starts_with('/') { path } else { format!("{}/{path}", case.directory()) })
}

/// `modules.order` comes with the kernel and names all that was built with it, whatever package brings it.
fn in_order_list(case: &Case, module: &[u8]) -> Option<String> {
    named_in(case, "modules.order", module)
}

/// The line of a text index that is about the file of `module`.
fn named_in(case: &Case, list: &str, module: &[u8]) -> Option<String> {
    let text = case.host.read(format!("{}/{list}", case.directory()), 16 << 20).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_it = |line: &&str| {
        let path = line.split(':').next().unwrap_or_default();
        crate::modules::module_of_path(path.as_bytes()).as_deref() == Some(module)
    };
    text.lines().find(is_it).map(str::to_owned)
}

/// The module whose name is a slip of this one's.
fn nearest(case: &Case, module: &[u8]) -> Option<String> {
    let near = case.files().keys().map(|name| (distance(name, module), name)).min()?;
    (near.0 <= SLIP).then(|| String::from_utf8_lossy(near.1).into_owned())
}

/// How many letters to insert, drop or change to make one of the other (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            left = (above_left + usize::from(x != y)).min(above + 1).min(left + 1);
            *cell = left;
            above_left = above;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("nf_conntrack", "nf_contrack", 1),
            ("kitten", "sitting", 3),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
