//! The module on its host: what several checks look at, read once.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use super::distribution::Distribution;
use super::kernel_log::KernelLog;
use super::live::{Live, live_modules};
use crate::conntrack::sysctl_d::{Assignment, SysctlD};
use crate::host::Host;
use crate::host::kernel_config::KernelConfig;
use crate::model::Requester;
use crate::modules::{
    Config, Dependencies, IndexFile, Lookup, Object, Tree, is_module_file, module_of_path, normalise,
};
use crate::policy::Policy;
use crate::text::Text;

/// The longest module file that is read, bytes. Some with debugging symbols have 100 MB.
const LONGEST_MODULE: usize = 512 << 20;

/// Modules whose files are looked at to learn what this kernel's modules are built for.
const SAMPLES: usize = 3;

/// A module on its host.
pub struct Case<'a> {
    /// The host.
    pub host: &'a Host,
    /// Release of the kernel that is asked about.
    pub kernel: String,
    /// Whether that is the kernel which runs: what `/proc` and `/sys` say holds for it.
    pub runs: bool,
    /// The module's name, as kmod writes it.
    pub module: Vec<u8>,
    /// What modprobe.d and the kernel command line say.
    pub config: Config,
    /// What of it could not be read.
    pub config_failures: Vec<String>,
    /// Its module index.
    pub tree: Tree,
    /// Whose host it is.
    pub distribution: Distribution,
    /// The policy in force.
    pub policy: Policy,
    /// Who is taken to ask.
    pub requester: Requester,
    /// `/proc/modules`; absent if it can't be read.
    pub live: Option<Vec<Live>>,
    /// Entries of the connection tracking table when we began to look.
    pub entries: Option<(Instant, i64)>,
    files: OnceCell<BTreeMap<Vec<u8>, Vec<String>>>,
    log: OnceCell<KernelLog>,
    kernel_config: OnceCell<KernelConfig>,
    samples: OnceCell<Vec<(String, Object)>>,
    objects: RefCell<BTreeMap<Vec<u8>, Rc<Unpacked>>>,
}

/// A module's file, as far as it could be read.
#[derive(Debug)]
pub enum Unpacked {
    /// There is none.
    Absent,
    /// It is there: path, and what is in it or why that could not be read.
    There(String, Result<Object, String>),
}

impl<'a> Case<'a> {
    /// `name`, a module or an alias that stands for one, on `host` with the kernel `kernel` (the running one, or the
    /// only one there is, by default). `requester` is whoever is taken to ask for it.
    ///
    /// # Errors
    /// A text that says what to do, if nobody tells which kernel.
    pub fn new(host: &'a Host, kernel: Option<&str>, name: &[u8], requester: Requester) -> Result<Case<'a>, String> {
        let running = host.kernel();
        let (kernel, runs) = match (kernel, running) {
            (Some(kernel), Ok(running)) => (kernel.to_owned(), kernel == running),
            (Some(kernel), Err(_)) => (kernel.to_owned(), true),
            (None, running) => (running?, true),
        };
        let (config, config_failures) = host.modprobe_config(&kernel);
        let entries = host.number("/proc/sys/net/netfilter/nf_conntrack_count");
        let mut case = Case {
            host,
            tree: host.modules(&kernel),
            distribution: Distribution::of(host),
            policy: host.policy_in_force().policy,
            requester,
            live: runs.then(|| live_modules(host)).flatten(),
            entries: entries.filter(|_| runs).map(|count| (Instant::now(), count)),
            files: OnceCell::new(),
            log: OnceCell::new(),
            kernel_config: OnceCell::new(),
            samples: OnceCell::new(),
            objects: RefCell::default(),
            module: Vec::new(),
            kernel,
            runs,
            config,
            config_failures,
        };
        case.module = case.module_of(name);
        Ok(case)
    }

    /// The module that `name` stands for: itself if there is one of that name, else the first that an alias leads to.
    fn module_of(&self, name: &[u8]) -> Vec<u8> {
        // A file is taken for the module in it.
        let is_file = name.contains(&b'/') || is_module_file(name);
        let of_file = if is_file { module_of_path(name) } else { None };
        let name =
            of_file.unwrap_or_else(|| normalise(name).map_or_else(|| name.to_vec(), std::borrow::Cow::into_owned));
        let is_module = self.is_live(&name)
            || self.is_builtin(&name)
            || !matches!(self.lookup().dependencies(&name), Dependencies::NoModule)
            || self.files_of(&name).next().is_some();
        // What modprobe.d makes of a name may be nothing; what the modules themselves say is asked as well.
        let nothing = Config::default();
        let configured = self.lookup().aliased(&name);
        let own = Lookup::new(&self.tree, &nothing).aliased(&name);
        let exists = |module: &Vec<u8>| self.is_in_kernel(module) || self.path_of(module).is_some();
        let found = configured.into_iter().chain(own).find(exists);
        if is_module { name } else { found.unwrap_or(name) }
    }

    /// The module's name for people.
    pub fn name(&self) -> String {
        Text::from(self.module.as_slice()).to_string()
    }

    /// What names stand for, by configuration and index.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.tree, &self.config)
    }

