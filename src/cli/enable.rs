//! `guard enable` and `guard disable`: the kernel's helper, ours or the former one.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::{Common, apply, exit, hooks, tables, umh};
use crate::conntrack::{self, Wanted};
use crate::delegate::Plan;
use crate::host::{ARMED, Divert, HELPER, HOOKS, Host, KERNEL_MODPROBE, MODPROBE, RUN};
use crate::judge;
use crate::model::{Action, Change, Value};
use crate::policy::{Rule, Trust};
use crate::requester::{self, recorder};

/// Where the former helper's path is kept until it is given back. It need not survive a reboot: then the kernel has its
/// own default again.
const FORMER: &str = "/run/modprobe-guard/former-helper";
/// Its name below [`RUN`].
const FORMER_NAME: &str = "former-helper";
/// The kernel's default if it was built without another (CONFIG_MODPROBE_PATH).
const KERNELS_OWN: &str = "/sbin/modprobe";
/// How long the helper may take to prove that it runs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the kernel write down who asks, applies the policy files, then makes the kernel ask us, and modprobe(8) and libkmod
/// as well. Refuses where that would not work.
pub fn enable(host: &Host, common: &Common, force: bool) -> u8 {
    // First, since rules may ask who.
    let recorder = record(host);
    let status = match apply::apply(host, common) {
        Ok(done) => {
            say!("{done}");
            exit::GOOD
        }
        Err(()) => {
            complain!("guard: going on with the policy in force");
            exit::BAD
        }
    };
    match arm(host, force) {
        Ok(said) => {
            match &recorder {
                Ok(true) => say!("recorder: at the kernel's tracepoint module_request; it tells exactly who asks"),
                Ok(false) => say!("recorder: there already"),
                Err(why) => say!("no recorder: {why}; who asks is looked for among the tasks that wait"),
            }
            std::iter::once(&said).chain(&raise(host)).for_each(|line| say!("{line}"));
            let status = status.max(apply::hook(host));
            tables::provide(host).iter().for_each(|line| say!("{line}"));
            match unheard(host) {
                Some(problem) => {
                    complain!("guard: {problem}");
                    exit::BAD
                }
                None => status,
            }
        }
        Err(error) => {
            complain!("guard: not armed: {error}");
            if recorder == Ok(true) {
                let _ = recorder::remove();
            }
            exit::BAD
        }
    }
}

/// Without a recorder the guard works as well, and knows less.
fn record(host: &Host) -> Result<bool, String> {
    if host.is_this() { recorder::install(host) } else { Err("the host is not this machine".into()) }
}

/// What is wrong with the policy in force, if its rules ask who and this host can't tell.
pub fn unheard(host: &Host) -> Option<String> {
    let policy = host.policy_in_force().policy;
    let rule = policy.asks_who().next()?;
    if let Some(why) = requester::cannot_tell(host) {
        return Some(format!("{}: rule \"{}\" asks who, which this host can't tell: {why}", rule.source, rule.id));
    }
    let needs_more = |rule: &&Rule| rule.action != Action::Block && policy.defaults.trust == Trust::Exact;
    let rule = policy.asks_who().find(needs_more).filter(|_| host.is_this())?;
    let why = recorder::state().err()?;
    Some(format!(
        "{}: rule \"{}\" permits only whom we know exactly, and there is no recorder: {why}; mend that, or set \
         defaults.trust = \"likely\"",
        rule.source, rule.id
    ))
}

