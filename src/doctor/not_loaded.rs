//! Whether it is loaded, and if not, what would load it.

use super::distribution::quoted_name;
use super::support::load;
use super::{Case, Cause, Finding, Seen};

/// Where systemd and Debian look for modules to load at boot.
const AT_BOOT: [&str; 4] =
    ["/etc/modules-load.d", "/run/modules-load.d", "/usr/local/lib/modules-load.d", "/usr/lib/modules-load.d"];

pub fn look(case: &Case) -> Seen {
    let name = case.name();
    if case.is_live(&case.module) {
        return Seen::Well("is live".to_owned());
    }
    if case.is_builtin(&case.module) {
        return Seen::Well("is part of the kernel image".to_owned());
    }
    if !case.runs {
        return Seen::Well(format!("kernel {} does not run; nothing would keep it out", case.kernel));
    }
    if case.live.is_none() && !case.host.is_directory("/sys/module") {
        return Seen::Nothing(format!(
            "{} and {}: can't be read",
            case.shown("/proc/modules"),
            case.shown("/sys/module")
        ));
    }
    let mut finding = Finding::new(Cause::NotLoaded, format!("{name} is not loaded"));
    finding = match case.live_line(&case.module).map(|live| live.state.as_str()) {
        Some("Loading") => finding.evidence(format!(
            "{}: {name} is being loaded at this moment, or hangs in it",
            case.shown("/proc/modules")
        )),
        Some("Unloading") => {
            finding.evidence(format!("{}: {name} is being unloaded at this moment", case.shown("/proc/modules")))
        }
        _ if case.live.is_some() => finding.evidence(format!("{}: does not list it", case.shown("/proc/modules"))),
        _ => finding.evidence(format!("{}: is not there", case.shown(&format!("/sys/module/{name}")))),
    };
    finding.evidence.extend(super::records::last_load(case, &case.module));
    if super::records::loaded_at(case, &case.module).is_some() {
        finding = finding.evidence("it was there since this boot: somebody has unloaded it");
    }
    match at_boot(case, &case.module) {
        Some(place) => {
            finding = finding
                .evidence(format!("{place}: loads it at boot; it was unloaded since, or could not be loaded then"))
        }
        None => {
            finding = finding.evidence("nothing loads it at boot: it comes when something asks for it");
        }
    }
    finding.fix(load(case)).into()
}

/// The file that has `module` loaded at boot.
pub fn at_boot(case: &Case, module: &[u8]) -> Option<String> {
    let mut files = vec!["/etc/modules".to_owned()];
    for directory in AT_BOOT {
        let names = case.host.list(directory).unwrap_or_default();
        let names = names.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(".conf"));
        files.extend(names.map(|name| format!("{directory}/{name}")));
    }
    files.into_iter().find_map(|path| {
        let bytes = case.host.read(&path, 1 << 20).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let names = |line: &str| line.trim().replace('-', "_").as_bytes() == module;
        let line = text.lines().position(names)?;
        Some(format!("{}:{}", case.shown(&path), line + 1))
    })
}

/// The command that has it loaded at every boot.
pub fn load_at_boot(case: &Case) -> String {
    let name = quoted_name(&case.module);
    let file = quoted_name(format!("/etc/modules-load.d/{}.conf", case.name()).as_bytes());
    format!("echo {name} >{file}")
}