    /// Whether the module is in the kernel.
    pub fn is_there(&self) -> bool {
        self.is_in_kernel(&self.module)
    }

    /// Whether `module` is live or built in.
    pub fn is_in_kernel(&self, module: &[u8]) -> bool {
        self.is_live(module) || self.is_builtin(module)
    }

    /// Whether `module` is loaded and initialised.
    pub fn is_live(&self, module: &[u8]) -> bool {
        self.runs && self.host.is_live(module)
    }

    /// Whether `module` is part of the kernel image: the index says it, or there are parameters of it and no state.
    pub fn is_builtin(&self, module: &[u8]) -> bool {
        let directory = format!("/sys/module/{}", String::from_utf8_lossy(module));
        let has_parameters = self.runs
            && !module.is_empty()
            && !module.contains(&b'/')
            && !module.starts_with(b".")
            && self.host.is_directory(&directory)
            && !self.host.exists(format!("{directory}/initstate"))
            && self.live_line(module).is_none();
        has_parameters || self.lookup().is_builtin(module) || self.is_in_builtin_list(module)
    }

    /// `modules.builtin`, the text, where nobody has made an index of it.
    fn is_in_builtin_list(&self, module: &[u8]) -> bool {
        if self.tree.index(IndexFile::Builtin).is_ok() {
            return false;
        }
        let list = self.host.read(format!("{}/modules.builtin", self.directory()), 1 << 20).unwrap_or_default();
        list.split(|&byte| byte == b'\n').any(|line| module_of_path(line).as_deref() == Some(module))
    }

    /// `/proc/modules`'s line of `module`.
    pub fn live_line(&self, module: &[u8]) -> Option<&Live> {
        self.live.as_ref()?.iter().find(|live| live.name == module)
    }

    /// `/lib/modules/KERNEL`.
    pub fn directory(&self) -> String {
        format!("/lib/modules/{}", self.kernel)
    }

    /// The path as people outside see it.
    pub fn shown(&self, path: &str) -> String {
        Text::from(self.host.shown(path).as_os_str().as_encoded_bytes()).to_string()
    }

    /// Every module file of this kernel, by the module's name; read from the directory, not from the index.
    pub fn files(&self) -> &BTreeMap<Vec<u8>, Vec<String>> {
        self.files.get_or_init(|| self.host.module_files(&self.kernel))
    }