fn arm(host: &Host, force: bool) -> Result<String, String> {
    let current = current(host)?;
    let is_diverted = host.divert() == Divert::InPlace;
    // In modprobe's place we are what the kernel runs by its own default, and all that LKRG and some kernels let it run.
    let ours = if is_diverted { MODPROBE } else { HELPER };
    let stays = if is_diverted { current != HELPER && host.is_guard(&current) } else { current == HELPER };
    if stays && host.is_armed() {
        can_work(host)?;
        return Ok(format!("armed already: {KERNEL_MODPROBE} is {current}"));
    }
    if !stays && !is_modprobe(&current) && current != HELPER && !force {
        let what = if current.is_empty() {
            "empty, so that the kernel loads nothing".into()
        } else {
            format!("{current:?}, which is not ours")
        };
        return Err(format!("{KERNEL_MODPROBE}: is {what}; take its place with guard enable --force"));
    }
    if let Some(problem) = umh::forbids(host).filter(|_| !force) {
        return Err(problem);
    }
    can_work(host)?;
    if is_diverted {
        // First: whatever the kernel asks from here on is decided.
        std::fs::write(host.shown(ARMED), "")
            .map_err(|error| format!("{ARMED}: write: {error}; without it {MODPROBE} passes everything on"))?;
    }
    let kept = if stays { Ok(()) } else { take_over(host, &current, ours) };
    if let Err(error) = kept {
        if is_diverted {
            let _ = std::fs::remove_file(host.shown(ARMED));
        }
        return Err(error);
    }
    if stays {
        return Ok(format!("armed: {MODPROBE} is the guard, and decides; guard disable ends that"));
    }
    Ok(format!("armed: {KERNEL_MODPROBE} was {current:?}, is {ours}; guard disable gives it back"))
}

/// Has the kernel run `ours` instead of `current`.
fn take_over(host: &Host, current: &str, ours: &str) -> Result<(), String> {
    // Who armed it before it was diverted has kept what the kernel had.
    if current != HELPER {
        remember(host, current)?;
    }
    set(host, ours)
}

/// Has the kernel run `path`.
fn set(host: &Host, path: &str) -> Result<(), String> {
    // With its end of line: a write of nothing at all would change nothing.
    host.write_existing(KERNEL_MODPROBE, format!("{path}\n").as_bytes())
        .map_err(|error| format!("{KERNEL_MODPROBE}: write: {error}"))?;
    if current(host)? == path {
        return Ok(());
    }
    Err(format!("{KERNEL_MODPROBE}: does not keep what is written; is the kernel locked down?"))
}

/// A table that was there before us and is too small gets its size now, if the policy sizes tables: no request will
/// touch it any more. Says what was changed.
fn raise(host: &Host) -> Vec<String> {
    let policy = host.policy_in_force().policy;
    if !judge::sizes_tables(&policy) {
        return Vec::new();
    }
    let (config, _) = host.modprobe_config(&host.kernel().unwrap_or_default());
    let changes = conntrack::raise(host, &Wanted::new(&policy, &config));
    let value = |value: &Option<Value>| value.as_ref().map_or("?".to_owned(), ToString::to_string);
    let line = |change: &Change| match &change.error {
        None => format!("set {}: was {}, is {}", change.key, value(&change.before), value(&change.after)),
        Some(error) => format!("not set: {}: {error}", change.key),
    };
    changes.iter().map(line).collect()
}

/// Gives the kernel its former helper back, and takes the `install` lines away. A helper that is not ours is left alone.
pub fn disable(host: &Host, _: &Common) -> u8 {
    match disarm(host).and_then(|said| {
        let unhooked = hooks::remove(host)?;
        let removed = if host.is_this() { recorder::remove()? } else { false };
        Ok((said, unhooked, removed))
    }) {
        Ok((said, unhooked, removed)) => {
            say!("{said}");
            if unhooked {
                say!("install lines: removed {HOOKS}");
            }
            if removed {
                say!("recorder: taken out of the kernel");
            }
            exit::GOOD
        }
        Err(error) => {
            complain!("guard: not disarmed: {error}");
            exit::BAD
        }
    }
}

fn disarm(host: &Host) -> Result<String, String> {
    let current = current(host)?;
    let decided = match std::fs::remove_file(host.shown(ARMED)) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(format!("{ARMED}: remove: {error}")),
    };
    let is_diverted = current != HELPER && host.is_guard(&current);
    let former = former(host);
    // In modprobe's place there is a helper to give back only where another one had to be ousted.
    let given_back = match is_diverted {
        true => host.exists(FORMER) && former != current,
        false => current == HELPER,
    };
    if given_back {
        set(host, &former)?;
        let _ = std::fs::remove_file(host.shown(FORMER));
    }
    let real = || host.real_modprobe().unwrap_or("the real modprobe");
    Ok(match (given_back, is_diverted && decided) {
        (true, _) => format!("disarmed: {KERNEL_MODPROBE} was {current}, is {former:?} again"),
        (false, true) => format!("disarmed: {current} is the guard and stays, and passes everything on to {}", real()),
        (false, false) => format!("not armed: {KERNEL_MODPROBE} is {current:?} and stays"),
    })
}

