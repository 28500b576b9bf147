use super::*;
use crate::audit::entry::samples::{HOSTILE, record};
use crate::audit::thinning::Slot;
use crate::model::{Change, Outcome, Record};
use crate::text::Text;

const MARKUP: &str = "</script><img src=x onerror=alert(1)><!--";

/// A record in which `text` stands wherever somebody else's text can.
fn filled(text: &[u8]) -> Record {
    let mut filled = record(text, 7);
    let (own, string) = (Some(Text::from(text)), Some(String::from_utf8_lossy(text).into_owned()));
    filled.time = Some("2026-11-20T12:00:00.000000Z".to_owned());
    (filled.host, filled.kernel) = (own.clone(), own.clone());
    let task = &mut filled.requester.task;
    (task.comm, task.exe, task.unit, task.container) = (own.clone(), own.clone(), own.clone(), own.clone());
    task.cmdline = Some(vec![Text::from(text); 3]);
    filled.requester.call_site = own.clone();
    (filled.verdict.rule, filled.verdict.reason, filled.verdict.module) = (string.clone(), string.clone(), own.clone());
    filled.failures = string.clone().into_iter().collect();
    let value = own.map(Value::Text);
    let change = Change { key: string.clone().unwrap_or_default(), before: value.clone(), after: value, error: string };
    filled.outcome = Some(Outcome { loaded: vec![Text::from(text)], sysctl: vec![change], ..Outcome::default() });
    filled
}

fn page(entries: impl IntoIterator<Item = Entry>, notes: &[String]) -> String {
    let mut report = Report::default();
    entries.into_iter().for_each(|entry| report.add(&entry));
    report.page(&[], notes).unwrap()
}

/// What is before, in, and behind the element of the data.
fn parts(page: &str) -> (&str, serde_json::Value, &str) {
    let (before, rest) = page.split_once(r#"id="data">"#).unwrap();
    let (data, after) = rest.split_once("</script>").unwrap();
    (before, serde_json::from_str(data).unwrap(), after)
}

#[test]
fn what_others_chose_is_in_the_data_alone() {
    let one =
        |text: &[u8]| page([Entry::Record(Box::new(filled(text)))], &[String::from_utf8_lossy(text).into_owned()]);
    let plain = one(b"plain");
    let (before, _, after) = parts(&plain);
    for text in HOSTILE.into_iter().chain([MARKUP.as_bytes(), b"{{script}}", b"]]>", "\u{2028}".as_bytes()]) {
        let page = one(text);
        let (other_before, data, other_after) = parts(&page);
        assert!(before == other_before && after == other_after, "{text:?}");
        assert_eq!(data["rows"][0]["request"], Text::from(text).to_string());
    }
    assert!(!one(MARKUP.as_bytes()).contains("<img"));
}

#[test]
fn everything_is_counted_whatever_is_left_out() {
    let mut slot = Slot::new(1, 0);
    (0..5).for_each(|_| slot.count(&filled(b"counted")));
    let counted = Entry::Thinned(Box::new(slot.thinned().unwrap()));
    let many = 3 * ROWS;
    let records = (0..many).map(|at| {
        let mut one = filled(format!("n{}", at % (GROUPS + 100)).as_bytes());
        one.time = (at > 0).then(|| format!("2026-11-20T12:{:02}:{:02}.000000Z", at / 60 % 60, at % 60));
        Entry::Record(Box::new(one))
    });
    let page = page(records.chain([counted]), &[]);
    let (_, data, _) = parts(&page);
    let number = |key: &str| data[key].as_u64().unwrap() as usize;
    assert_eq!((number("requests"), number("entries"), number("counted")), (many + 5, many + 1, 5));
    assert_eq!((number("rows_left"), data["rows"].as_array().unwrap().len()), (many + 1 - ROWS, ROWS));
    assert_eq!((number("changes_left"), data["changes"].as_array().unwrap().len()), (many - CHANGES, CHANGES));
    assert_eq!((number("without_time"), data["counts"][0].as_u64().unwrap() as usize), (1, many + 5));
    let groups = data["groups"].as_array().unwrap();
    let shown: usize = groups.iter().map(|group| group["count"].as_u64().unwrap() as usize).sum();
    assert_eq!((groups.len(), number("groups_left"), shown + number("groups_left_requests")), (GROUPS, 101, many + 5));
    assert_eq!(data["rows"][ROWS - 1]["count"], 5);
}

#[test]
fn numbers_that_no_log_has_are_drawn_as_well() {
    let mut slot = Slot::new(1, 0);
    slot.count(&filled(b"x"));
    let mut endless = slot.thinned().unwrap();
    endless.thinned = u64::MAX;
    let endless = Entry::Thinned(Box::new(endless));
    let page = page([endless.clone(), endless, Entry::Record(Box::new(filled(b"y")))], &[]);
    let (before, data, _) = parts(&page);
    assert_eq!((data["requests"].as_u64(), before.matches("<svg").count()), (Some(u64::MAX), 2));
    assert!(!before.contains("NaN") && !before.contains("inf\""));
}

#[test]
fn nothing_is_a_page_too() {
    let page = page([], &[]);
    let (before, data, _) = parts(&page);
    assert!(!before.contains("<svg") && data["requests"] == 0);
}

#[test]
fn hosts_are_told_apart_if_there_are_several() {
    let of = |host: String, second: usize| {
        let mut one = filled(b"a");
        (one.host, one.time) = (Some(Text::from(host.as_str())), Some(format!("2026-11-20T12:00:{second:02}.000000Z")));
        Entry::Record(Box::new(one))
    };
    let told = page([of("r2".into(), 1), of("r1".into(), 2), of("r2".into(), 3)], &[]);
    let (_, data, _) = parts(&told);
    assert_eq!((&data["hosts"], &data["more_hosts"]), (&serde_json::json!([["r1", 1], ["r2", 0]]), &false.into()));
    let rows: Vec<_> = data["rows"].as_array().unwrap().iter().map(|row| row["host"].as_u64().unwrap()).collect();
    assert_eq!(rows, [0, 1, 0]);
    let time = |second| format!("2026-11-20T12:00:{second:02}.000000Z");
    let expected = serde_json::json!([[0, 2, time(1), time(3)], [1, 1, time(2), time(2)]]);
    assert_eq!((&data["groups"][0]["count"], &data["groups"][0]["hosts"]), (&3.into(), &expected));
    // Of one there is nothing to tell apart, and of too many no more than there is room for.
    let told = page([of("r2".into(), 1), of("r2".into(), 3)], &[]);
    assert!(parts(&told).1["groups"][0].get("hosts").is_none());
    let told = page((0..HOSTS + 9).map(|at| of(format!("r{at}"), 0)), &[]);
    let (_, data, _) = parts(&told);
    let hosts = [&data["hosts"], &data["groups"][0]["hosts"]].map(|hosts| hosts.as_array().unwrap().len());
    assert_eq!((hosts, data["rows"][HOSTS].get("host")), ([HOSTS, HOSTS], None));
    assert_eq!(data["more_hosts"], true);
}
