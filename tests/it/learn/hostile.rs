//! Records that somebody else had a hand in.

use super::*;

#[test]
fn nobody_writes_a_rule_of_their_own() {
    let kernel = Kernel::unpacked();
    let hostile = [
        "\"]\naction = \"allow\"\n[[rule]]\nid = \"evil\"\nmodules = [\"*\"]\n#",
        "\n[[rule]]\nid = 'evil'\nmodules = ['*']\naction = 'allow'\n",
        "'''\n\"\"\"\n",
        "\\\" \\",
        "# \u{2028}\u{85}\u{7f}\0\t",
        "*",
        "!x",
    ];
    let mut all = Vec::new();
    for text in hostile {
        let mut recorder = Recorder::new(&kernel, text, BUILT_IN);
        let mut task = task(Some(text), Some(text), 0);
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        task.exe = Some(Text::from(format!("/{text}").as_str()));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        task.container = Some(Text::from(text));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task.clone()));
        (task.container, task.unit) = (None, Some(Text::from(format!("{text}.service").as_str())));
        recorder.ask(&["fs-xfs"], Caller::Kernel, &exact(task));
        for one in lines(&recorder.recorded) {
            let mut value: serde_json::Value = serde_json::from_str(&one).unwrap();
            value["verdict"]["rule"] = text.into();
            let shown = Text::from(text).to_string();
            value["request"]["name"] = shown.as_str().into();
            all.push(value.to_string() + "\n");
            value["verdict"]["action"] = "block".into();
            all.push(value.to_string() + "\n");
            value["verdict"]["enforced"] = false.into();
            all.push(value.to_string() + "\n");
            if let Some(module) = value["modules"].get_mut(0) {
                module["name"] = text.into();
            }
            value["verdict"]["module"] = text.into();
            all.push(value.to_string() + "\n");
            let name = serde_json::to_string(&shown).unwrap();
            value["modules"] = serde_json::json!([]);
            value["verdict"]["module"] = serde_json::Value::Null;
            all.push(value.to_string() + "\n");
            let count = COUNT.replace("\"NAME\"", &name).replace("MODULE", &name).replace("UNIT", &name);
            all.push(count.replace("RULE", &name) + "\n");
        }
    }
    for default in ["--default=block", "--default=allow"] {
        let policy = learned(&[default], &[&all]);
        for (id, (patterns, who, action)) in rules(&policy) {
            assert!(id != "evil" && !patterns.contains(&"*".to_owned()), "{id} {action} {who}\n{policy}");
        }
        parsed(&policy);
        let is_ours = |line: &&str| {
            let heads = [
                "#",
                "version = 1",
                "[defaults]",
                "action = ",
                "[[rule]]",
                "id = ",
                "modules = [",
                "requests = [",
                "  \"",
                "    \"",
                "  # ",
                "  '",
                "]",
                "requester = {",
            ];
            line.is_empty() || heads.iter().any(|head| line.starts_with(head))
        };
        let foreign: Vec<&str> = policy.lines().filter(|line| !is_ours(line)).collect();
        assert!(foreign.is_empty(), "{foreign:?}\n{policy}");
        assert!(policy.chars().all(|sign| sign == '\n' || !sign.is_control()), "{policy:?}");
    }
}

#[test]
fn lines_that_are_no_records_are_told_and_harm_nothing() {
    let kernel = Kernel::unpacked();
    let all = lines(&docker(&kernel, "d1"));
    let expected = learned(&[], &[&all]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let first = &all[0];
    let newer = first.replacen("\"v\":1", "\"v\":2,\"color\":{\"x\":[1]}", 1);
    let strange = newer.replace("\"action\":\"allow-sysctl\"", "\"action\":\"ask\"");
    assert_ne!(strange, newer);
    let timeless = first.replace("2024-11-", "1970-01-");
    let cut = first.get(..first.len() / 2).unwrap();
    let dry_run = first.replace("\"exact\"", "\"assumed\"");
    let text_of = all[1..].concat() + "\nfriday\n" + &newer + &strange + &timeless + &dry_run + "\u{fffd}\n" + cut;
    fs::write(file.path(), text_of).unwrap();
    let output = guard(&[], &[file.path().to_owned()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0));
    for told in [
        "4 lines are no records",
        "2 records are of a newer",
        "1 request was passed over",
        "1 record is without a time",
    ] {
        assert!(errors.contains(told), "{told}: {errors}");
    }
    let (mut learned, mut expected) = (rules(&text(&output.stdout)), rules(&expected));
    assert_eq!(std::mem::take(&mut learned), std::mem::take(&mut expected));
}