    /// Whether the tree holds programs: what was collected of a host seldom does, and what it lacks says nothing.
    pub fn is_whole(&self) -> bool {
        let has_some = |path| self.host.list(path).is_ok_and(|names| !names.is_empty());
        self.host.is_this() || ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].into_iter().any(has_some)
    }

    /// Why nothing can be said of module files: none was collected. `None` if they can be looked at.
    pub fn no_files(&self) -> Option<String> {
        let none = self.files().is_empty() && !self.is_whole();
        none.then(|| {
            format!("{}: no module's file is there; none seems to have been collected", self.shown(&self.directory()))
        })
    }

    /// The files of `module`.
    pub fn files_of(&self, module: &[u8]) -> impl Iterator<Item = &str> {
        self.files().get(module).into_iter().flatten().map(String::as_str)
    }

    /// The path that the index has for `module`; `None` if it knows none.
    pub fn indexed_path(&self, module: &[u8]) -> Option<String> {
        let line = self.tree.index(IndexFile::Dep).ok()?.find(module).ok()??;
        let path = line.split(|&byte| byte == b':').next()?;
        let path = String::from_utf8_lossy(path).into_owned();
        Some(if path.starts_with('/') { path } else { format!("{}/{path}", self.directory()) })
    }

    /// The file that modprobe would load for `module`: the index's, or where that is not there, whatever is.
    pub fn path_of(&self, module: &[u8]) -> Option<String> {
        let indexed = self.indexed_path(module).filter(|path| self.host.exists(path));
        indexed.or_else(|| self.files_of(module).next().map(str::to_owned))
    }

    /// What is in the file of `module`.
    pub fn object(&self, module: &[u8]) -> Rc<Unpacked> {
        if let Some(known) = self.objects.borrow().get(module) {
            return known.clone();
        }
        let unpacked = match self.path_of(module) {
            None => Unpacked::Absent,
            Some(path) => {
                let object = self.host.read(&path, LONGEST_MODULE).map_err(|error| format!("cannot be read: {error}"));
                let object = object.and_then(|bytes| Object::read(&bytes).map_err(|flaw| flaw.to_string()));
                Unpacked::There(path, object)
            }
        };
        let unpacked = Rc::new(unpacked);
        self.objects.borrow_mut().insert(module.to_vec(), unpacked.clone());
        unpacked
    }

    /// A few files of other modules of this kernel, of live ones first, which were taken: path and what is in each. They
    /// tell what this kernel's modules are built for.
    pub fn samples(&self) -> &[(String, Object)] {
        self.samples.get_or_init(|| {
            let live = self.live.iter().flatten().map(|live| live.name.clone());
            let names = live.chain(self.files().keys().take(SAMPLES).cloned()).filter(|name| *name != self.module);
            let sample = |name: Vec<u8>| match &*self.object(&name) {
                Unpacked::There(path, Ok(object)) => Some((path.clone(), object.clone())),
                _ => None,
            };
            names.filter_map(sample).take(SAMPLES).collect()
        })
    }

    /// What has to be loaded before `module`, by the index and by what the file itself says: names, in load order.
    pub fn needed_by(&self, module: &[u8]) -> Vec<Vec<u8>> {
        let mut needed = match self.lookup().dependencies(module) {
            Dependencies::Known(names) => names.to_vec(),
            Dependencies::NoModule | Dependencies::Unreadable => Vec::new(),
        };
        if let Unpacked::There(_, Ok(object)) = &*self.object(module) {
            for name in &object.depends {
                let name =
                    normalise(name.as_bytes()).map_or_else(|| name.as_bytes().to_vec(), |name| name.into_owned());
                if !needed.contains(&name) {
                    needed.push(name);
                }
            }
        }
        needed
    }

    /// The lines of sysctl.d that set one of `keys`, paths below `/proc/sys`.
    pub fn sysctl_lines(&self, keys: &[&str]) -> Vec<Assignment> {
        let mut lines = SysctlD::read(self.host).assignments;
        lines.retain(|line| line.value.is_some() && keys.contains(&line.key.as_str()));
        lines
    }

    /// The kernel's log of this boot.
    pub fn log(&self) -> &KernelLog {
        self.log.get_or_init(|| if self.runs { KernelLog::read(self.host) } else { KernelLog::default() })
    }

    /// What the kernel was built with.
    pub fn kernel_config(&self) -> &KernelConfig {
        self.kernel_config.get_or_init(|| KernelConfig::read(self.host, &self.kernel, self.runs))
    }

    /// Words of the kernel command line.
    pub fn kernel_command_line(&self) -> Vec<String> {
        let line = if self.runs { self.host.kernel_command_line() } else { &[] };
        String::from_utf8_lossy(line).split_ascii_whitespace().map(str::to_owned).collect()
    }
}
