//! What the module needs: known to the index, there, whole, fitting, and not kept out itself.

use super::case::Unpacked;
use super::distribution::quoted;
use super::support::load;
use super::{Case, Cause, Finding, Seen, blocked, version};
use crate::modules::{Dependencies, IndexFile, Unopened};
use crate::text::Text;

/// Whether the index is there, and knows what the files say.
pub fn look_at_index(case: &Case) -> Seen {
    if !case.host.is_directory(case.directory()) {
        return Seen::Nothing(format!("{}: not there", case.shown(&case.directory())));
    }
    if let Some(why) = case.no_files() {
        return Seen::Nothing(why);
    }
    let mut findings: Vec<Finding> = IndexFile::ALL.into_iter().filter_map(|file| unreadable(case, file)).collect();
    if findings.iter().all(|finding| !finding.decisive) && !case.is_builtin(&case.module) {
        findings.extend(stale(case));
    }
    Seen::of(findings, format!("{} is there and knows the file", case.shown(&case.directory())))
}

fn mend(case: &Case, finding: Finding) -> Finding {
    finding.fix(format!("depmod {}", quoted(&case.kernel))).fix(load(case))
}

/// A file of the index that modprobe can't read. Without `modules.dep.bin` it finds no module at all.
fn unreadable(case: &Case, file: IndexFile) -> Option<Finding> {
    let what = match case.tree.index(file) {
        Ok(_) => return None,
        Err(Unopened::Absent) if file.is_optional() => return None,
        // depmod leaves these two empty where it found no list of what is built in, and modprobe does without.
        Err(_) if matches!(file, IndexFile::Builtin | IndexFile::BuiltinAlias) && is_empty(case, file) => return None,
        Err(Unopened::Absent) => "not there, and modprobe reads no other".to_owned(),
        Err(Unopened::Open(error)) => format!("can't be opened: {error}"),
        Err(Unopened::Damaged(damage)) => damage.to_string(),
    };
    let finding = Finding::new(Cause::Dependency, format!("the index of modules lacks {}", file.name()))
        .evidence(format!("{}/{}: {what}", case.shown(&case.directory()), file.name()));
    let finding = mend(case, finding);
    Some(if file == IndexFile::Dep { finding } else { finding.minor() })
}

