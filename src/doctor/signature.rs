//! Whether the kernel wants a signature, and the files have one.

use super::case::Unpacked;
use super::commands::{load, quoted};
use super::distribution::Family;
use super::{Case, Cause, Finding, Seen};
use crate::host::kernel_config::Setting;
use crate::modules::Compression;
use crate::text::Text;

const ENFORCE: &str = "/sys/module/module/parameters/sig_enforce";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

pub fn look(case: &Case) -> Seen {
    let Some((cause, evidence)) = demand(case) else {
        let may_see = !case.runs || case.host.exists(ENFORCE) || case.host.exists(LOCKDOWN);
        return match may_see || case.kernel_config().source.is_some() {
            true => Seen::Well("the kernel wants none".to_owned()),
            false => Seen::Nothing(format!("{} and {}: not there", case.shown(ENFORCE), case.shown(LOCKDOWN))),
        };
    };
    let modules = case.needed_by(&case.module).into_iter().chain([case.module.clone()]);
    let findings: Vec<Finding> = modules
        .filter(|module| !case.is_in_kernel(module))
        .filter_map(|module| unsigned(case, &module, cause, &evidence))
        .collect();
    Seen::of(findings, format!("{evidence}, and the files are signed"))
}

/// Why no unsigned module gets in; `None` if one may. What asks first is named (`module_sig_check`,
/// kernel/module/signing.c).
fn demand(case: &Case) -> Option<(Cause, String)> {
    let words = case.kernel_command_line();
    let enforced = case.host.line(ENFORCE).filter(|value| case.runs && (value == b"Y" || value == b"1"));
    if enforced.is_some() {
        return Some((Cause::Signature, format!("{}: is Y", case.shown(ENFORCE))));
    }
    if case.kernel_config().get("CONFIG_MODULE_SIG_FORCE") == Setting::Yes {
        let source = case.kernel_config().source.clone().unwrap_or_default();
        return Some((Cause::Signature, format!("{source}: CONFIG_MODULE_SIG_FORCE=y")));
    }
    let cmdline = case.shown("/proc/cmdline");
    let is_on = |word: &&String| {
        matches!(word.as_str(), "module.sig_enforce" | "module.sig_enforce=1" | "module.sig_enforce=Y")
    };
    if let Some(word) = words.iter().find(is_on) {
        return Some((Cause::Signature, format!("{cmdline}: {word}")));
    }
    let lockdown = case.host.line(LOCKDOWN).filter(|_| case.runs);
    let lockdown = lockdown.map(|line| String::from_utf8_lossy(&line).into_owned());
    if let Some(state) =
        lockdown.as_ref().filter(|state| state.contains("[integrity]") || state.contains("[confidentiality]"))
    {
        return Some((Cause::Lockdown, format!("{}: {state}", case.shown(LOCKDOWN))));
    }
    let word = words.iter().find(|word| word.starts_with("lockdown=")).filter(|_| lockdown.is_none())?;
    Some((Cause::Lockdown, format!("{cmdline}: {word}")))
}

fn unsigned(case: &Case, module: &[u8], cause: Cause, evidence: &str) -> Option<Finding> {
    let Unpacked::There(path, Ok(object)) = &*case.object(module) else { return None };
    if object.signature.is_some() {
        return None;
    }
    let name = Text::from(module).to_string();
    let summary = match cause {
        Cause::Lockdown => format!("the kernel is locked down, and {name} is not signed"),
        _ => format!("the kernel takes only signed modules, and {name} is not"),
    };
    let finding = Finding::new(cause, summary)
        .evidence(evidence.to_owned())
        .evidence(format!("{}: has no signature", case.shown(path)));
    // What came with the kernel came signed.
    let finding = if object.is_in_tree() {
        finding.fixes(case.distribution.bring(case.host, &case.kernel, Some(path), true))
    } else {
        let sign = match case.distribution.family {
            Family::Ubuntu => {
                "kmodsign sha512 /var/lib/shim-signed/mok/MOK.priv /var/lib/shim-signed/mok/MOK.der".to_owned()
            }
            _ => format!(
                "{} sha256 /var/lib/dkms/mok.key /var/lib/dkms/mok.pub",
                quoted(&format!("/lib/modules/{}/build/scripts/sign-file", case.kernel))
            ),
        };
        // What is signed is the module itself, not what it was packed into.
        let (unpack, pack) = match Compression::of_name(path) {
            Compression::None => ("", ""),
            Compression::Gzip => ("gzip -d", "gzip"),
            Compression::Xz => ("xz -d", "xz --check=crc32"),
            Compression::Zstd => ("zstd -d --rm", "zstd --rm"),
        };
        let plain = path.strip_suffix(".gz").or_else(|| path.strip_suffix(".xz")).or_else(|| path.strip_suffix(".zst"));
        let plain = quoted(plain.unwrap_or(path));
        let finding = finding
            .evidence(format!("{}: was not built with the kernel", case.shown(path)))
            .fix("# sign it with a key that the firmware knows (mokutil --import, then reboot and confirm):");
        if unpack.is_empty() {
            finding.fix(format!("{sign} {plain}"))
        } else {
            finding.fix(format!("{unpack} {} && {sign} {plain} && {pack} {plain}", quoted(path)))
        }
    };
    Some(finding.fix(load(case)))
}
