//! Moments as images and logs write them (RFC 3339, UTC), and as people say them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// `2026-11-21T12:34:56.789012345Z`; moments before 1970 are shown as its first.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let start = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match since.subsec_nanos() {
        0 => format!("{start}Z"),
        nanoseconds => format!("{start}.{nanoseconds:09}Z"),
    }
}

/// The moment an RFC 3339 text names; `None` when it is none, or before 1970.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let is_separated = [(4, '-'), (7, '-'), (13, ':'), (16, ':')]
        .iter()
        .all(|&(at, expected)| text.get(at..at + 1) == Some(expected.encode_utf8(&mut [0; 4])));
    if !is_separated {
        return None;
    }
    let days = days_since_1970(number(0..4)?, number(5..7)?, number(8..10)?)?;
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or("", |rest| {
        rest.split_once(|letter: char| !letter.is_ascii_digit()).map_or(rest, |(digits, _)| digits)
    });
    let nanoseconds = format!("{digits:0<9}").get(..9)?.parse().ok()?;
    let zone = rest.trim_start_matches('.').trim_start_matches(|l: char| l.is_ascii_digit());
    let local = Duration::new(days.checked_mul(DAY)?.checked_add(seconds)?, nanoseconds);
    let utc = match zone.get(..1)? {
        "+" => local.checked_sub(zone_offset(zone)?)?,
        "-" => local.checked_add(zone_offset(zone)?)?,
        "Z" | "z" => local,
        _ => return None,
    };
    UNIX_EPOCH.checked_add(utc)
}

/// `3 hours ago`, with one number, as people round.
pub(crate) fn ago(moment: SystemTime) -> String {
    format!("{} ago", span(SystemTime::now().duration_since(moment).unwrap_or_default()))
}

/// `3 hours`.
pub(crate) fn span(length: Duration) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("year", 365 * DAY),
        ("month", 30 * DAY),
        ("week", 7 * DAY),
        ("day", DAY),
        ("hour", 3600),
        ("minute", 60),
    ];
    let seconds = length.as_secs();
    // Two of a unit before it is used: "90 minutes" says more than "1 hour".
    let unit = UNITS.iter().find(|(_, size)| seconds >= 2 * size);
    let (name, count) = unit.map_or(("second", seconds), |(name, size)| (*name, seconds / size));
    match count {
        0 => "less than a second".to_owned(),
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

fn zone_offset(zone: &str) -> Option<Duration> {
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60))
}

/// Year, month and day of a day since 1970, by counting 400-year cycles that start in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year.checked_sub(u64::from(month <= 2))?;
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let (cycle, year_of_cycle) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    (cycle * 146_097 + day_of_cycle).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u64, canonical: &str) {
        let moment = parse(text).unwrap();
        assert_eq!(moment.duration_since(UNIX_EPOCH).unwrap().as_secs(), seconds);
        assert_eq!(rfc3339(moment), canonical);
    }

    #[test]
    fn moments_survive_writing_and_reading() {
        check("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
        check("2000-02-29T23:59:59Z", 951_868_799, "2000-02-29T23:59:59Z");
        check("2016-04-21T14:06:25.123Z", 1_461_247_585, "2016-04-21T14:06:25.123000000Z");
        check("2026-11-21T13:30:00+01:00", 1_795_264_200, "2026-11-21T12:30:00Z");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026-11-21"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_rounded_as_people_do() {
        assert_eq!(span(Duration::ZERO), "less than a second");
        assert_eq!(span(Duration::from_secs(1)), "1 second");
        assert_eq!(span(Duration::from_secs(119)), "119 seconds");
        assert_eq!(span(Duration::from_secs(7200)), "2 hours");
        assert_eq!(span(Duration::from_secs(400 * DAY)), "13 months");
    }
}
