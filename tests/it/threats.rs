//! The threat model names tests: each of them is there.

use std::fs;
use std::path::Path;

fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, text);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(entry).unwrap();
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    ["src", "tests/it"].iter().for_each(|directory| sources(&here.join(directory), &mut code));
    let scenarios = here.join("tests/vm/scenarios");
    let is_there = |name: &str| match name.split_once('/') {
        Some(("fuzz", target)) => here.join("tests/fuzz/seeds").join(target).is_dir(),
        Some((scenario, check)) => fs::read_to_string(scenarios.join(format!("{scenario}.sh"))).is_ok_and(|text| {
            let checks = text.lines().find_map(|line| line.strip_prefix("# checks: ")).unwrap_or_default();
            checks.split(' ').any(|one| one == check)
        }),
        None if name.ends_with(".sh") => scenarios.join(name).exists(),
        None => code.contains(&format!("#[test]\nfn {name}()")) || code.contains(&format!("#[test]\n    fn {name}()")),
    };
    let text = fs::read_to_string(here.join("tests/threats.md")).unwrap();
    // The last column of every row, but for the heads of the tables and the one of callers.
    let rows = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end_matches(" |").rsplit('|').next());
    let (mut named, mut missing) = (0, Vec::new());
    for column in rows.filter(|column| column.trim_start().starts_with('`')) {
        for name in column.split(", ").map(|name| name.trim().trim_matches('`')) {
            named += 1;
            missing.extend((!is_there(name)).then_some(name));
        }
    }
    println!("threats: {named} names of tests");
    assert!(named > 50 && missing.is_empty(), "of {named} {missing:?} are not there");
}
