//! What a kernel was built with.

use std::collections::HashMap;

use super::Host;
use crate::modules::unpack;

/// A configuration has some 300 KiB.
const LONGEST: usize = 4 << 20;

/// The settings of one kernel; none if nobody tells.
#[derive(Debug, Default)]
pub struct KernelConfig {
    settings: HashMap<String, String>,
    /// Where they were read.
    pub source: Option<String>,
}

/// What is set for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<'a> {
    /// Part of the image.
    Yes,
    /// A module.
    Module,
    /// Left out.
    No,
    /// Any other value, without its quotes.
    Text(&'a str),
    /// There is no configuration to be read.
    Unknown,
}

impl KernelConfig {
    /// Reads the configuration of `kernel`: what the kernel itself has if it runs, else what its package brought.
    pub fn read(host: &Host, kernel: &str, runs: bool) -> KernelConfig {
        let own = runs.then(|| "/proc/config.gz".to_owned());
        let places = [format!("/boot/config-{kernel}"), format!("/lib/modules/{kernel}/config")];
        for path in own.into_iter().chain(places) {
            let Some(text) =
                host.read(&path, LONGEST).ok().and_then(|bytes| Some(unpack(&bytes, LONGEST).ok()?.into_owned()))
            else {
                continue;
            };
            let settings = parse(&String::from_utf8_lossy(&text));
            if !settings.is_empty() {
                return KernelConfig { settings, source: Some(host.shown(&path).display().to_string()) };
            }
        }
        KernelConfig::default()
    }

    /// That of the running kernel.
    pub fn of_running(host: &Host) -> KernelConfig {
        KernelConfig::read(host, &host.kernel().unwrap_or_default(), true)
    }

    /// What is set for `key`, which begins with `CONFIG_`.
    pub fn get(&self, key: &str) -> Setting<'_> {
        match self.settings.get(key).map(String::as_str) {
            _ if self.source.is_none() => Setting::Unknown,
            None | Some("n") => Setting::No,
            Some("y") => Setting::Yes,
            Some("m") => Setting::Module,
            Some(text) => Setting::Text(text),
        }
    }
}

fn parse(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter(|line| line.starts_with("CONFIG_"));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().trim_matches('"').to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("boot")).unwrap();
        let text = "# x\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"/sbin/x\"\n";
        std::fs::write(root.path().join("boot/config-6.1"), text).unwrap();
        let host = Host::at(root.path()).unwrap();
        let config = KernelConfig::read(&host, "6.1", true);
        let found = ["CONFIG_A", "CONFIG_B", "CONFIG_C", "CONFIG_D"].map(|key| config.get(key));
        assert_eq!(found, [Setting::Yes, Setting::Module, Setting::No, Setting::Text("/sbin/x")]);
        assert_eq!(KernelConfig::read(&host, "5.10", true).get("CONFIG_A"), Setting::Unknown);
    }
}
