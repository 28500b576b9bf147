//! The files that rules name as executables.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::host::Host;
use crate::policy::Policy;
use crate::policy::lint::facts::{Executable, File};

/// Links that lead to links are followed so far.
const LINKS: usize = 16;

/// What is at each of them; nothing, if the root is one of modules alone.
pub fn of(host: &Host, policy: &Policy) -> Vec<Executable> {
    let has_programs = ["/usr/bin", "/bin"].iter().any(|directory| host.is_directory(directory));
    let paths = policy.executables().into_iter().filter(|_| has_programs);
    paths.map(|path| Executable { path: path.to_owned(), is: at(host, path) }).collect()
}

fn at(host: &Host, path: &str) -> File {
    match host.metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return File::Missing,
        Ok(metadata) if metadata.is_file() && is_script(host, path) => return File::Script,
        _ => {}
    }
    let end = end_of(host, path);
    if end == path { File::Plain } else { File::Link(end) }
}

fn is_script(host: &Host, path: &str) -> bool {
    let mut start = [0; 2];
    host.open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok()) && start == *b"#!"
}

/// Where the links at `path` lead; directories on the way that are links stay as they are written.
fn end_of(host: &Host, path: &str) -> String {
    let mut end = PathBuf::from(path);
    for _ in 0..LINKS {
        let Some(target) = host.link_target(&end) else { break };
        let joined = end.parent().unwrap_or(Path::new("/")).join(target);
        end = PathBuf::from("/");
        for component in joined.components() {
            match component {
                Component::ParentDir => drop(end.pop()),
                Component::Normal(name) => end.push(name),
                _ => {}
            }
        }
    }
    end.display().to_string()
}
