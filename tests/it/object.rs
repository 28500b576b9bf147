//! What we read in module files, against what modinfo(8) says of them: for every module of a whole kernel.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use modprobe_guard::host::Host;
use modprobe_guard::modules::{Compression, Object};

use crate::kernel::Kernel;

/// Least number of modules for which the comparison counts as one with a whole kernel.
const WHOLE: usize = 3_000;

fn files(kernel: &Kernel) -> Vec<PathBuf> {
    let files = Host::at(&kernel.root).unwrap().module_files(&kernel.release);
    files.into_values().flatten().map(|path| kernel.root.join(path.trim_start_matches('/'))).collect()
}

/// FILENAME and `key: value` lines of each module.
fn modinfo(paths: &[PathBuf]) -> Vec<BTreeMap<String, Vec<String>>> {
    let output = Command::new("modinfo").args(paths).output().unwrap();
    let mut modules: Vec<BTreeMap<String, Vec<String>>> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if key == "filename" {
            modules.push(BTreeMap::new());
        }
        modules.last_mut().unwrap().entry(key.to_owned()).or_default().push(value.trim().to_owned());
    }
    modules
}

#[test]
fn every_module_of_a_kernel_is_read_as_modinfo_reads_it() {
    let kernel = Kernel::unpacked();
    let paths = files(&kernel);
    let mut compared = 0;
    let mut exports: HashMap<String, Option<u32>> = HashMap::new();
    let mut objects = Vec::new();
    for batch in paths.chunks(500) {
        let theirs = modinfo(batch);
        assert_eq!(theirs.len(), batch.len());
        for (path, theirs) in batch.iter().zip(theirs) {
            let object =
                Object::read(&fs::read(path).unwrap()).unwrap_or_else(|flaw| panic!("{}: {flaw}", path.display()));
            let their = |key: &str| theirs.get(key).and_then(|values| values.first()).cloned();
            let shown = path.display();
            assert_eq!(object.name, their("name"), "{shown}");
            assert_eq!(object.vermagic.as_deref().map(str::trim), their("vermagic").as_deref(), "{shown}");
            assert_eq!(Some(object.depends.join(",")), their("depends"), "{shown}");
            assert_eq!(object.is_in_tree(), their("intree").is_some(), "{shown}");
            assert_eq!(object.signature.is_some(), their("sig_id").is_some(), "{shown}");
            let aliases = object.info.iter().filter(|(key, _)| key == "alias").count();
            assert_eq!(aliases, theirs.get("alias").map_or(0, Vec::len), "{shown}");
            exports.extend(object.exports.iter().cloned());
            objects.push(object);
            compared += 1;
        }
    }
    assert!(compared > WHOLE, "only {compared} modules");
    println!("{compared} modules compared");

    // What one module was built against is what another one exports.
    let needs = objects.iter().flat_map(|object| &object.needs);
    let wanted = needs.filter_map(|(name, wanted)| Some((name, wanted.as_ref()?, exports.get(name)?.as_ref()?)));
    let wanted: Vec<_> = wanted.collect();
    for (name, wanted, exported) in &wanted {
        assert_eq!(wanted, exported, "{name}");
    }
    assert!(wanted.len() > WHOLE, "only {} versions", wanted.len());
    println!("{} versions of symbols compared", wanted.len());
}

#[test]
fn every_way_of_compressing_is_understood() {
    let kernel = Kernel::unpacked();
    let paths = files(&kernel);
    let directory = tempfile::tempdir().unwrap();
    let mut compared = 0;
    // The kernel's own options are among them (scripts/Makefile.modinst).
    for (suffix, compression, tool, options) in [
        ("gz", Compression::Gzip, "gzip", &["-n", "-f"][..]),
        ("xz", Compression::Xz, "xz", &["--check=crc32", "--lzma2=dict=1MiB", "-f"]),
        ("xz", Compression::Xz, "xz", &["--check=crc32", "--x86", "--lzma2=dict=1MiB", "-f"]),
        ("xz", Compression::Xz, "xz", &["--check=crc64", "-0", "-f"]),
        ("xz", Compression::Xz, "xz", &["--check=sha256", "-f"]),
        ("zst", Compression::Zstd, "zstd", &["--rm", "-f", "-q"]),
        ("zst", Compression::Zstd, "zstd", &["--rm", "-f", "-q", "-19"]),
    ] {
        for path in paths.iter().step_by(paths.len() / 12) {
            let copy = directory.path().join(path.file_name().unwrap());
            fs::copy(path, &copy).unwrap();
            assert!(Command::new(tool).args(options).arg(&copy).status().unwrap().success());
            let packed = directory.path().join(format!("{}.{suffix}", path.file_name().unwrap().to_str().unwrap()));
            let bytes = fs::read(&packed).unwrap();
            assert_eq!(
                (Compression::of(&bytes), Compression::of_name(packed.to_str().unwrap())),
                (compression, compression)
            );
            assert_eq!(Object::read(&bytes).unwrap(), Object::read(&fs::read(path).unwrap()).unwrap());
            for length in (0..bytes.len()).step_by(bytes.len() / 20 + 1) {
                assert!(Object::read(&bytes[..length]).is_err(), "{}: {length}", packed.display());
            }
            compared += 1;
        }
    }
    println!("{compared} compressed modules compared");
}

#[test]
fn a_real_module_cut_anywhere_is_no_whole_one() {
    let kernel = Kernel::unpacked();
    let path = files(&kernel).into_iter().find(|path| path.ends_with("nf_conntrack.ko")).unwrap();
    let bytes = fs::read(&path).unwrap();
    let whole = Object::read(&bytes).unwrap();
    for length in (0..bytes.len()).step_by(97) {
        match Object::read(&bytes[..length]) {
            Err(_) => {}
            Ok(object) => assert!(whole.signature.is_some() && object.signature.is_none(), "{length}"),
        }
    }
}
