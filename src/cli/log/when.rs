//! Points in time as people give them on a command line.
#![forbid(unsafe_code)]

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const MINUTE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]");
const SECOND: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
/// As times stand in records, where they sort as texts.
const RECORD: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// What is possible.
const REMEDY: &str = "write 2026-11-20T12:00:00Z, 2026-11-20, \"2026-11-20 12:00\", \"2026-11-20 12:00:00\" (UTC), today, \
                      yesterday, or an age as 90s, 15m, 2h, 3d, 1w";

/// The time that `text` means, in the form that records have; a day means its beginning. `now` is what ages and the
/// names of days count from.
///
/// # Errors
/// What is possible.
pub fn parse(text: &str, now: OffsetDateTime) -> Result<String, String> {
    let now = now.to_offset(UtcOffset::UTC);
    let beginning = |day: Date| day.with_time(Time::MIDNIGHT).assume_utc();
    let time = match text {
        "today" => Some(beginning(now.date())),
        "yesterday" => now.date().previous_day().map(beginning),
        _ => OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .or_else(|| PrimitiveDateTime::parse(text, SECOND).ok().map(PrimitiveDateTime::assume_utc))
            .or_else(|| PrimitiveDateTime::parse(text, MINUTE).ok().map(PrimitiveDateTime::assume_utc))
            .or_else(|| Date::parse(text, DAY).ok().map(beginning))
            .or_else(|| now.checked_sub(age(text)?)),
    };
    // Other years don't sort as texts, and no record is of them.
    let time = time.and_then(|time| time.checked_to_offset(UtcOffset::UTC)).filter(|time| time.year() >= 0);
    time.and_then(|time| time.format(RECORD).ok()).ok_or_else(|| format!("is no time: {REMEDY}"))
}

/// A number and a unit.
fn age(text: &str) -> Option<Duration> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        'w' => 7 * 86400,
        _ => return None,
    };
    let number = text.get(..text.len().saturating_sub(1))?;
    // The parser would take a sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::seconds(number.parse::<i64>().ok()?.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_read() {
        let now = datetime!(2026-11-20 12:30:40.5 +1);
        for (text, time) in [
            ("2026-11-20T12:00:00Z", "2026-11-20T12:00:00.000000Z"),
            ("2026-11-20T12:00:00.25Z", "2026-11-20T12:00:00.250000Z"),
            ("2026-11-20T12:00:00+01:00", "2026-11-20T11:00:00.000000Z"),
            ("2026-11-20", "2026-11-20T00:00:00.000000Z"),
            ("2026-11-20 07:08", "2026-11-20T07:08:00.000000Z"),
            ("2026-11-20 07:08:09", "2026-11-20T07:08:09.000000Z"),
            ("today", "2026-11-20T00:00:00.000000Z"),
            ("yesterday", "2026-11-19T00:00:00.000000Z"),
            ("0s", "2026-11-20T11:30:40.500000Z"),
            ("90s", "2026-11-20T11:29:10.500000Z"),
            ("15m", "2026-11-20T11:15:40.500000Z"),
            ("2h", "2026-11-20T09:30:40.500000Z"),
            ("3d", "2026-11-17T11:30:40.500000Z"),
            ("1w", "2026-11-13T11:30:40.500000Z"),
        ] {
            assert_eq!(parse(text, now).as_deref(), Ok(time), "{text}");
        }
        // The day is that of UTC, wherever we are.
        assert_eq!(parse("today", datetime!(2026-11-20 00:30 +1)).unwrap(), "2026-11-19T00:00:00.000000Z");
    }

    #[test]
    fn anything_else_is_refused_with_what_is_possible() {
        for text in [
            "",
            "now",
            "Today",
            "tomorrow",
            "20",
            "20.11.2026",
            "2026-13-01",
            "2026-02-30",
            "2026-11-20 25:00",
            "2026-11-20T12:00",
            "h",
            "-2h",
            "+2h",
            "2 h",
            "2.5h",
            "2y",
            "2hours",
            "99999999999999999999s",
            "9223372036854775807w",
            "9999999999999d",
            "2026-11-20T12:00:00",
            "\u{661}h",
            "ü",
            "0000-01-01T00:00:00+23:00",
        ] {
            let error = parse(text, datetime!(2026-11-20 12:30 UTC)).unwrap_err();
            assert!(error.contains("yesterday") && error.contains("15m"), "{text}: {error}");
        }
    }
}