fn is_empty(case: &Case, file: IndexFile) -> bool {
    let path = format!("{}/{}", case.directory(), file.name());
    case.host.metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// An index that does not know what lies there.
fn stale(case: &Case) -> Option<Finding> {
    let path = case.path_of(&case.module)?;
    let finding = Finding::new(Cause::Dependency, format!("the index of modules is out of date about {}", case.name()));
    let index = format!("{}/modules.dep.bin", case.shown(&case.directory()));
    let Some(indexed) = case.indexed_path(&case.module) else {
        return Some(mend(
            case,
            finding
                .evidence(format!("{}: is there", case.shown(&path)))
                .evidence(format!("{index}: does not know of it")),
        ));
    };
    if indexed != path {
        let what = format!("{index}: names {}, which is not there", case.shown(&indexed));
        return Some(mend(case, finding.evidence(what).evidence(format!("{}: is there", case.shown(&path)))));
    }
    let Unpacked::There(_, Ok(object)) = &*case.object(&case.module) else { return None };
    let Dependencies::Known(known) = case.lookup().dependencies(&case.module) else { return None };
    let missing = object.depends.iter().map(|name| name.replace('-', "_"));
    let missing: Vec<String> = missing
        .filter(|name| !known.iter().any(|known| known == name.as_bytes()))
        .filter(|name| !case.is_in_kernel(name.as_bytes()) && case.path_of(name.as_bytes()).is_some())
        .collect();
    (!missing.is_empty()).then(|| {
        let finding = finding.evidence(format!("{}: depends on {}", case.shown(&path), missing.join(", ")));
        mend(case, finding.evidence(format!("{index}: does not say so")))
    })
}

/// Each module that has to be there before this one can.
pub fn look(case: &Case) -> Seen {
    let needed = case.needed_by(&case.module);
    if let Some(why) = case.no_files() {
        return Seen::Nothing(why);
    }
    let mut findings: Vec<Finding> = needed.iter().filter_map(|name| obstacle(case, name)).collect();
    findings.extend(disagreement(case, &needed));
    let names = needed.iter().map(|name| Text::from(name.as_slice()).to_string()).collect::<Vec<_>>().join(", ");
    Seen::of(
        findings,
        if names.is_empty() { "needs no other".to_owned() } else { format!("{names}: there, or can be") },
    )
}

/// What keeps `needed` from being loaded first.
fn obstacle(case: &Case, needed: &[u8]) -> Option<Finding> {
    if case.is_in_kernel(needed) {
        return None;
    }
    let name = Text::from(needed).to_string();
    let finding = |what: &str| Finding::new(Cause::Dependency, format!("{} needs {name}, {what}", case.name()));
    let bring = |path: &str| case.distribution.bring(case.host, &case.kernel, Some(path), true);
    let depmod = format!("depmod {}", quoted(&case.kernel));
    match &*case.object(needed) {
        Unpacked::Absent => {
            let missing = super::file::missing(case, needed);
            let mut found = finding("of which there is no file");
            (found.evidence, found.fix) = (missing.evidence, missing.fix);
            return Some(found);
        }
        Unpacked::There(path, Err(error)) => {
            let found = finding("whose file is damaged").evidence(format!("{}: {error}", case.shown(path)));
            return Some(found.fixes(bring(path)).fix(depmod).fix(load(case)));
        }
        Unpacked::There(path, Ok(object)) => {
            if let Some((reason, by)) = version::built_for_another(case, path, object) {
                let wrong = version::wrong_file(case, path, &reason, by);
                let mut found = finding("whose file was built for another kernel");
                (found.evidence, found.fix) = (wrong.evidence, wrong.fix);
                return Some(found);
            }
        }
    }
    // Of what keeps a module out only some binds it as a dependency as well.
    let blocks = blocked::of(case, needed).into_iter().filter(|block| block.decisive && !block.binds_name_only);
    let mut found = finding("which is kept out");
    for block in blocks {
        found.evidence.extend(block.evidence);
        found.fix.extend(block.fix);
    }
    (!found.evidence.is_empty()).then(|| found.fix(load(case)))
}

/// A symbol that the module was built against and a module that exports it in another version.
fn disagreement(case: &Case, needed: &[Vec<u8>]) -> Option<Finding> {
    let own = case.object(&case.module);
    let Unpacked::There(path, Ok(object)) = &*own else { return None };
    for name in needed {
        let other = case.object(name);
        let Unpacked::There(other_path, Ok(exporting)) = &*other else { continue };
        let clash = object.needs.iter().find_map(|(symbol, wanted)| {
            let wanted = (*wanted)?;
            let has = exporting.exports.iter().find(|(name, _)| name == symbol)?.1?;
            (has != wanted).then_some((symbol, wanted, has))
        });
        if let Some((symbol, wanted, has)) = clash {
            let what = format!("{} and {} were not built together", case.name(), Text::from(name.as_slice()));
            return Some(
                Finding::new(Cause::Dependency, what)
                    .evidence(format!("{}: wants {symbol} with version {wanted:#010x}", case.shown(path)))
                    .evidence(format!("{}: exports it with version {has:#010x}", case.shown(other_path)))
                    .fixes(case.distribution.bring(case.host, &case.kernel, Some(path), true))
                    .fixes(case.distribution.bring(case.host, &case.kernel, Some(other_path), true))
                    .fix(format!("depmod {}", quoted(&case.kernel)))
                    .fix(load(case)),
            );
        }
    }
    None
}
