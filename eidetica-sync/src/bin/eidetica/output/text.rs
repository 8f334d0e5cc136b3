//! Text for people: safe for a terminal, counted, dated.

/// Returns text from elsewhere without anything that would steer a terminal. Lines stay lines.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => printable.push(c),
            c if c.is_control() => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    printable
}

/// Returns one line of text from elsewhere, at most `chars_max` characters of it.
pub(crate) fn first_line(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(chars_max).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    printable(&cut)
}

/// Returns a number of things: `1 entry`, `2 entries`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Returns a number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// Returns a time in milliseconds since 1970 as date and time of day in UTC.
///
/// The date is counted from the first of March, so that the day that some years have more is the
/// last one ("chrono-Compatible Low-Level Date Algorithms", Howard Hinnant).
pub(crate) fn utc(timestamp_ms: u64) -> String {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let seconds = timestamp_ms / 1_000;
    let (days, second) = (seconds / 86_400 + DAYS_TO_1970, seconds % 86_400);
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date -u -d … '+%F %T'` gives them.
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_790_000_000, "2026-09-21 14:13:20"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1_000 + 999), text);
        }
        assert!(utc(u64::MAX).starts_with("584556019"));
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        assert_eq!(first_line("grün\nrot", 4), "grün");
        assert_eq!(first_line("grüner", 4), "grün…");
        assert_eq!(first_line("a\tb\r\nc", 9), "a\\tb");
        assert_eq!(first_line("", 9), "");
    }
}
