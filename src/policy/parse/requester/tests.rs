use crate::policy::{Source, parse};

/// What is found wrong with a rule whose key `requester`, on line 5, has `value`.
fn findings(value: &str) -> Vec<String> {
    let text = format!("[[rule]]\nid = \"r\"\nmodules = [\"a\"]\naction = \"block\"\nrequester = {value}");
    let all = parse(&[Source::new("p", text.into())]);
    all.map_or_else(|findings| findings.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

#[test]
fn bad_requesters_are_told_by_place_and_remedy() {
    let who = "write `\"unknown\"`, or whom you mean: `requester = { unit = [\"docker.service\"] }`";
    let whole = "write the whole path: `/usr/bin/dockerd`";
    let normal = "is not in its normal form; write it without `//`, `.`, `..` and a slash at its end";
    let id = "is no user id; write a number from 0 to 4294967294, or a range: `\"1000-1999\"`";
    let callers = "write `\"kernel\"`, `\"xtables\"`, `\"modprobe\"` or `\"hook\"`";
    for (value, finding) in [
        ("\"root\"", format!("13: `requester` is `\"root\"`, which means nothing here; {who}")),
        ("7", format!("13: `requester` is a number, not a table; {who}")),
        ("[\"unknown\"]", format!("13: `requester` is a list, not a table; {who}")),
        ("{}", "13: `requester` is empty and would match everybody; say who, or take the key out".into()),
        (
            "{ comm = \"x\" }",
            "15: unknown key `comm`; known in requester: exe, ancestor, unit, container, uid, auid, userns, caller".into(),
        ),
        ("{ uid = [] }", "21: `uid` is empty and would match nothing; name something, or take the key out".into()),
        ("{ exe = 1 }", "21: `exe` is a number, not a string; write it in quotes: `exe = \"...\"`".into()),
        ("{ exe = [\"/a\", [\"/b\"]] }", "28: `exe` is a list, not a string; write it in quotes: `exe = \"...\"`".into()),
        ("{ exe = \"dockerd\" }", format!("21: `exe` is `dockerd`, which is no absolute path; {whole}")),
        ("{ ancestor = \"!\" }", format!("26: `ancestor` is ``, which is no absolute path; {whole}")),
        ("{ exe = \"!!/a\" }", format!("21: `exe` is `!/a`, which is no absolute path; {whole}")),
        ("{ exe = [\"/ok\", \"/usr/bin/*\"] }", "29: `exe` is `/usr/bin/*`, which is a pattern, and files have none; name each file".into()),
        ("{ exe = \"/a?\" }", "21: `exe` is `/a?`, which is a pattern, and files have none; name each file".into()),
        ("{ exe = \"/[a\" }", "21: `exe` is `/[a`, which is a pattern, and files have none; name each file".into()),
        ("{ exe = \"/a//b\" }", format!("21: `exe` is `/a//b`, which {normal}")),
        ("{ exe = \"//a\" }", format!("21: `exe` is `//a`, which {normal}")),
        ("{ exe = \"/a/./b\" }", format!("21: `exe` is `/a/./b`, which {normal}")),
        ("{ exe = \"/a/../b\" }", format!("21: `exe` is `/a/../b`, which {normal}")),
        ("{ ancestor = \"!/a/\" }", format!("26: `ancestor` is `/a/`, which {normal}")),
        ("{ exe = \"/\" }", format!("21: `exe` is `/`, which {normal}")),
        (
            "{ exe = \"/a\\u0000\" }",
            "21: `exe` is `/a\\x00`, which holds control characters; write the path as `ls` shows it".into(),
        ),
        ("{ unit = \"!\" }", "22: impossible pattern ``: an empty pattern matches no name; write a name or a pattern".into()),
        ("{ unit = \"docker\" }", "22: impossible pattern `docker`: a unit's name ends with its kind; write it whole: `docker.service`".into()),
        ("{ unit = \"a.b c.d\" }", "22: impossible pattern `a.b c.d`: no name of a unit or container holds ` `; write one name to each string".into()),
        ("{ unit = [\"*\", \"[a\"] }", "28: impossible pattern `[a`: `[` without `]`; close the set, or write `\\[` for the bracket itself".into()),
        ("{ container = \"a/b\" }", "27: impossible pattern `a/b`: no name of a unit or container holds `/`; write one name to each string".into()),
        ("{ container = \"true\" }", "27: impossible pattern `true`: no container is called that; write `true` and `false` without quotes".into()),
        ("{ container = [\"a\", true] }", "33: `container` is true or false in a list; write `container = true` or `container = false`, or name containers".into()),
        ("{ uid = -1 }", "21: `uid` is -1, out of range; write a number from 0 to 4294967294".into()),
        ("{ uid = 4294967295 }", "21: `uid` is 4294967295, out of range; write a number from 0 to 4294967294".into()),
        ("{ uid = \"4294967295\" }", format!("21: `uid` is `4294967295`, which {id}")),
        ("{ uid = \"root\" }", format!("21: `uid` is `root`, which {id}")),
        ("{ uid = \"none\" }", format!("21: `uid` is `none`, which {id}")),
        ("{ uid = \"+1\" }", format!("21: `uid` is `+1`, which {id}")),
        ("{ uid = \"!1-\" }", format!("21: `uid` is `1-`, which {id}")),
        ("{ uid = \"-1\" }", format!("21: `uid` is `-1`, which {id}")),
        ("{ auid = \"1-2-3\" }", format!("22: `auid` is `1-2-3`, which {id}")),
        ("{ uid = \"5-1\" }", "21: `uid` is `5-1`, which holds nothing; write the lower end first".into()),
        ("{ uid = true }", "21: `uid` is true or false, not a string; write it in quotes: `uid = \"...\"`".into()),
        ("{ userns = \"!host\" }", "24: `userns` is `\"!host\"`, which means nothing here; write `\"host\"` or `\"other\"`".into()),
        ("{ userns = [\"host\"] }", "24: `userns` is a list, not a string; write it in quotes: `userns = \"...\"`".into()),
        ("{ caller = \"user\" }", format!("24: `caller` is `user`, which is no way for a request to come; {callers}")),
    ] {
        assert_eq!(findings(value), [format!("p:5:{finding}")], "{value}");
    }
}

#[test]
fn everything_wrong_with_one_is_told_at_once() {
    let all = findings("{ exe = [\"a\", \"/b\", \"c\"], uid = \"x\", cmdline = 1 }");
    let places: Vec<&str> = all.iter().map(|finding| finding.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["p:5:22", "p:5:33", "p:5:45", "p:5:50"]);
}

#[test]
fn a_table_of_its_own_will_do() {
    let text = "[[rule]]\nid = \"r\"\nmodules = [\"a\"]\naction = \"block\"\n[rule.requester]\nunit = \"a.b\"\nuid = 0";
    assert!(parse(&[Source::new("p", text.into())]).unwrap().rules[0].requester.is_some());
}