/// The helper that the kernel runs now.
///
/// # Errors
/// What it means that there is none to be set.
pub fn current(host: &Host) -> Result<String, String> {
    match host.line(KERNEL_MODPROBE) {
        Some(path) => Ok(String::from_utf8_lossy(&path).into_owned()),
        None if host.list("/proc/sys/kernel").is_err() => {
            Err(format!("{KERNEL_MODPROBE}: not there: /proc is not mounted"))
        }
        None => Err(format!("{KERNEL_MODPROBE}: not there: this kernel loads no modules (CONFIG_MODULES is off)")),
    }
}

fn is_modprobe(path: &str) -> bool {
    path.rsplit('/').next() == Some("modprobe")
}

/// What the kernel had before us.
fn former(host: &Host) -> String {
    let kept = host.line(FORMER).and_then(|path| String::from_utf8(path).ok());
    kept.filter(|path| path != HELPER).unwrap_or_else(|| KERNELS_OWN.to_owned())
}

fn remember(host: &Host, current: &str) -> Result<(), String> {
    let keep = || {
        let run = host.own_directory(RUN, Some(Mode::S_IRWXU))?;
        run.replace_with_mode(FORMER_NAME, format!("{current}\n").as_bytes(), Mode::S_IRUSR | Mode::S_IWUSR)
    };
    // Without it, disable falls back on the kernel's own default: only another value would be lost.
    match keep() {
        Err(error) if current != KERNELS_OWN => {
            Err(format!("{FORMER}: write {current:?}: {error}; needed to give it back"))
        }
        _ => Ok(()),
    }
}

/// Refuses what would leave the kernel with a helper that does not work.
fn can_work(host: &Host) -> Result<(), String> {
    let helper = std::fs::metadata(host.shown(HELPER))
        .map_err(|error| format!("{HELPER}: open: {error}; run install/install.sh"))?;
    if !helper.is_file() || helper.mode() & 0o111 == 0 {
        return Err(format!("{HELPER}: is no executable file; run install/install.sh"));
    }
    if host.is_this() && (helper.uid() != 0 || helper.mode() & 0o022 != 0) {
        return Err(format!("{HELPER}: can be changed by others than root; chown root:root and chmod 0755 it"));
    }
    let mut only_that = Plan::new(host, &host.policy_in_force().policy.defaults.delegate, &[], None);
    only_that.candidates.truncate(1);
    only_that.check(host).map_err(|failures| failures.join("; "))?;
    if host.is_this() { helper_runs() } else { Ok(()) }
}

/// Has the helper hand arguments that load nothing to the real modprobe.
fn helper_runs() -> Result<(), String> {
    let failed = |error: String| format!("{error}; the kernel's requests would fail as well");
    match run_helper(&["--version"]) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("{HELPER} --version: ended with {status}"))),
        Err(error) => Err(failed(error)),
    }
}

/// Runs the helper as the kernel would; how it ended.
///
/// # Errors
/// If it can't be run, or does not end in time.
pub fn run_helper(arguments: &[&str]) -> Result<ExitStatus, String> {
    let failed = |what: String| format!("{HELPER} {}: {what}", arguments.join(" "));
    let mut child = Command::new(HELPER)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("run: {error}")))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                // With whatever it started.
                let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| failed(error.to_string()))?;
                let _ = killpg(group, Signal::SIGKILL);
                return Err(failed(format!("did not end within {} s", PATIENCE.as_secs())));
            }
            Err(error) => return Err(failed(format!("wait: {error}"))),
        }
    }
}
