//! What is learned is no wider than what was recorded, and no narrower.

use modprobe_guard::policy::lint::facts::Facts;
use modprobe_guard::policy::lint::{Level, lints};

use super::*;

/// As the records of a host on which everything is loaded already.
fn live(mut recorded: Vec<Recorded>) -> Vec<Recorded> {
    for Recorded { record, .. } in &mut recorded {
        for module in record.modules.iter_mut().filter(|module| module.state == ModuleState::Absent) {
            module.state = ModuleState::Live;
        }
        // Nothing is judged then.
        record.verdict.action = Action::Allow;
        record.verdict.carried_out = Action::Allow;
        (record.verdict.rule, record.verdict.module) = (None, None);
    }
    recorded
}

fn judged(kernel: &Kernel, policy: &str, name: &str, requester: &Requester) -> Action {
    let (policy, host) = (parsed(policy), Host::at(&kernel.root).unwrap());
    let judge = Judge::new(&host, &kernel.release, &policy).of_policy_alone();
    judge.judge(Request { name: Text::from(name), caller: Caller::Kernel }, requester).verdict.carried_out
}

/// The exit status of `--against`, and what it says.
fn against(policy: &str, lines: &[String]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let [file, records] = ["p.toml", "records"].map(|name| directory.path().join(name));
    fs::write(&file, policy).unwrap();
    fs::write(&records, lines.concat()).unwrap();
    let output = guard(&["--against", file.to_str().unwrap()], &[records]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Who is no root, in a user namespace of their own.
fn intruder() -> Requester {
    let mut task = task(Some("user@1000.service"), Some("/home/u/x"), 1000);
    task.userns = Some(Namespace::Other);
    exact(task)
}

#[test]
fn what_was_there_already_is_learned_as_if_it_had_not_been() {
    let kernel = Kernel::unpacked();
    for recorded in [docker(&kernel, "d1"), kubernetes(&kernel, "k1"), router(&kernel, "r1")] {
        let recorded = live(recorded);
        let policy = learned(&["--default=block"], &[&lines(&recorded)]);
        holds(&kernel, &policy, &recorded, true);
        assert_eq!(against(&policy, &lines(&recorded)).0, Some(0));
        // Judged with nothing there, all that an empty allow-list would block is told.
        let (status, told) = against("version = 1\n[defaults]\naction = 'block'\n", &lines(&recorded));
        let there = recorded.iter().filter(|one| one.record.modules.iter().any(|one| one.state == ModuleState::Live));
        let total = recorded.len();
        let expected = format!("{total} requests: {} would be blocked that were not, 0 no longer\n", there.count());
        assert_eq!((status, told.lines().last()), (Some(1), expected.lines().last()), "{told}");
    }
}

#[test]
fn a_table_that_was_there_already_is_sized_the_next_time() {
    let kernel = Kernel::unpacked();
    let mut recorder = Recorder::new(&kernel, "k1", BUILT_IN);
    let kubelet = service("kubelet.service");
    recorder.ask(&["nf_conntrack"], Caller::Kernel, &kubelet);
    let policy = learned(&["--default=block"], &[&lines(&live(recorder.recorded))]);
    assert_eq!(judged(&kernel, &policy, "nf_conntrack", &kubelet), Action::AllowSysctl, "{policy}");
    assert_eq!(judged(&kernel, &policy, "nf_conntrack", &intruder()), Action::Block, "{policy}");
    // Where a record tells that it is not sized, it is not.
    let mut recorder = Recorder::new(&kernel, "k1", "version = 1\n");
    recorder.ask(&["nf_conntrack"], Caller::Kernel, &kubelet);
    let all = [recorder.recorded.clone(), live(recorder.recorded)].concat();
    let policy = learned(&["--default=block"], &[&lines(&all)]);
    assert_eq!(judged(&kernel, &policy, "nf_conntrack", &kubelet), Action::Allow, "{policy}");
}

#[test]
fn who_is_not_root_gets_no_table_for_its_being_sized() {
    let kernel = Kernel::unpacked();
    let sized = docker(&kernel, "d1");
    assert!(sized.iter().any(|one| one.record.verdict.action == Action::AllowSysctl));
    let policy = learned(&["--default=block"], &[&lines(&sized)]);
    holds(&kernel, &policy, &sized, true);
    assert_eq!(judged(&kernel, &policy, "nf_conntrack", &intruder()), Action::Block, "{policy}");
    // Where all is permitted it would be there without a size.
    let policy = learned(&["--default=allow"], &[&lines(&sized)]);
    assert_eq!(judged(&kernel, &policy, "nf_conntrack", &intruder()), Action::AllowSysctl, "{policy}");
    // One who was no root had it, sized or there already.
    let mut recorder = Recorder::new(&kernel, "r1", BUILT_IN);
    let person = exact(task(None, Some("/usr/sbin/nft"), 1000));
    recorder.ask(&["nft-expr-ct"], Caller::Kernel, &person);
    for one in [recorder.recorded.clone(), live(recorder.recorded)] {
        let all = [sized.clone(), one].concat();
        let policy = learned(&["--default=block"], &[&lines(&all)]);
        holds(&kernel, &policy, &all, true);
        assert_eq!(judged(&kernel, &policy, "nft-expr-ct", &person), Action::AllowSysctl, "{policy}");
    }
}

#[test]
fn what_was_refused_is_not_permitted_for_having_been_there_once() {
    let kernel = Kernel::unpacked();
    let refusing = refusing(&kernel, "s1");
    let all = [refusing.clone(), live(refusing.clone())].concat();
    for default in ["--default=block", "--default=allow"] {
        let policy = learned(&[default], &[&lines(&all)]);
        holds(&kernel, &policy, &refusing, default == "--default=block");
        // To others it was refused nowhere.
        let mut recorder = Recorder::new(&kernel, "o1", BUILT_IN);
        recorder.ask(&["algif-hash"], Caller::Kernel, &service("other.service"));
        let all = [all.clone(), live(recorder.recorded)].concat();
        let policy = learned(&[default], &[&lines(&all)]);
        let verdict = |unit| judged(&kernel, &policy, "algif-hash", &service(unit));
        assert_eq!((verdict("other.service"), verdict("ssh.service")), (Action::Allow, Action::Block), "{policy}");
    }
}

#[test]
fn what_many_ask_for_is_for_those_who_are_what_they_all_were() {
    let kernel = Kernel::unpacked();
    let name = "algif-hash";
    let learn = |requesters: &[Requester]| {
        let mut recorder = Recorder::new(&kernel, "h1", BUILT_IN);
        requesters.iter().for_each(|requester| recorder.ask(&[name], Caller::Kernel, requester));
        let policy = learned(&["--default=block"], &[&lines(&recorder.recorded)]);
        holds(&kernel, &policy, &recorder.recorded, true);
        let who: Vec<String> = rules(&policy).into_values().map(|(_, who, _)| who).collect();
        (who.join(" "), judged(&kernel, &policy, name, &intruder()))
    };
    let units: Vec<Requester> = (0..32).map(|unit| service(&format!("unit-x{unit}y.service"))).collect();
    let (who, verdict) = learn(&units[..4]);
    let expected = (0..4).map(|unit| format!("\"unit-x{unit}y.service\"")).collect::<Vec<_>>().join(", ");
    assert_eq!((who, verdict), (format!("{{ unit = [{expected}] }}"), Action::Block));
    let (who, verdict) = learn(&units);
    assert!(who.contains("unit-x31y") && verdict == Action::Block, "{who}");
    let more = [units.clone(), vec![service("one-more.service")]].concat();
    assert_eq!(learn(&more), ("{ uid = [0], userns = \"host\" }".to_owned(), Action::Block));
    // Executables of users among them.
    let mixed = |uid, userns| {
        let mut task = task(None, Some("/usr/bin/y"), uid);
        task.userns = userns;
        [units[..3].to_vec(), vec![exact(task)]].concat()
    };
    let (host, other) = (Some(Namespace::Host), Some(Namespace::Other));
    assert_eq!(learn(&mixed(0, host)), ("{ uid = [0], userns = \"host\" }".to_owned(), Action::Block));
    assert_eq!(learn(&mixed(7, host)), ("{ userns = \"host\" }".to_owned(), Action::Block));
    assert_eq!(learn(&mixed(0, other)), ("{ uid = [0] }".to_owned(), Action::Block));
    assert_eq!(learn(&mixed(7, None)), (String::new(), Action::Allow));
}

#[test]
fn nobody_passes_for_a_container_by_a_name_of_their_own_choice() {
    let kernel = Kernel::unpacked();
    let mut scope = task(Some("user@1000.service"), Some("/home/u/x"), 1000);
    scope.container = Some(Text::from(ID));
    let scope = exact(scope);
    for kind in ["docker", "cri-containerd", "crio", "libpod"] {
        let mut recorder = Recorder::new(&kernel, "h1", BUILT_IN);
        let unit = format!("{kind}-{ID}.scope");
        recorder.ask(&["algif-hash"], Caller::Kernel, &container(Some(&unit), Namespace::Host));
        let policy = learned(&["--default=block"], &[&lines(&recorder.recorded)]);
        holds(&kernel, &policy, &recorder.recorded, true);
        assert!(policy.contains(&format!("unit = [\"{kind}-*.scope\"]")), "{policy}");
        assert_eq!(judged(&kernel, &policy, "algif-hash", &scope), Action::Block, "{policy}");
    }
    let mut recorder = Recorder::new(&kernel, "h1", BUILT_IN);
    recorder.ask(&["algif-hash"], Caller::Kernel, &container(None, Namespace::Host));
    let policy = learned(&["--default=block"], &[&lines(&recorder.recorded)]);
    holds(&kernel, &policy, &recorder.recorded, true);
    let who = "requester = { container = true, unit = [\"!*\"], uid = [0], userns = \"host\" }";
    assert!(policy.contains("id = \"containers-root\""), "the id says so too: {policy}");
    assert!(policy.contains(who) && policy.contains("# What looks like a container there is one"), "{policy}");
    assert_eq!(judged(&kernel, &policy, "algif-hash", &scope), Action::Block, "{policy}");
}

#[test]
fn what_is_learned_is_found_good() {
    let kernel = Kernel::unpacked();
    let hosts = [docker, kubernetes, router, laptop, watched, refusing].map(|host| lines(&host(&kernel, "h1")));
    let fleet: Vec<&[String]> = hosts.iter().map(Vec::as_slice).collect();
    for recordings in hosts.iter().map(|host| vec![host.as_slice()]).chain([fleet]) {
        for default in ["--default=block", "--default=allow"] {
            let policy = learned(&[default], &recordings);
            let sources = [Source::new("p.toml", policy.clone().into())];
            let found = lints(&parsed(&policy), &sources, &Facts::default());
            let warnings: Vec<_> = found.iter().filter(|lint| lint.level != Level::Note).collect();
            assert!(warnings.is_empty(), "{warnings:?}\n{policy}");
        }
    }
}

#[test]
fn a_day_that_is_yet_to_come_is_nobodys_last() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let early = all[0].replace("2024-11-", "2098-11-");
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records");
    fs::write(&records, all.concat() + &early).unwrap();
    let output = guard(&[], std::slice::from_ref(&records));
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(!told.contains("2098") && told.contains("2024-11-"), "{told}");
    assert!(errors.contains("guard: 1 record is of a day that is yet to come"), "{errors}");
    let (_, told) = against("version = 1\n[defaults]\naction = 'block'\n", &[early]);
    assert!(!told.contains("2098") && told.contains("1 record is of a day that is yet to come"), "{told}");
}

#[test]
fn what_was_only_counted_stays_sized() {
    let kernel = Kernel::unpacked();
    let of = [("NAME", "iptable_nat"), ("RULE", "\"sized\""), ("MODULE", "\"nf_conntrack\""), ("UNIT", "null")];
    let count = of.iter().fold(COUNT.to_owned(), |text, (key, value)| text.replace(key, value)) + "\n";
    let by_name = count.replace("\"allow\"", "\"allow-sysctl\"");
    for line in [by_name.replace("\"nf_conntrack\"", "null"), by_name] {
        let policy = learned(&["--default=block"], &[&[line]]);
        assert_eq!(judged(&kernel, &policy, "iptable_nat", &service("a.service")), Action::AllowSysctl, "{policy}");
    }
}

#[test]
fn a_policy_that_is_too_long_to_be_read_is_told() {
    let kernel = Kernel::unpacked();
    let line = &lines(&watched(&kernel, "w1"))[0];
    let all: String = (0..8_000).map(|at| line.replace("\"xfs\"", &format!("\"{}{at}\"", "x".repeat(90)))).collect();
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records");
    fs::write(&records, all).unwrap();
    let output = guard(&[], std::slice::from_ref(&records));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(
        output.stdout.len() > 1 << 20 && errors.contains("no policy file may have more than 1048576; "),
        "{errors}"
    );
    let output = guard(&["--bare"], &[records]);
    assert!(output.stdout.len() < 1 << 20 && output.stderr.is_empty(), "{}", text(&output.stderr));
}
