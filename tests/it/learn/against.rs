//! What a policy would have changed.

use super::*;

#[test]
fn against_a_policy_only_what_would_change_is_told() {
    let kernel = Kernel::unpacked();
    let recorded = [docker(&kernel, "d1"), refusing(&kernel, "s1")].concat();
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records");
    fs::write(&records, lines(&recorded).concat()).unwrap();
    let against = |policy: &str, options: &[&str], status: i32| {
        let file = directory.path().join("p.toml");
        fs::write(&file, policy).unwrap();
        let output = guard(&[options, &["--against", file.to_str().unwrap()]].concat(), std::slice::from_ref(&records));
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let total = recorded.len();
    // What was learned of it changes nothing.
    let own = learned(&["--default=block"], &[&lines(&recorded)]);
    assert_eq!(against(&own, &[], 0), format!("{total} requests: 0 would be blocked that were not, 0 no longer\n"));
    let policy = "version = 1\n[[rule]]\nid = 'no-overlay'\nmodules = ['overlay']\naction = 'block'\n\
                  requester = { unit = 'docker.service' }\n";
    let shown = against(policy, &[], 1);
    let mut words = shown.lines();
    assert!(
        words.next().unwrap().starts_with(
            "allow algif-aead  by ssh.service uid 0  the default for algif_aead; then by rule ssh  1 time, "
        ),
        "{shown}"
    );
    assert!(shown.contains("\nBLOCK fs-overlay  by docker.service uid 0  rule no-overlay ("), "{shown}");
    assert!(shown.ends_with(&format!("{total} requests: 1 would be blocked that were not, 4 no longer\n")), "{shown}");
    let rows: Vec<serde_json::Value> =
        against(policy, &["--json"], 1).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let blocked: Vec<&serde_json::Value> = rows.iter().filter(|row| row["verdict"] == "block").collect();
    assert_eq!((rows.len(), blocked.len()), (5, 1));
    assert_eq!((&blocked[0]["request"], &blocked[0]["who_is"]), (&"fs-overlay".into(), &"unit".into()));
    assert_eq!((&blocked[0]["count"], &blocked[0]["hosts"]), (&1.into(), &serde_json::json!(["d1"])));
}
