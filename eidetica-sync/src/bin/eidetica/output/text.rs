//! Text for people: safe for a terminal, counted, dated.

use jiff::Timestamp;

/// Returns text from elsewhere without anything that would steer a terminal. Lines stay lines.
pub(crate) fn printable(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(one_line).collect();
    lines.join("\n")
}

/// Returns text from elsewhere on one line, without anything that would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || steers(c) {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// Tells whether a character that is no control character breaks a line, or turns the direction of
/// the text around it.
fn steers(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns one line of text from elsewhere, at most `chars_max` characters of it.
pub(crate) fn first_line(text: &str, chars_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut cut: String = line.chars().take(chars_max).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    one_line(&cut)
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
pub(crate) fn utc(timestamp_ms: u64) -> String {
    let ms = i64::try_from(timestamp_ms).ok();
    let time = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time.strftime("%F %T").to_string(),
        // Authors claim any time they like; this takes as much room in a column as a date.
        None => "after the year 9999".to_owned(),
    }
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
        for beyond in [253_402_300_800_000, u64::MAX] {
            assert_eq!(utc(beyond), "after the year 9999");
        }
    }

    #[test]
    fn nothing_from_elsewhere_steers_a_terminal() {
        let text = "a\u{1b}[2J\r\nb\u{85}\u{202e}c\u{2028}ü";
        let line = "a\\u{1b}[2J\\r\\nb\\u{85}\\u{202e}c\\u{2028}ü";
        assert_eq!(one_line(text), line);
        let lines = "a\\u{1b}[2J\\r\nb\\u{85}\\u{202e}c\\u{2028}ü";
        assert_eq!(printable(text), lines);
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        assert_eq!(first_line("grün\nrot", 4), "grün");
        assert_eq!(first_line("grüner", 4), "grün…");
        assert_eq!(first_line("a\tb\r\nc", 9), "a\\tb");
        assert_eq!(first_line("", 9), "");
    }
}
